//! Stories of a pair's first moments.

use super::pair::{MS, Pair};
use crate::event::Event;
use crate::ids::{Epoch, Lineage, Place};
use crate::record::{Origin, Record};

use Place::A;

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
