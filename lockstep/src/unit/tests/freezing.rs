//! Freezing and restoring: nothing is lost, nothing is believed.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Fixture, Probe, request, small};
use crate::entry::{EntryKind, InputKind};
use crate::ids::{Nonce, OwnerId, SessionId};
use crate::machine::{RecordSource, RestoreError};
use crate::unit::records::Reader;
use crate::unit::{Unit, UnitConfig};

fn generous() -> UnitConfig {
    UnitConfig::default()
}

/// A unit with everything in it: sessions with small, large and refused replies, a wake-up.
fn full() -> Fixture {
    let mut fixture = Fixture::new(generous());
    fixture.run(EntryKind::Genesis { seed: [1; 32] });
    for token in 0..5 {
        let session = fixture.open(token).unwrap();
        for number in 1..=token {
            fixture.ask((session, token), number, 1, "small").unwrap();
        }
    }
    let large = fixture.open(77).unwrap();
    for (number, size) in [(1, 200 << 10), (2, 1 << 20), (3, (1 << 20) + 1), (4, 10)] {
        let _ = fixture.ask((large, 77), number, 1, &format!("large {size}"));
    }
    fixture.device("wake 1000000 3");
    fixture
}

fn restore(bytes: Bytes) -> Result<Unit<Probe>, RestoreError> {
    Unit::restore(Probe::default(), generous(), &mut Reader::open(bytes)?)
}

#[test]
fn a_restored_unit_is_the_same_and_goes_on_the_same() {
    let mut fixture = full();
    let view = fixture.unit.freeze();
    let bytes = view.to_bytes().unwrap();
    let mut restored = restore(bytes.clone()).unwrap();
    assert_eq!(restored.freeze().to_bytes().unwrap(), bytes);
    assert_eq!(restored.freeze().state_digest().unwrap(), view.state_digest().unwrap());
    let large = SessionId(fixture.unit.index().0 - 5);
    let entries = [
        fixture.entry(request(large, 77, 2, 1, "again")),
        fixture.entry(request(large, 77, 5, 4, "next")),
        fixture.entry(InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(3) }.into()),
        fixture.entry(EntryKind::Tick),
    ];
    for entry in &entries {
        let expected = fixture.unit.execute(entry);
        assert!(expected.outputs.len() <= 1);
        assert_eq!(restored.execute(entry), expected);
    }
    assert_eq!(
        restored.freeze().state_digest().unwrap(),
        fixture.unit.freeze().state_digest().unwrap()
    );
}

#[test]
fn a_view_stays_as_it_was_while_the_unit_goes_on_and_may_be_written_elsewhere() {
    let mut fixture = full();
    let view = fixture.unit.freeze();
    let before = view.to_bytes().unwrap();
    let session = SessionId(fixture.unit.index().0 - 5);
    fixture.ask((session, 77), 5, 5, "next").unwrap();
    fixture.run(InputKind::SessionClose { session, token: Nonce(77) }.into());
    let after =
        std::thread::scope(|scope| scope.spawn(move || view.to_bytes().unwrap()).join().unwrap());
    assert_eq!(before, after);
}

#[test]
fn two_states_that_differ_have_digests_that_differ() {
    let mut fixture = full();
    let before = fixture.unit.freeze().state_digest().unwrap();
    fixture.run(EntryKind::Tick);
    assert_ne!(fixture.unit.freeze().state_digest().unwrap(), before);
}

#[test]
fn records_that_the_service_leaves_unread_are_an_error() {
    let mut records = given(&full());
    // The probe reads to the end, so only a service that stops early can leave something.
    struct Lazy;
    impl crate::machine::StateMachine for Lazy {
        type Frozen = super::FrozenProbe;
        fn identity(&self) -> crate::machine::Identity {
            Probe::default().identity()
        }
        fn step(
            &mut self,
            _: &mut crate::machine::Context<'_>,
            _: crate::machine::Step<'_>,
        ) -> Bytes {
            Bytes::new()
        }
        fn freeze(&self) -> Self::Frozen {
            Probe::default().freeze()
        }
        fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
            records.record().map(drop)
        }
    }
    let error = Unit::restore(Lazy, generous(), &mut records).map(drop).unwrap_err();
    assert!(error.to_string().contains("unread"), "{error}");
}

#[test]
fn a_service_that_panics_over_its_records_gives_an_error() {
    struct Fragile;
    impl crate::machine::StateMachine for Fragile {
        type Frozen = super::FrozenProbe;
        fn identity(&self) -> crate::machine::Identity {
            Probe::default().identity()
        }
        fn step(
            &mut self,
            _: &mut crate::machine::Context<'_>,
            _: crate::machine::Step<'_>,
        ) -> Bytes {
            Bytes::new()
        }
        fn freeze(&self) -> Self::Frozen {
            Probe::default().freeze()
        }
        fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
            panic!("what is this?")
        }
    }
    let error = Unit::restore(Fragile, generous(), &mut given(&full())).map(drop).unwrap_err();
    assert!(error.to_string().contains("what is this?"), "{error}");
}

#[test]
fn more_than_the_bounds_allow_is_refused() {
    let error = Unit::restore(Probe::default(), small(), &mut given(&full())).unwrap_err();
    assert!(error.to_string().contains("sessions are more than 4"), "{error}");
    for config in [
        UnitConfig { session_replies: 3, ..generous() },
        UnitConfig { session_reply_bytes: 1 << 20, ..generous() },
        UnitConfig { reply_bytes: 1 << 20, ..generous() },
    ] {
        assert!(Unit::restore(Probe::default(), config, &mut given(&full())).is_err());
    }
}

/// Records handed over as they are, without the checksums that would notice damage.
struct Given(VecDeque<Bytes>);

impl RecordSource for Given {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        Ok(self.0.pop_front())
    }
}

fn given(fixture: &Fixture) -> Given {
    let mut reader = Reader::open(fixture.unit.freeze().to_bytes().unwrap()).unwrap();
    let mut records = VecDeque::new();
    while let Some(record) = reader.record().unwrap() {
        records.push_back(record);
    }
    Given(records)
}

fn modest() -> Fixture {
    let mut fixture = Fixture::new(generous());
    for token in 0..4 {
        let session = fixture.open(token).unwrap();
        for number in 1..=token {
            fixture.ask((session, token), number, 1, "reply").unwrap();
        }
    }
    fixture
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Even records that pass their checksums are not believed: whatever comes of damage, it is
    /// an error or a unit that works.
    #[test]
    fn damaged_records_give_an_error_or_a_unit_that_works(
        record in 0usize..5,
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut fixture = modest();
        let mut records = given(&fixture);
        let mut bytes = records.0[record].to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = value;
        }
        records.0[record] = bytes.into();
        if let Ok(mut unit) = Unit::restore(Probe::default(), generous(), &mut records) {
            fixture.unit.freeze().to_bytes().unwrap();
            let mut entry = fixture.entry(InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(9) }.into());
            entry.index = unit.index().next();
            unit.execute(&entry);
            let mut entry = fixture.entry(request(SessionId(1), 0, 1, 1, "x"));
            entry.index = unit.index().next();
            unit.execute(&entry);
            unit.freeze().to_bytes().unwrap();
        }
    }

    #[test]
    fn missing_records_never_panic(drop in 0usize..6) {
        let mut records = given(&modest());
        records.0.remove(drop);
        let _ = Unit::restore(Probe::default(), generous(), &mut records);
    }
}

/// A service whose view cannot be taken.
struct Shy;

impl crate::machine::StateMachine for Shy {
    type Frozen = Shy;
    fn identity(&self) -> crate::machine::Identity {
        crate::machine::Identity {
            name: "shy".into(),
            version: 1,
            configuration: crate::digest::Digest::ZERO,
        }
    }
    fn step(&mut self, _: &mut crate::machine::Context<'_>, _: crate::machine::Step<'_>) -> Bytes {
        Bytes::new()
    }
    fn freeze(&self) -> Self {
        panic!("not now")
    }
    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl crate::machine::Freeze for Shy {
    fn write(
        &self,
        _: &mut dyn crate::machine::RecordSink,
    ) -> Result<(), crate::machine::SinkError> {
        Ok(())
    }
}

#[test]
fn a_panic_over_the_view_is_one_of_its_entry_on_both_replicas_alike() {
    let genesis = full().entry(EntryKind::Genesis { seed: [1; 32] });
    let entry = crate::entry::Entry { index: crate::ids::Index(1), ..genesis };
    let frozen = || {
        let mut unit = Unit::new(Shy);
        let mut executed = unit.execute(&entry);
        let clean = executed.clone();
        assert!(unit.freeze_after(&mut executed).is_none());
        assert!(unit.has_panicked());
        (clean, executed)
    };
    let (clean, panicked) = frozen();
    assert_eq!(panicked.panic.as_deref(), Some("freezing its state panicked: not now"));
    assert_ne!(panicked.digest, clean.digest, "one that took its view computed something else");
    assert_eq!(frozen().1, panicked);
}
