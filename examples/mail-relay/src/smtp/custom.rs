//! What is against the letter of the standard, is said by many, and means only one thing.
//!
//! Each of these is taken unless it is switched off. What protects stays strict without exception.
//! A line of a client ends with CRLF and nothing else, in commands and in data, since two servers
//! that cut lines differently are what mails are smuggled through. Reply lines of different classes
//! are no reply, since a refusal must never pass for an acceptance.

/// Customs of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCustoms {
    /// What addresses may be like.
    pub addresses: AddressCustoms,
    /// Any text of one line as the name in EHLO and HELO. Names prove nothing, and RFC 5321
    /// section 4.1.4 forbids to refuse a mail over one; machines give theirs as they are called.
    pub hello: bool,
}

/// Customs of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressCustoms {
    /// Underscores in host names, and hyphens at the ends of their parts (against RFC 5321
    /// section 4.1.2): machines and containers are called so, and mail of their own. The name
    /// goes on as it came, and is compared with the policy as any other.
    pub names: bool,
    /// Dots at the ends of a local part or side by side (against RFC 5321 section 4.1.2): large
    /// providers have given out such addresses. What they mean is the far end's affair.
    pub dots: bool,
}

impl AddressCustoms {
    /// The letter of the standard.
    pub const NONE: AddressCustoms = AddressCustoms { names: false, dots: false };
}

impl Default for AddressCustoms {
    fn default() -> AddressCustoms {
        AddressCustoms { names: true, dots: true }
    }
}

impl Default for ClientCustoms {
    fn default() -> ClientCustoms {
        ClientCustoms { addresses: AddressCustoms::default(), hello: true }
    }
}

/// Customs of next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopCustoms {
    /// Reply lines that end with a bare LF (against RFC 5321 section 2.3.8). No words of others
    /// stand in a reply, so nothing can be smuggled into it.
    pub bare_lf: bool,
    /// Reply lines with different codes of one class, such as `250-` and `251` (against RFC 5321
    /// section 4.2.1); the last one counts.
    pub mixed_codes: bool,
}

impl Default for HopCustoms {
    fn default() -> HopCustoms {
        HopCustoms { bare_lf: true, mixed_codes: true }
    }
}
