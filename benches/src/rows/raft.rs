//! raft-rs, from the peers' program: one request replicated, committed and
//! answered. The nodes themselves are in `benches/peers`.

use super::Row;
use crate::harness::{BUILD_PEERS, Cast, PartSpec, Program, RunError, Setup};
use crate::placement::Seat;

/// How many nodes the group has.
#[derive(Clone, Copy)]
pub(super) enum Nodes {
    /// Survives nothing, and replicates as much as a pair does.
    Two,
    /// The smallest group that survives a failure.
    Three,
}

pub(super) struct Raft {
    pub(super) nodes: Nodes,
}

impl Row for Raft {
    fn name(&self) -> &'static str {
        match self.nodes {
            Nodes::Two => "raft-rs-2",
            Nodes::Three => "raft-rs-3",
        }
    }

    fn about(&self) -> &'static str {
        match self.nodes {
            Nodes::Two => {
                "raft-rs, two processes (survives no failure), TCP, in memory; a client's \
                 request to its reply"
            }
            Nodes::Three => {
                "raft-rs, three processes, TCP, in memory; a client's request to its reply"
            }
        }
    }

    fn unavailable(&self, setup: &Setup) -> Option<String> {
        let missing = setup.peers.is_none();
        missing.then(|| format!("the peers' program is not built: {BUILD_PEERS}"))
    }

    fn cast(&self, _setup: &Setup) -> Result<Cast, RunError> {
        // The first node campaigns and leads. The third sits with the second:
        // left free it may land beside the leader, and then a majority is
        // reached on one core, as no two machines could do it.
        let seats: &[Seat] = match self.nodes {
            Nodes::Two => &[Seat::A, Seat::B],
            Nodes::Three => &[Seat::A, Seat::B, Seat::B],
        };
        let program = Program::Peers;
        let mut parts: Vec<_> = (1..)
            .zip(seats)
            .map(|(id, seat): (u64, _)| PartSpec {
                program,
                kind: "raft-node",
                seat: *seat,
                words: vec![id.to_string()],
            })
            .collect();
        let (kind, seat) = ("raft-client", Seat::Client);
        parts.push(PartSpec { program, kind, seat, words: Vec::new() });
        Ok(Cast { parts, keep: None })
    }
}
