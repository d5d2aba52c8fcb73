//! Frozen states of versions before still open: they hold mail that was answered with `250`.

use std::path::PathBuf;

use io_redirect::Service as _;
use io_redirect::harness::Records;
use lockstep::machine::{Freeze as _, StateMachine};
use lockstep::shares::AddressBlock;

use super::Relay;
use super::tests::{Scenario, settings};
use crate::queue::Held;

/// Two mails, one of which is being delivered, and clients: one is silent, one is sending.
fn scenario() -> Scenario {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    scenario.client();
    scenario.mail(client, "a@b.org", "first");
    scenario.hop_for(2, "");
    scenario.mail(client, "a@b.org", "second");
    scenario.say(client, "MAIL FROM:<>\r\nRCPT TO:<to@example.org>\r\nDATA\r\nhalf of the third");
    scenario
}

/// The records of the relay itself, without those of its devices, which have a version of
/// their own.
fn own(relay: &Relay) -> Records {
    let mut records = Records::default();
    relay.freeze().write(&mut records).unwrap();
    records
}

fn place(version: u32) -> PathBuf {
    let folder = format!("tests/fixtures/relay-v{version}/records");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn read(version: u32) -> Records {
    let bytes = std::fs::read(place(version)).expect("the fixture");
    Records::from_bytes(bytes.into()).expect("it is whole")
}

#[test]
#[ignore = "writes the fixture, for a new version of the relay in a folder of its own"]
fn write_the_fixture() {
    let place = place(super::VERSION);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, scenario().pair.freeze().unwrap().to_bytes()).unwrap();
}

#[test]
fn a_state_of_this_version_is_restored_as_it_was() {
    let mut relay = settings().wrapped().unwrap();
    relay.restore(&mut read(super::VERSION)).unwrap();
    let relay = relay.service();
    assert_eq!(own(relay), own(scenario().pair.service()), "every field, clients included");
    assert_eq!((relay.queue().len(), relay.clients(), relay.hops()), (2, 2, 2));
}

#[test]
fn a_state_of_a_version_before_is_restored_without_its_clients() {
    [3, 4].into_iter().for_each(restore_older);
}

fn restore_older(version: u32) {
    let mut relay = settings().wrapped().unwrap();
    relay.restore(&mut read(version)).unwrap();
    let service = relay.service();
    assert_eq!((service.queue().len(), service.clients(), service.hops()), (2, 0, 2));
    assert_eq!((service.counters().accepted, service.held_bytes()), (2, 0));
    // Whose its mails are is read out of their trace fields.
    let own = AddressBlock::of([192, 0, 0, 1].into());
    let held = Held { mails: 2, bytes: service.queue().bytes() };
    assert_eq!(service.queue().blocks().collect::<Vec<_>>(), [(own, held)]);
    let mut written = Records::default();
    relay.freeze().write(&mut written).unwrap();
    let mut again = settings().wrapped().unwrap();
    again.restore(&mut written).unwrap();
    assert_eq!(again.service().queue(), relay.service().queue());
}
