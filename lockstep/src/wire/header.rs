//! The header.

/// The version of the format.
pub const VERSION: u16 = 1;
