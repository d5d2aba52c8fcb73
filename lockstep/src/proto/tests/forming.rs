//! Stories of a pair's first moments.

use super::pair::{MS, Pair};
use crate::entry::EntryKind;
use crate::event::Event;
use crate::ids::{Epoch, Lineage, Place};
use crate::record::{Origin, Record};

use Place::{A, B};

#[test]
fn a_lineage_begun_while_the_pair_forms_is_the_one_it_is_formed_on() {
    let mut pair = Pair::new();
    while !pair.node(A).saw(|event| matches!(event, Event::Asked { .. })) {
        pair.run(MS / 10);
    }
    pair.record = Record::vacant(pair.record.pair, Lineage(1), Epoch(0));
    pair.run(MS * 300);
    assert_eq!(pair.record.origin, Origin::Formed);
    assert_eq!(pair.record.lineage, Lineage(1));
}

#[test]
fn a_follower_whose_sequencer_dies_before_the_first_entry_begins_the_log_itself() {
    let mut pair = Pair::new();
    while pair.record.origin != Origin::Formed {
        pair.run(MS / 10);
    }
    pair.kill(A);
    pair.run(MS * 500);
    pair.device_input(B, "one");
    pair.run(MS * 5);
    assert_eq!(pair.node(B).texts(), ["one"]);
    assert!(matches!(pair.node(B).executed[0], EntryKind::Genesis { .. }));
}
