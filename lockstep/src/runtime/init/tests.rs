use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::runtime::config::{ClientConfig, CoServerConfig, Overrides, WitnessConfig};

fn no_service(_: &mut Ports) -> Result<ServiceSections, Infallible> {
    Ok(ServiceSections::default())
}

#[test]
fn what_init_writes_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pair");
    let plan = Plan { free_ports: true, ..Plan::new(&path) };
    let made = plan
        .write(|ports| {
            let port = ports.next(ReplicaId::B)?.port();
            let coservers = ["port = 1\n".into(), format!("port = {port}\n")];
            Ok::<_, InitError>(ServiceSections { coservers, client: "name = \"c\"\n".into() })
        })
        .unwrap();
    let none = Overrides::new();
    let a = CoServerConfig::read(&path.join("a.toml"), &none).unwrap();
    let b = CoServerConfig::read(&path.join("b.toml"), &none).unwrap();
    let witness = WitnessConfig::read(&path.join("witness.toml"), &none).unwrap();
    let client = ClientConfig::read(&path.join("client.toml"), &none).unwrap();
    assert_eq!((a.pair(), b.pair(), client.pair), (made.pair, made.pair, made.pair));
    assert_eq!(witness.pairs[0].id, made.pair);
    assert_eq!(a.settings.links.len(), 2);
    for (ours, theirs) in a.settings.links.iter().zip(&b.settings.links) {
        assert_eq!(ours.remote.address(), Some(theirs.local));
        assert_eq!(theirs.remote.address(), Some(ours.local));
    }
    assert_eq!(a.settings.witness, witness.listen.into());
    assert_eq!(client.coservers[1].address(), b.settings.clients);
    for coserver in [&a, &b] {
        let roster = coserver.credentials.roster();
        let named: Vec<_> = roster.clients().map(|(key, _)| roster.client_name(key)).collect();
        assert_eq!(named, [Some("client")]);
    }
    let mut service = b.service;
    assert!(service.required::<u16>("port", "").unwrap() >= 10_000);
    for name in ["a", "b", "witness", "client"] {
        let meta = fs::metadata(path.join(format!("keys/{name}.key"))).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600);
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("witness.toml"), "mine").unwrap();
    let refused = Plan::new(path).write(no_service).unwrap_err();
    assert!(matches!(refused, InitError::Exists { .. }), "{refused}");
    assert_eq!(fs::read_to_string(path.join("witness.toml")).unwrap(), "mine");
    assert_eq!(fs::read_dir(path).unwrap().count(), 1, "only what was there before");

    fs::remove_file(path.join("witness.toml")).unwrap();
    Plan::new(path).write(no_service).unwrap();
    let key = fs::read(path.join("keys/a.key")).unwrap();
    assert!(matches!(Plan::new(path).write(no_service), Err(InitError::Exists { .. })));
    assert_eq!(fs::read(path.join("keys/a.key")).unwrap(), key);
}

#[test]
fn addresses_that_are_said_are_kept_and_others_do_not_meet_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = |text: &str| -> std::net::SocketAddr { text.parse().unwrap() };
    let plan = Plan {
        a_links: vec![at("127.0.0.1:17401")],
        b_links: vec![at("127.0.0.1:17400")],
        ..Plan::new(directory.path())
    };
    let made = plan.write(no_service).unwrap();
    assert_eq!(made.addresses.links, [(at("127.0.0.1:17401"), at("127.0.0.1:17400"))]);
    let mut all = vec![made.addresses.witness];
    all.extend(made.addresses.clients);
    all.sort();
    assert_eq!(all, [at("127.0.0.1:17402"), at("127.0.0.1:17403"), at("127.0.0.1:17404")]);
}

#[test]
fn a_plan_that_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let lopsided =
        Plan { a_links: vec!["127.0.0.1:1".parse().unwrap()], ..Plan::new(directory.path()) };
    assert!(matches!(lopsided.write(no_service), Err(InitError::Links { a: 1, b: 0 })));
    let high = Plan { base_port: 65_534, ..Plan::new(directory.path()) };
    assert!(matches!(high.write(no_service), Err(InitError::Port { .. })));
    let same = "127.0.0.1:17400".parse().unwrap();
    let looped = Plan { a_links: vec![same], b_links: vec![same], ..Plan::new(directory.path()) };
    let error = looped.write(no_service).unwrap_err();
    assert!(matches!(error, InitError::Configuration(_)), "{error}");
    assert!(error.to_string().contains("write the other CoServer's address"), "{error}");
    let twice = Plan { clients: [Some(same), None], ..looped };
    assert!(matches!(twice.write(no_service), Err(InitError::Configuration(_))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
