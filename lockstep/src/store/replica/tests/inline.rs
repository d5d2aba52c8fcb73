//! What a replay comes to where it is not what it once was.

use bytes::Bytes;

use super::*;
use crate::machine::{
    Context, Freeze, RecordSink, RecordSource, RestoreError, SinkError, StateMachine, Step,
};
use crate::proto::Recovered;

/// A service that may be worse than it was.
#[derive(Clone, Copy)]
struct Aged {
    panics: bool,
}

impl StateMachine for Aged {
    type Frozen = Self;
    fn identity(&self) -> Service {
        who().service
    }
    fn step(&mut self, _: &mut Context<'_>, _: Step<'_>) -> Bytes {
        if self.panics {
            // Unwinds as a panic does, without the hook's message on standard error.
            std::panic::resume_unwind(Box::new("it is old"));
        }
        Bytes::new()
    }
    fn freeze(&self) -> Self {
        *self
    }
    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

impl Freeze for Aged {
    fn write(&self, _: &mut dyn RecordSink) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Ten entries, of which the first six were released, with these outputs.
fn restored(panics: bool, outputs: Digest, adopt: bool) -> Result<Box<Recovered>, String> {
    let disk = MemoryDirectory::new();
    let (mut store, _) = opened(&disk);
    let mark = crate::store::journal::Mark { index: Index(6), outputs };
    store.append(&entries(10, 20), mark).unwrap();
    store.commit(mark).unwrap();
    let mut unit = Unit::new(Aged { panics });
    let initial_snapshot = unit.freeze();
    let restored = store.restore(&mut unit, &initial_snapshot, None, 100, adopt).unwrap();
    if restored.is_err() {
        assert_eq!((unit.index(), store.held()), (Index(0), Index(0)), "nothing is half-way there");
        assert!(disk.contents("journal-0000000001.damaged").is_some());
    }
    restored
}

/// What the service comes to up to there.
fn outputs() -> Digest {
    let mut unit = Unit::new(Aged { panics: false });
    entries(6, 20).iter().for_each(|entry| drop(unit.execute(entry)));
    unit.digest()
}

#[test]
fn a_replay_that_comes_to_what_was_released_goes_on_after_it() {
    let recovered = restored(false, outputs(), false).unwrap();
    assert_eq!((recovered.history.index, recovered.tail.len()), (Index(6), 4));
    assert_eq!(recovered.contradicts, None);
}

/// What comes before the entry may be right: what was released after it is not there again.
#[test]
fn a_log_whose_replay_panics_is_set_aside() {
    let why = restored(true, outputs(), false).unwrap_err();
    assert!(why.contains("panicked, which its first execution did not"), "{why}");
}

#[test]
fn a_replay_that_contradicts_what_was_released_is_for_who_adopts_it_and_says_so() {
    let other = Digest([6; 16]);
    let why = restored(false, other, false).unwrap_err();
    assert!(why.contains("contradicts what was released"), "{why}");
    let recovered = restored(false, other, true).unwrap();
    assert_eq!(recovered.history.index, Index(6));
    assert!(recovered.contradicts.is_some());
}
