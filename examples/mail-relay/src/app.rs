//! The relay as a program: its section of the configuration, and its devices.
//!
//! ```toml
//! [service]
//! hostname = "relay.example"              # the relay's own name, the same on both
//! next_hop = "mail.example.org:25"        # where mail goes, the same on both
//! listen = ["192.0.2.1:25"]               # where this CoServer takes mail
//! allow_networks = ["192.0.2.0/24"]       # whose clients may send to anybody
//! allow_domains = ["example.org"]         # to which anybody may send
//! ```
//!
//! What is left out has the defaults of [`crate::limits`]: `max_message`, `max_recipients`,
//! `max_clients`, `client_idle`, `client_idle_scarce`, `client_session`, `client_commands`,
//! `block_mails`, `block_queue`, `address_errors`, `address_shut`, `trusted_networks` (none),
//! `session_bytes`, `max_queue_mails`, `max_queue_bytes`, `max_deliveries`, `retry_first`,
//! `retry_most`, `give_up`. What is [custom](crate::smtp::ClientCustoms) against the letter of the
//! standard is taken unless one of these is `false`: `accept_odd_names`, `accept_odd_dots`,
//! `accept_odd_hello`, `accept_lf_replies`, `accept_mixed_replies`. Everything but `listen` must be
//! the same on both CoServers; two that differ refuse each other.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use io_redirect::Wrapper;
use io_redirect::tcp::{TcpOptions, TcpOutside};
use lockstep::ids::ReplicaId;
use lockstep::runtime::cli::{Application, BuildError, Program};
use lockstep::runtime::config::{ConfigError, Section};
use lockstep::runtime::coserver::Devices;
use lockstep::runtime::init::{Ports, ServiceSections};

use crate::net::Network;
use crate::relay::{LISTENER, Relay, RelaySettings, SettingsError};
use crate::smtp::{AddressCustoms, Domain};

/// The program. Its field is what `init` writes; running parts read their files.
#[derive(Debug, Clone)]
pub struct RelayApp {
    /// The next hop that `init` writes down.
    pub next_hop: String,
}

impl Default for RelayApp {
    fn default() -> Self {
        RelayApp { next_hop: "127.0.0.1:2525".to_owned() }
    }
}

impl Application for RelayApp {
    type Service = Wrapper<Relay>;

    fn program(&self) -> Program {
        Program {
            name: "mail-relay",
            version: env!("CARGO_PKG_VERSION"),
            about: "An always-on SMTP relay, run in lockstep on two CoServers.",
        }
    }

    fn build(&self, _: ReplicaId, own: Section) -> Result<(Wrapper<Relay>, Devices), BuildError> {
        let Configured { settings, listen } = read(own)?;
        let listen = BTreeMap::from([(LISTENER.to_owned(), listen)]);
        let connections = settings.tcp_limits().connections;
        let options = TcpOptions { listen, connections, ..TcpOptions::default() };
        let outside =
            TcpOutside::bind(options).map_err(|error| BuildError::Other(Box::new(error)))?;
        let service = settings.wrapped().map_err(|error| BuildError::Other(Box::new(error)))?;
        let table = service.devices().clone();
        Ok((service, Devices { table, outsides: vec![Box::new(outside)] }))
    }

    fn init(&self, ports: &mut Ports) -> Result<ServiceSections, Box<dyn Error + Send + Sync>> {
        let mut section = |place| ports.next(place).map(|listen| self.section(listen));
        let coservers = [section(ReplicaId::A)?, section(ReplicaId::B)?];
        Ok(ServiceSections { coservers, client: String::new() })
    }
}

impl RelayApp {
    fn section(&self, listen: SocketAddr) -> String {
        format!(
            "# The relay's own name, in greetings and trace fields. The same on both.\n\
             hostname = \"relay.example\"\n\
             # Where mail goes. The same on both.\n\
             next_hop = \"{}\"\n\
             # Where this CoServer takes mail.\n\
             listen = [\"{listen}\"]\n\
             # Whose clients may send to anybody, and domains to which anybody may send: \"example.org\",\n\
             # or \".example.org\" for all below it. The same on both.\n\
             allow_networks = [\"127.0.0.0/8\"]\n\
             allow_domains = []\n",
            self.next_hop
        )
    }
}

/// What the section says.
#[derive(Debug)]
pub struct Configured {
    /// What must be the same on both CoServers.
    pub settings: RelaySettings,
    /// Where this one takes mail.
    pub listen: Vec<SocketAddr>,
}

/// Reads the section `[service]`.
///
/// # Errors
/// The first thing that is wrong, with its place in the file.
pub fn read(mut own: Section) -> Result<Configured, ConfigError> {
    let hostname: String = own.required("hostname", "the relay's own name")?;
    let hostname = Domain::parse(&hostname).map_err(|error| {
        let remedy = "write the relay's full name, such as relay.example.org";
        own.fault("hostname", format!("is no domain: {error}"), remedy)
    })?;
    let next_hop: String = own.required("next_hop", "where mail goes, as host:port")?;
    let mut settings =
        RelaySettings::new(hostname, &next_hop).map_err(|error| settings_fault(&own, &error))?;
    let listen: Vec<SocketAddr> =
        own.required("listen", "the addresses on which this CoServer takes mail")?;
    if listen.is_empty() || listen.iter().any(|address| address.port() == 0) {
        let what = "names no address with a port";
        return Err(own.fault("listen", what, "write at least one, such as [\"192.0.2.1:25\"]"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = listen.iter().find(|address| !seen.insert(**address)) {
        let what = format!("names {twice} twice");
        return Err(own.fault("listen", what, "leave one of the two out"));
    }
    policy(&mut own, &mut settings)?;
    numbers(&mut own, &mut settings)?;
    customs(&mut own, &mut settings)?;
    own.finish()?;
    settings.check().map_err(|error| settings_fault(&own, &error))?;
    Ok(Configured { settings, listen })
}

fn policy(own: &mut Section, settings: &mut RelaySettings) -> Result<(), ConfigError> {
    let allowed = networks(own, "allow_networks", "networks whose clients may send to anybody")?;
    let policy = &mut settings.server.policy;
    allowed.into_iter().for_each(|network| policy.allow_network(network));
    settings.shares.trusted =
        networks(own, "trusted_networks", "networks whose clients are exempt from shares")?;
    let domains: Option<Vec<String>> =
        own.optional("allow_domains", "domains to which anybody may send")?;
    for text in domains.unwrap_or_default() {
        policy.allow_domain(&text).map_err(|error| {
            let remedy = "write example.org, or .example.org for everything below it";
            own.fault("allow_domains", format!("`{text}` is no domain: {error}"), remedy)
        })?;
    }
    let routed = own.optional(
        "accept_routed",
        "whether anybody may write user%elsewhere@domain to the allowed domains",
    )?;
    policy.allow_routed(routed.unwrap_or(false));
    Ok(())
}

fn networks(
    own: &mut Section,
    name: &'static str,
    meaning: &str,
) -> Result<Vec<Network>, ConfigError> {
    let texts: Option<Vec<String>> = own.optional(name, meaning)?;
    let parse = |text: String| {
        text.parse().map_err(|error: crate::net::NetworkError| {
            let error = error.to_string();
            let (what, remedy) = error.split_once(": ").unwrap_or((&error, "correct it"));
            own.fault(name, what, remedy)
        })
    };
    texts.unwrap_or_default().into_iter().map(parse).collect()
}

fn numbers(own: &mut Section, settings: &mut RelaySettings) -> Result<(), ConfigError> {
    let RelaySettings { server, queue, max_clients, session_bytes, shares, .. } = settings;
    let octets: [(&'static str, &str, &mut u64); 4] = [
        ("max_message", "the largest mail, in octets", &mut server.max_message),
        ("session_bytes", "octets that all sessions may hold together", session_bytes),
        ("max_queue_mails", "the most mails in the queue", &mut queue.max_mails),
        ("max_queue_bytes", "the most octets in the queue", &mut queue.max_bytes),
    ];
    for (name, meaning, value) in octets {
        *value = own.optional(name, meaning)?.unwrap_or(*value);
    }
    let counts: [(&'static str, &str, &mut u32); 7] = [
        ("max_recipients", "the most recipients of a mail", &mut server.max_recipients),
        ("max_clients", "the most clients at a time, on both CoServers together", max_clients),
        ("max_deliveries", "the most deliveries at a time", &mut queue.max_deliveries),
        ("block_mails", "mails of a block of addresses in a minute", &mut shares.mails),
        (
            "block_queue",
            "how many times what is free of the queue a block of addresses may have in it",
            &mut shares.queue,
        ),
        (
            "client_commands",
            "commands of a client that bring no mail forward, between two mails",
            &mut server.idle_commands,
        ),
        (
            "address_errors",
            "sessions of an address that may end for errors in a minute",
            &mut shares.errors,
        ),
    ];
    for (name, meaning, value) in counts {
        *value = own.optional(name, meaning)?.unwrap_or(*value);
    }
    let times: [(&'static str, &str, &mut u64); 7] = [
        ("client_idle", "how long a client may be silent", &mut server.idle),
        ("client_idle_scarce", "the same while clients are many", &mut shares.scarce_idle),
        ("client_session", "how long a whole session may last", &mut server.session),
        ("address_shut", "how long an address is shut out after that", &mut shares.shut),
        ("retry_first", "the pause after a mail's first failure", &mut queue.retry_first),
        ("retry_most", "the longest such pause", &mut queue.retry_most),
        ("give_up", "the age at which a mail goes back to its sender", &mut queue.give_up),
    ];
    for (name, meaning, value) in times {
        let given: Option<Duration> = own.optional(name, meaning)?;
        if let Some(given) = given {
            *value = u64::try_from(given.as_nanos()).unwrap_or(u64::MAX);
        }
    }
    Ok(())
}

fn customs(own: &mut Section, settings: &mut RelaySettings) -> Result<(), ConfigError> {
    let (clients, hop) = (&mut settings.server.customs, &mut settings.client.customs);
    let AddressCustoms { names, dots } = &mut clients.addresses;
    let options: [(&'static str, &str, &mut bool); 5] = [
        ("accept_odd_names", "whether host names may have underscores", names),
        ("accept_odd_dots", "whether local parts may have dots anywhere", dots),
        ("accept_odd_hello", "whether any text may be the name in EHLO", &mut clients.hello),
        ("accept_lf_replies", "whether the next hop may end lines with LF", &mut hop.bare_lf),
        (
            "accept_mixed_replies",
            "whether lines of a reply may have different codes of one class",
            &mut hop.mixed_codes,
        ),
    ];
    for (name, meaning, value) in options {
        *value = own.optional(name, meaning)?.unwrap_or(*value);
    }
    Ok(())
}

fn settings_fault(own: &Section, error: &SettingsError) -> ConfigError {
    let text = error.to_string();
    let (what, remedy) = text.split_once(": ").unwrap_or((&text, "correct it"));
    match error {
        SettingsError::NextHop(_) => own.fault("next_hop", what, remedy),
        SettingsError::Range { name, .. } | SettingsError::Time { name, .. } => {
            own.fault(name, what, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Result<Configured, String> {
        read(Section::parse("a.toml", text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_init_writes_can_be_read() {
        let text = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let configured = section(&text).unwrap();
        assert_eq!(configured.listen, ["127.0.0.1:2500".parse::<SocketAddr>().unwrap()]);
        assert_eq!(configured.settings.server.policy.rules(), ["127.0.0.0/8"]);
    }

    #[test]
    fn an_address_that_is_written_twice_is_refused_before_it_is_in_use() {
        let text = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let twice =
            text.replace("[\"127.0.0.1:2500\"]", "[\"127.0.0.1:2500\", \"127.0.0.1:2500\"]");
        let said = section(&twice).unwrap_err();
        assert!(said.contains("names 127.0.0.1:2500 twice; leave one"), "{said}");
    }

    #[test]
    fn each_absurd_number_is_refused_by_its_name() {
        let good = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        // Twice a mail of the default size has to fit.
        let mail = crate::limits::MESSAGE_BYTES.saturating_mul(2);
        let small = (mail - 1).to_string();
        let cases: &[(&str, &[&str])] = &[
            ("max_message", &["0", "65535", "1073741825", "-1", "\"1 MiB\"", "1e9"]),
            ("session_bytes", &["0", &small, "1099511627777", "-1", "[]"]),
            ("max_queue_bytes", &["0", &small, "1099511627777", "true"]),
            ("max_queue_mails", &["0", "10000001", "-1", "1.5"]),
            ("max_recipients", &["0", "100001", "99999999999", "-1", "\"all\""]),
            ("max_clients", &["0", "10001", "99999999999", "-1", "\"\""]),
            ("max_deliveries", &["0", "1001", "-7", "{}"]),
            ("retry_first", &["\"0s\"", "\"99ms\"", "\"3h\"", "5", "\"soon\""]),
            ("retry_most", &["\"0s\"", "\"99ms\"", "\"99999h\"", "\"-1s\"", "60"]),
            ("client_idle", &["\"0s\"", "\"9s\"", "\"25h\"", "300"]),
            ("accept_routed", &["1", "\"yes\""]),
            ("client_idle_scarce", &["\"0s\"", "\"25h\"", "30"]),
            ("client_session", &["\"59s\"", "\"99999h\"", "1"]),
            ("block_mails", &["10000001", "-1", "\"many\""]),
            ("block_queue", &["1001", "-1", "0.5", "\"all\""]),
            ("client_commands", &["9", "100001", "-1", "\"many\""]),
            ("address_errors", &["100001", "-1", "true"]),
            ("address_shut", &["\"0s\"", "\"25h\"", "10"]),
            ("trusted_networks", &["[\"192.0.2.1/24\"]", "\"192.0.2.0/24\"", "[1]"]),
            ("give_up", &["\"0s\"", "\"1ms\"", "\"99999h\"", "\"99999999999999999999h\"", "1"]),
        ];
        for (field, values) in cases {
            for value in *values {
                let text = good.replace("allow_domains = []", &format!("{field} = {value}"));
                let error = section(&text).unwrap_err();
                assert!(error.starts_with("a.toml:"), "{field} = {value}: {error}");
                assert!(error.contains(&format!("`{field}`")), "{field} = {value}: {error}");
            }
        }
        let without = good.replace("listen = [\"127.0.0.1:2500\"]", "");
        let error = section(&without).unwrap_err();
        assert!(error.contains("`listen`") && error.contains("is missing"), "{error}");
        for listen in ["[\"127.0.0.1\"]", "\"127.0.0.1:2500\"", "[2500]", "[\"mail.example:25\"]"] {
            let text = good.replace("[\"127.0.0.1:2500\"]", listen);
            let error = section(&text).unwrap_err();
            assert!(error.contains("listen"), "{listen}: {error}");
        }
    }

    #[test]
    fn each_custom_can_be_switched_off_and_shows_in_the_identity() {
        let good = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let digest = |text: &str| section(text).unwrap().settings.digest();
        let mut digests = BTreeSet::from([digest(&good)]);
        for name in ["odd_names", "odd_dots", "odd_hello", "lf_replies", "mixed_replies"] {
            let without = |value: &str| {
                good.replace("allow_domains = []", &format!("accept_{name} = {value}"))
            };
            assert_eq!(digest(&without("true")), digest(&good), "{name}");
            assert!(digests.insert(digest(&without("false"))), "{name}");
            assert!(section(&without("1")).unwrap_err().contains(name));
        }
    }

    #[test]
    fn idle_time_and_routed_addresses_can_be_set_and_show_in_the_identity() {
        let good = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let with =
            |line: &str| section(&good.replace("allow_domains = []", line)).unwrap().settings;
        let settings = with("client_idle = \"30s\"");
        assert_eq!(settings.server.idle, 30 * crate::limits::SECOND);
        assert_ne!(settings.digest(), with("").digest());
        assert_ne!(with("accept_routed = true").digest(), with("").digest());
        assert_eq!(with("accept_routed = false").digest(), with("").digest());
    }

    #[test]
    fn each_setting_of_shares_shows_in_the_identity() {
        let good = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let digest = |line: &str| {
            section(&good.replace("allow_domains = []", line)).unwrap().settings.digest()
        };
        let mut digests = BTreeSet::from([digest("")]);
        for line in [
            "client_idle_scarce = \"20s\"",
            "client_session = \"2h\"",
            "block_mails = 600",
            "block_queue = 2",
            "client_commands = 100",
            "address_errors = 600",
            "address_shut = \"20min\"",
            "trusted_networks = [\"192.0.2.0/24\"]",
        ] {
            assert!(digests.insert(digest(line)), "{line}");
        }
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        let good = RelayApp::default().section("127.0.0.1:2500".parse().unwrap());
        let cases = [
            ("hostname = \"relay.example\"", "hostname = \"a b\"", "`hostname`", "full name"),
            ("hostname = \"relay.example\"", "", "`hostname", "the relay's own name"),
            (":2525\"", "\"", "`next_hop`", "host:port"),
            ("listen = [\"127.0.0.1:2500\"]", "listen = []", "`listen`", "at least one"),
            ("127.0.0.0/8", "127.0.0.1/8", "`allow_networks`", "127.0.0.0/8"),
            ("allow_domains = []", "allow_domains = [\"*.a\"]", "`allow_domains`", ".example.org"),
            ("allow_domains = []", "max_message = 5", "`max_message`", "choose between"),
            ("allow_domains = []", "client_idle = \"1s\"", "`client_idle`", "between 10s"),
            ("allow_domains = []", "retry_first = \"3h\"", "`retry_first`", "between 100ms"),
            ("allow_domains = []", "max_mesage = 5", "`max_mesage`", "max_message"),
        ];
        for (from, to, names, remedy) in cases {
            let error = section(&good.replace(from, to)).unwrap_err();
            assert!(error.starts_with("a.toml:"), "{error}");
            assert!(error.contains(names) && error.contains(remedy), "{error}");
        }
    }
}
