//! Frozen states of the versions before still open: they hold somebody's only state.

use core::time::Duration;
use std::path::PathBuf;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::{LogTime, ReplicaId};
use lockstep::machine::{Freeze as _, Identity, RecordSource, RestoreError, StateMachine};

use crate::harness::Records;
use crate::snapshot::Snapshot;
use crate::tcp::{ListenOptions, Target, TcpLimits};
use crate::timers::Token;
use crate::{Harness, Io, Request, Service, Wrapper};

/// A service without a state of its own.
struct Door;

impl Service for Door {
    type Frozen = Snapshot<()>;

    fn identity(&self) -> Identity {
        Identity { name: "door".into(), version: 1, configuration: Digest::ZERO }
    }

    fn on_start(&mut self, io: &mut Io<'_>) {
        let refusal = Bytes::from_static(b"full\r\n");
        io.tcp().listen("door", ListenOptions { refusal, connections: Some(4) }).unwrap();
        io.timers().after(Duration::from_secs(3600), Token(7)).unwrap();
    }

    fn on_request(&mut self, io: &mut Io<'_>, _: Request<'_>) -> Bytes {
        io.tcp().connect(Target::host("mx.example", 25)).unwrap();
        Bytes::new()
    }

    fn freeze(&self) -> Snapshot<()> {
        Snapshot(())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Snapshot::read(records)
    }
}

fn door() -> Wrapper<Door> {
    Wrapper::with_tcp(Door, TcpLimits::default()).unwrap()
}

/// Clients at both, a connection that the service made, and one that it is making.
fn frozen() -> Records {
    let mut pair = Harness::new(door());
    let session = pair.open_session();
    for (place, port) in [(ReplicaId::A, 1), (ReplicaId::B, 2), (ReplicaId::B, 3)] {
        let peer = ([192, 0, 2, 9], port).into();
        let client = pair.connect_from(place, "door", peer).unwrap();
        pair.send(client, b"hello");
    }
    pair.request(session, b"connect");
    let dial = pair.dials().remove(0);
    pair.answer(&dial).unwrap();
    pair.request(session, b"connect");
    pair.freeze().unwrap()
}

fn place(version: u16) -> PathBuf {
    let folder = format!("tests/fixtures/devices-v{version}/records");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn read(version: u16) -> Records {
    let bytes = std::fs::read(place(version)).expect("the fixture");
    Records::from_bytes(bytes.into()).expect("it is whole")
}

#[test]
#[ignore = "writes the fixture, for a new version of the format in a folder of its own"]
fn write_the_fixture() {
    let place = place(crate::snapshot::VERSION);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, frozen().to_bytes()).unwrap();
}

#[test]
fn the_fixture_of_this_version_is_read_and_still_written_so() {
    let records = read(crate::snapshot::VERSION);
    assert_eq!(records, frozen());
    let mut restored = door();
    restored.restore(&mut records.clone()).unwrap();
    assert_eq!(restored.inside().tcp.live(), 5);
}

#[test]
fn a_state_of_a_version_before_is_restored_and_written_as_this_one() {
    for version in 3..crate::snapshot::VERSION {
        is_restored_and_written_anew(version);
    }
}

fn is_restored_and_written_anew(version: u16) {
    let mut restored = door();
    restored.restore(&mut read(version)).unwrap();
    let tcp = &restored.inside().tcp;
    assert_eq!((tcp.live(), tcp.freeze().dialling.len()), (5, 1));
    assert!(restored.next_wakeup(LogTime(0)).is_some(), "the timer is there");
    let mut written = Records::default();
    restored.freeze().write(&mut written).unwrap();
    let mut again = door();
    again.restore(&mut written.clone()).unwrap();
    let mut twice = Records::default();
    again.freeze().write(&mut twice).unwrap();
    assert_eq!(written, twice);
}
