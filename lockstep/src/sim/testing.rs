//! What several tests need.

use core::time::Duration;

use super::checkers::Who;
use crate::ids::{Index, LogTime};
use crate::proto::SessionCounts;
use crate::proto::io::{Standing, Status};

/// The state of a replica that has done nothing.
pub(super) fn status(who: Who) -> Status {
    Status {
        place: who.place,
        incarnation: who.incarnation,
        standing: Standing::Starting,
        record: None,
        is_sequencer: false,
        last_index: Index(0),
        executed: Index(0),
        agreed: Index(0),
        released: Index(0),
        peer_held: Index(0),
        peer_executed: Index(0),
        peer: None,
        links: Vec::new(),
        silence: Duration::ZERO,
        witness_up: false,
        witness_slot: 0,
        time: LogTime(0),
        pending: 0,
        held_for_repair: false,
        wait: None,
        sessions: SessionCounts::default(),
    }
}
