//! The links, and the connections to the witness.

use lockstep::ids::{ConnId, LinkId, MonotonicTime, ReplicaId};
use lockstep::proto::Input;
use lockstep::wire::codec;
use lockstep::wire::frames::{PeerFrame, WitnessCall};
use lockstep::witness;

use super::node::{Mail, Node};
use super::world::{PAIR, World};

impl World {
    pub(super) fn connect(&mut self, link: LinkId) {
        let slot = usize::from(link.0);
        let both = self.nodes.iter().all(Node::runs);
        if self.connections[slot].is_none() && both {
            self.connections[slot] = Some(self.number());
            for place in ReplicaId::BOTH {
                self.node(place).blocked.remove(&link);
                self.tell(place, Input::LinkUp { link });
            }
        }
    }

    pub(super) fn disconnect(&mut self, link: LinkId) {
        if self.connections[usize::from(link.0)].take().is_some() {
            for place in ReplicaId::BOTH {
                self.node(place).blocked.remove(&link);
                self.tell(place, Input::LinkDown { link });
            }
        }
    }

    /// The link brings nothing, and nobody is told.
    pub(super) fn cut(&mut self, link: LinkId, cut: bool) {
        self.cut[usize::from(link.0)] = cut;
    }

    /// A link's queue is full, or no more.
    pub(super) fn block(&mut self, place: ReplicaId, link: LinkId, full: bool) {
        if full {
            self.node(place).blocked.entry(link).or_insert(false);
        } else if self.node(place).blocked.remove(&link) == Some(true) {
            self.tell(place, Input::LinkWritable { link });
        }
    }

    pub(super) fn send(&mut self, from: ReplicaId, link: LinkId, frame: &PeerFrame) {
        if let Some(told) = self.node(from).blocked.get_mut(&link) {
            if !::core::mem::replace(told, true) {
                self.tell(from, Input::LinkBlocked { link });
            }
            return;
        }
        if let PeerFrame::Admit { record, .. } = frame
            && let Some(joiner) = record.members.at(from.other())
        {
            self.on_admit(from, joiner);
        }
        let bytes = codec::encode_peer(frame).expect("a replica makes frames within the limits");
        if let Some(connection) = self.connections[usize::from(link.0)] {
            self.post(from.other(), Mail::Peer { link, connection, bytes });
        }
    }

    /// It goes away, comes back, or one connection to it is lost.
    pub(super) fn witness(&mut self, choice: u8) {
        let place = if choice & 1 == 0 { ReplicaId::A } else { ReplicaId::B };
        match choice >> 1 & 7 {
            0 => {
                self.witness_up = false;
                for place in ReplicaId::BOTH {
                    self.leave_witness(place);
                }
            }
            1..=3 => {
                self.witness_up = true;
                for place in ReplicaId::BOTH {
                    self.reach_witness(place);
                }
            }
            4 => self.leave_witness(place),
            5 if self.witness_deaf => self.hear_again(),
            5 => self.witness_deaf = true,
            _ => self.reach_witness(place),
        }
    }

    pub(super) fn reach_witness(&mut self, place: ReplicaId) {
        let free = self.witness_conns[place.slot()].is_none();
        if self.witness_up && free && self.node(place).runs() {
            self.witness_conns[place.slot()] = Some(ConnId(self.number()));
            self.tell(place, Input::WitnessUp);
        }
    }

    /// The witness hears again. Connections on which something was lost are over.
    pub(super) fn hear_again(&mut self) {
        if ::core::mem::take(&mut self.witness_deaf) {
            for place in ReplicaId::BOTH {
                self.leave_witness(place);
            }
        }
    }

    fn on_closed(&mut self, conn: ConnId) {
        for place in ReplicaId::BOTH {
            if self.witness_conns[place.slot()] == Some(conn) {
                self.leave_witness(place);
            }
        }
    }

    pub(super) fn leave_witness(&mut self, place: ReplicaId) {
        if let Some(conn) = self.witness_conns[place.slot()].take() {
            self.witness.handle(MonotonicTime(self.now), witness::Input::Closed { conn });
            self.tell(place, Input::WitnessDown);
        }
    }

    pub(super) fn ask(&mut self, from: ReplicaId, call: &WitnessCall) {
        let Some(conn) = self.witness_conns[from.slot()].filter(|_| !self.witness_deaf) else {
            return;
        };
        if let WitnessCall::CompareAndSwap { request } = call {
            let asked = &self.node(from).disk.membership.asked;
            assert!(asked.contains(&request.next), "asked for what is not on its disk");
        }
        let bytes = codec::encode_witness_call(call).expect("a call within the limits");
        let call = codec::decode_witness_call(&bytes).expect("as it was written");
        let input = witness::Input::Call { conn, pair: PAIR, place: from, call };
        self.witness.handle(MonotonicTime(self.now), input);
        while let Some(output) = self.witness.poll() {
            match output {
                witness::Output::Answer { conn, answer } => {
                    let bytes = codec::encode_witness_answer(&answer).expect("an answer");
                    for place in ReplicaId::BOTH {
                        if self.witness_conns[place.slot()] == Some(conn) {
                            self.post(place, Mail::Witness { conn, bytes: bytes.clone() });
                        }
                    }
                }
                witness::Output::Store { record, .. } | witness::Output::Adopt { record } => {
                    self.on_recorded(&record);
                    let stored = witness::Input::Stored {
                        pair: record.pair,
                        stored: witness::Stored::There,
                    };
                    self.witness.handle(MonotonicTime(self.now), stored);
                }
                witness::Output::Close { conn } => self.on_closed(conn),
                witness::Output::Distrust { .. } => panic!("the witness lost nothing"),
                witness::Output::Event(_) => {}
            }
        }
    }
}
