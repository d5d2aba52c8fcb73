//! Any traffic at all: every byte comes back once, in order, within the windows.

use proptest::prelude::*;

use crate::Harness;
use crate::tcp::{Client, ConnectionState};

use super::Probe;

/// What a far end may do.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(usize, usize),
    Stall(usize, bool),
    HalfClose(usize),
    Reset(usize),
    Chunk(usize),
}

const CLIENTS: usize = 3;

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = 0..CLIENTS;
    let act = prop_oneof![
        8 => (client.clone(), prop_oneof![1..200usize, 20_000..90_000usize])
            .prop_map(|(client, len)| Act::Send(client, len)),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, on)| Act::Stall(client, on)),
        1 => client.clone().prop_map(Act::HalfClose),
        1 => client.prop_map(Act::Reset),
        1 => (1..70_000usize).prop_map(Act::Chunk),
    ];
    proptest::collection::vec(act, 1..60)
}

/// The far ends, with what each has sent and got back.
#[derive(Default)]
pub(super) struct Oracle {
    clients: Vec<(Client, Vec<u8>, Vec<u8>, bool)>,
    next: u8,
}

impl Oracle {
    pub(super) fn connect(pair: &mut Harness<Probe>) -> Self {
        let connect = |_| (pair.connect("echo").unwrap(), Vec::new(), Vec::new(), false);
        Self { clients: (0..CLIENTS).map(connect).collect(), next: 0 }
    }

    pub(super) fn act(&mut self, pair: &mut Harness<Probe>, act: &Act) {
        match *act {
            Act::Send(at, len) => {
                let (client, sent, _, closed) = &mut self.clients[at];
                if *closed || pair.fate(*client) == ConnectionState::Reset {
                    return;
                }
                let mut bytes = vec![0; len];
                for byte in &mut bytes {
                    self.next = self.next.wrapping_mul(5).wrapping_add(113);
                    *byte = self.next;
                }
                sent.extend_from_slice(&bytes);
                pair.send(*client, &bytes);
            }
            Act::Stall(at, on) => pair.stall(self.clients[at].0, on),
            Act::HalfClose(at) => {
                self.clients[at].3 = true;
                pair.half_close(self.clients[at].0);
            }
            Act::Reset(at) => pair.reset(self.clients[at].0),
            Act::Chunk(bytes) => pair.set_chunk(bytes),
        }
        self.check(pair);
    }

    fn check(&mut self, pair: &mut Harness<Probe>) {
        for (client, sent, got, _) in &mut self.clients {
            let from = got.len();
            got.extend(pair.take(*client));
            assert!(sent.len() >= got.len());
            assert_eq!(sent[from..got.len()], got[from..], "bytes are lost or out of order");
        }
    }

    /// Everybody reads on: whatever was not cut off arrives whole.
    pub(super) fn finish(&mut self, pair: &mut Harness<Probe>) {
        for at in 0..CLIENTS {
            self.act(pair, &Act::Stall(at, false));
        }
        for (client, sent, got, closed) in &self.clients {
            if pair.fate(*client) != ConnectionState::Reset {
                assert_eq!(sent.len(), got.len(), "bytes are missing");
                let expected = if *closed { ConnectionState::Ended } else { ConnectionState::Open };
                assert_eq!(pair.fate(*client), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_traffic_comes_back_whole_and_in_order(acts in acts()) {
        let mut pair = Harness::new(Probe::wrapped());
        let mut oracle = Oracle::connect(&mut pair);
        for act in &acts {
            oracle.act(&mut pair, act);
        }
        oracle.finish(&mut pair);
    }
}
