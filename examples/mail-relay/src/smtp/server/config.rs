//! What a server session is told by its operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::limits;
use crate::net::Network;
use crate::smtp::{AddressCustoms, AddressError, ClientCustoms, Domain, Mailbox};

/// Configuration of the server side; equal on both CoServers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The relay's own name: greeting, trace field, postmaster's domain.
    pub hostname: Domain,
    /// Largest mail in octets, as SIZE advertises it.
    pub max_message: u64,
    /// Most recipients of a mail; below 100 is against RFC 5321 section 4.5.3.1.8.
    pub max_recipients: u32,
    /// How long a client may be silent, in nanoseconds; below five minutes is against RFC 5321
    /// section 4.5.3.2.7.
    pub idle: u64,
    /// How long a whole session may last, but for data that is under way, in nanoseconds.
    pub session: u64,
    /// Commands that bring no mail forward, between two mails; see [`limits::IDLE_COMMANDS`].
    pub idle_commands: u32,
    /// Who may send where.
    pub policy: RelayPolicy,
    /// What of clients is taken against the letter of the standard.
    pub customs: ClientCustoms,
}

impl ServerConfig {
    /// The defaults of [`limits`] and a policy that lets no client send anything.
    pub fn new(hostname: Domain) -> ServerConfig {
        ServerConfig {
            hostname,
            max_message: limits::MESSAGE_BYTES,
            max_recipients: limits::RECIPIENTS,
            idle: limits::SERVER_IDLE,
            session: limits::SERVER_SESSION,
            idle_commands: limits::IDLE_COMMANDS,
            policy: RelayPolicy::default(),
            customs: ClientCustoms::default(),
        }
    }
}

/// Who may send where: clients of an allowed network to anybody, anybody to
/// allowed domains, and nothing else. Empty means nothing at all, so that a
/// forgotten line of configuration never makes an open relay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelayPolicy {
    networks: Vec<Network>,
    domains: BTreeSet<String>,
    parents: BTreeSet<String>,
    routed: bool,
}

impl RelayPolicy {
    /// Lets clients of `network` send to anybody.
    pub fn allow_network(&mut self, network: Network) {
        self.networks.push(network);
    }

    /// Lets anybody send to `domain`: `example.org` is that domain alone,
    /// `.example.org` every domain below it.
    ///
    /// # Errors
    /// If it is no domain.
    pub fn allow_domain(&mut self, domain: &str) -> Result<(), AddressError> {
        let (name, set) = match domain.strip_prefix('.') {
            Some(name) => (name, &mut self.parents),
            None => (domain, &mut self.domains),
        };
        Domain::parse_with(name, AddressCustoms::default())?;
        set.insert(name.to_ascii_lowercase());
        Ok(())
    }

    /// Lets anybody say where a mail to an allowed domain goes on from there: as in
    /// `user%elsewhere.example@example.org` and `elsewhere.example!user@example.org`.
    pub fn allow_routed(&mut self, allowed: bool) {
        self.routed = allowed;
    }

    /// Whether a client at `peer` may send to `recipient`. Domains are compared without regard to
    /// case (RFC 5321 section 2.4); an address literal is no domain of ours.
    pub fn permits(&self, peer: IpAddr, recipient: &Mailbox) -> bool {
        let is_domain_allowed = || {
            self.is_domain_allowed(&recipient.domain().to_ascii_lowercase())
                && (self.routed || !is_routed(recipient.local()))
        };
        self.networks.iter().any(|network| network.contains(peer)) || is_domain_allowed()
    }

    /// Everything that is allowed, in words of which two equal policies have the same: networks
    /// and domains as they were given.
    pub fn rules(&self) -> Vec<String> {
        let networks: BTreeSet<String> = self.networks.iter().map(Network::to_string).collect();
        let parents = self.parents.iter().map(|domain| format!(".{domain}"));
        let domains = self.domains.iter().cloned().chain(parents);
        let routed = self.routed.then(|| "routed addresses".to_owned());
        networks.into_iter().chain(domains).chain(routed).collect()
    }

    fn is_domain_allowed(&self, domain: &str) -> bool {
        self.domains.contains(domain)
            || domain.match_indices('.').any(|(at, _)| self.parents.contains(&domain[at + 1..]))
    }
}

/// Whether a local part may name another domain, for a server that takes it so. Then a client
/// that may send to this domain may send to all. Quotes change nothing, since such a server takes
/// them off.
fn is_routed(local: &str) -> bool {
    local.contains(['%', '!', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_may_send_anywhere_and_anybody_to_the_domains() {
        let mut policy = RelayPolicy::default();
        policy.allow_network("192.0.2.0/24".parse().unwrap());
        policy.allow_domain("Example.org").unwrap();
        policy.allow_domain(".example.net").unwrap();
        let permits = |peer: &str, recipient: &str| {
            policy.permits(peer.parse().unwrap(), &Mailbox::parse(recipient).unwrap())
        };
        assert!(permits("192.0.2.9", "a@elsewhere.com"));
        assert!(permits("192.0.2.9", "a@[203.0.113.1]"));
        assert!(permits("203.0.113.1", "a@EXAMPLE.org"));
        assert!(permits("203.0.113.1", "a@deep.sub.example.net"));
        assert!(!permits("203.0.113.1", "a@example.net"));
        assert!(!permits("203.0.113.1", "a@notexample.net"));
        assert!(!permits("203.0.113.1", "a@sub.example.org"));
        assert!(!permits("203.0.113.1", "a@elsewhere.com"));
        assert!(!permits("203.0.113.1", "a@[192.0.2.1]"));
    }

    #[test]
    fn only_those_who_may_send_anywhere_may_name_another_domain_within_an_address() {
        let mut policy = RelayPolicy::default();
        policy.allow_network("192.0.2.0/24".parse().unwrap());
        policy.allow_domain("example.org").unwrap();
        let routed = [
            "user%elsewhere.com@example.org",
            "elsewhere.com!user@example.org",
            "\"user%elsewhere.com\"@example.org",
            "\"elsewhere.com!user\"@example.org",
            "\"user@elsewhere.com\"@example.org",
        ];
        let permits = |policy: &RelayPolicy, peer: &str, recipient: &str| {
            policy.permits(peer.parse().unwrap(), &Mailbox::parse(recipient).unwrap())
        };
        let strict = policy.clone();
        policy.allow_routed(true);
        assert_ne!(strict.rules(), policy.rules());
        for recipient in routed {
            assert!(!permits(&strict, "203.0.113.1", recipient), "{recipient}");
            assert!(permits(&strict, "192.0.2.9", recipient), "{recipient}");
            assert!(permits(&policy, "203.0.113.1", recipient), "{recipient}");
        }
        assert!(permits(&strict, "203.0.113.1", "a+b=c&d@example.org"));
    }

    #[test]
    fn an_empty_policy_permits_nothing_and_bad_domains_are_refused() {
        let mut policy = RelayPolicy::default();
        assert!(!policy.permits("127.0.0.1".parse().unwrap(), &Mailbox::parse("a@b.org").unwrap()));
        for domain in ["", ".", "..a", "a..b", "*.example.org", "a b"] {
            assert!(policy.allow_domain(domain).is_err(), "{domain}");
        }
    }
}
