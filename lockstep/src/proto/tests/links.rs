//! Stories of what goes over which link, and of clients' connections.

use super::pair::{MS, Pair};
use crate::ids::Place;
use crate::limits;

use Place::A;

#[test]
fn bulk_is_not_left_to_a_link_that_is_silent() {
    let mut pair = Pair::formed();
    pair.cut(1, false);
    pair.run(MS * 300);
    let bulk = "x".repeat(limits::BULK_BYTES);
    for _ in 0..4 {
        pair.device_input(A, &bulk);
    }
    pair.run(MS * 2);
    assert_eq!(pair.node(A).released.len(), 4);
}
