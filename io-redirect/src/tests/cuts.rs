//! A state that was frozen and restored goes on exactly as one that was not.

use core::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep::machine::RestoreError;
use lockstep::testing::check_determinism;
use proptest::prelude::*;

use super::Probe;
use super::streams::{Oracle, acts};
use crate::Harness;
use crate::harness::Records;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_anywhere_changes_nothing(acts in acts(), cuts in proptest::collection::vec(any::<bool>(), 60)) {
        let mut whole = Harness::new(Probe::wrapped());
        let mut cut = Harness::new(Probe::wrapped());
        let mut of_whole = Oracle::connect(&mut whole);
        let mut of_cut = Oracle::connect(&mut cut);
        for pair in [&mut whole, &mut cut] {
            let session = pair.open_session();
            for ask in ["timer 1 1", "timer 3 2", "connect mx.example 25", "random"] {
                pair.request(session, ask.as_bytes());
            }
        }
        for (act, here) in acts.iter().zip(cuts) {
            of_whole.act(&mut whole, act);
            of_cut.act(&mut cut, act);
            if here {
                cut.replace(Probe::wrapped()).unwrap();
            }
            prop_assert_eq!(whole.digest(), cut.digest());
        }
        for pair in [&mut whole, &mut cut] {
            pair.lose(ReplicaId::A);
            pair.advance(Duration::from_millis(5));
            let session = pair.open_session();
            pair.request(session, b"random");
        }
        prop_assert_eq!(whole.digest(), cut.digest());
        prop_assert_eq!(whole.freeze().unwrap(), cut.freeze().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn the_engines_own_check_finds_no_nondeterminism(acts in acts()) {
        let mut pair = Harness::new(Probe::wrapped());
        let session = pair.open_session();
        for ask in ["timer 1 1", "timer 1 2", "connect mx.example 25", "random", "diary"] {
            pair.request(session, ask.as_bytes());
        }
        let mut oracle = Oracle::connect(&mut pair);
        acts.iter().for_each(|act| oracle.act(&mut pair, act));
        pair.advance(Duration::from_millis(5));
        pair.lose(ReplicaId::A);
        pair.request(session, b"random");
        check_determinism(Probe::wrapped, &pair.script()).unwrap();
    }
}

#[test]
fn records_that_end_early_or_are_no_state_are_refused() {
    let mut scenario = super::Scenario::new();
    scenario.ask("timer 5 1");
    scenario.pair.connect("echo").unwrap();
    let records = scenario.pair.freeze().unwrap();
    let count = records.len();
    assert!(count > 5);
    for kept in 0..count {
        let short = records.clone().truncated(kept);
        let error = restore(short).unwrap_err();
        assert!(matches!(error, RestoreError::Missing { .. }), "{kept}: {error}");
    }
    for garbled in 0..count {
        let damaged = records.clone().with(garbled, &[0xff; 7]);
        assert!(restore(damaged).is_err(), "record {garbled}");
    }
    restore(records).unwrap();
}

fn restore(mut records: Records) -> Result<(), RestoreError> {
    use lockstep::machine::StateMachine;
    Probe::wrapped().restore(&mut records)
}
