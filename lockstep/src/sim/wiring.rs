//! Connections in the world: who is at which end, sending, arriving, dialling, breaking.

use bytes::{Bytes, BytesMut};

use super::checkers::Observation;
use super::marks::Mark;
use super::net::{Item, Sent, WireId};
use super::node::Arrival;
use super::world::{Due, World};
use crate::ids::{LinkId, ReplicaId};

/// Who is at an end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// The CoServer at this place, by what the wire is to it.
    Server(ReplicaId, Role),
    /// The witness in this slot; the asker's place.
    Witness(ReplicaId, u8),
    /// A client, and which CoServer the wire leads to.
    Client(usize, ReplicaId),
}

/// What a wire is to a CoServer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A link to its peer.
    Link(LinkId),
    /// A connection to the witness in this slot.
    Witness(u8),
    /// A connection of a client.
    Client,
}

impl World {
    pub(super) fn link_wire(&self, link: LinkId) -> WireId {
        WireId(usize::from(link.0))
    }

    pub(super) fn witness_wire(&self, place: ReplicaId, slot: u8) -> WireId {
        WireId(self.options.links.len() + 2 * usize::from(slot) + place.slot())
    }

    /// The slots of the witnesses that there are.
    pub(super) fn slots(&self) -> core::ops::Range<u8> {
        0..self.options.witnesses
    }

    fn witness_wires(&self) -> usize {
        2 * usize::from(self.options.witnesses)
    }

    pub(super) fn client_wire(&self, client: usize, place: ReplicaId) -> WireId {
        WireId(self.options.links.len() + self.witness_wires() + 2 * client + place.slot())
    }

    pub(super) fn party(&self, wire: WireId, end: usize) -> Party {
        let links = self.options.links.len();
        if wire.0 < links {
            let link = LinkId(u8::try_from(wire.0).unwrap_or(u8::MAX));
            return Party::Server(ReplicaId::BOTH[end], Role::Link(link));
        }
        let at = wire.0 - links;
        let slot = u8::try_from(at / 2).unwrap_or(u8::MAX);
        match (at.checked_sub(self.witness_wires()), end) {
            (None, 0) => Party::Server(ReplicaId::BOTH[at % 2], Role::Witness(slot)),
            (None, _) => Party::Witness(ReplicaId::BOTH[at % 2], slot),
            (Some(at), 0) => Party::Client(at / 2, ReplicaId::BOTH[at % 2]),
            (Some(at), _) => Party::Server(ReplicaId::BOTH[at % 2], Role::Client),
        }
    }

    fn runs(&self, party: Party) -> bool {
        match party {
            Party::Server(place, _) => self.servers[place.slot()].is_running(),
            Party::Witness(place, slot) => self.witnesses.is_running(place, slot),
            Party::Client(client, place) => self.clients[client].wants(place),
        }
    }

    /// Sends a frame from this end; `false` if the lane is full.
    pub(super) fn send(&mut self, wire: WireId, from: usize, bytes: Bytes) -> bool {
        if !self.wires[wire.0].open[from] {
            return true;
        }
        self.push(wire, from, Item::Frame(bytes))
    }

    fn push(&mut self, wire: WireId, from: usize, item: Item) -> bool {
        let generation = self.wires[wire.0].generation;
        let lane = &mut self.wires[wire.0].lanes[from];
        match lane.send(self.at, &item, &mut self.rng) {
            Sent::Arrives { at, again, damaged } => {
                let to = 1 - from;
                if let Some(again) = again {
                    let item = item.clone();
                    self.queue.put(again, Due::Arrive { wire, to, generation, item });
                }
                let item = if damaged { self.damage(item) } else { item };
                self.queue.put(at, Due::Arrive { wire, to, generation, item });
                true
            }
            Sent::Lost => true,
            Sent::Full => false,
        }
    }

    fn damage(&mut self, item: Item) -> Item {
        let Item::Frame(bytes) = item else { return item };
        let mut bytes = BytesMut::from(&bytes[..]);
        if !bytes.is_empty() {
            let at = self.rng.below(bytes.len());
            bytes[at] ^= 1 << self.rng.from(0, 7);
        }
        Item::Frame(bytes.freeze())
    }

    pub(super) fn on_arrive(&mut self, wire: WireId, to: usize, generation: u32, item: Item) {
        let known = &mut self.wires[wire.0];
        if generation != known.generation {
            return;
        }
        let lane = &mut known.lanes[1 - to];
        if lane.is_stalled() {
            return lane.wait(generation, item);
        }
        let detail = (wire.0 as u64) << 8 | to as u64;
        match item {
            Item::Up => {
                self.trace.step(self.at, 1, detail);
                self.on_up(wire, to);
            }
            Item::Down => {
                self.trace.step(self.at, 2, detail);
                self.on_down(wire, to);
            }
            Item::Frame(bytes) => {
                self.trace.step(self.at, 3, detail);
                self.trace.bytes(&bytes);
                self.on_frame(wire, to, bytes);
            }
        }
    }

    fn on_up(&mut self, wire: WireId, end: usize) {
        let party = self.party(wire, end);
        if !self.runs(party) {
            return;
        }
        self.wires[wire.0].open[end] = true;
        match party {
            Party::Server(place, Role::Link(link)) => self.arrive(place, Arrival::LinkUp(link)),
            Party::Server(place, Role::Witness(slot)) => {
                self.arrive(place, Arrival::WitnessUp(slot));
            }
            Party::Server(place, Role::Client) => self.arrive(place, Arrival::ClientUp(wire)),
            Party::Witness(place, slot) => self.on_asker_up(place, slot),
            Party::Client(client, place) => self.on_client_up(client, place),
        }
    }

    fn on_down(&mut self, wire: WireId, end: usize) {
        if !core::mem::take(&mut self.wires[wire.0].open[end]) {
            return;
        }
        self.tell_down(wire, end);
        self.redial_when_down(wire);
    }

    fn tell_down(&mut self, wire: WireId, end: usize) {
        match self.party(wire, end) {
            Party::Server(place, Role::Link(link)) => self.arrive(place, Arrival::LinkDown(link)),
            Party::Server(place, Role::Witness(slot)) => {
                self.arrive(place, Arrival::WitnessDown(slot));
            }
            Party::Server(place, Role::Client) => self.arrive(place, Arrival::ClientDown(wire)),
            Party::Witness(place, slot) => self.on_asker_down(place, slot),
            Party::Client(client, place) => self.on_client_down(client, place),
        }
    }

    fn on_frame(&mut self, wire: WireId, end: usize, bytes: Bytes) {
        if !self.wires[wire.0].open[end] {
            return self.reset_unknown(wire, end);
        }
        match self.party(wire, end) {
            Party::Server(place, role) => {
                let generation = self.wires[wire.0].generation;
                self.arrive(place, Arrival::Frame { wire, generation, role, bytes });
            }
            Party::Witness(place, slot) => {
                self.taken(wire, end, bytes.len());
                self.on_asked(place, slot, &bytes);
            }
            Party::Client(client, place) => {
                self.taken(wire, end, bytes.len());
                self.on_client_frame(client, place, &bytes);
            }
        }
    }

    /// A client has sent to a process that is not the one that it was connected to: the new one
    /// says that it knows of no such connection.
    fn reset_unknown(&mut self, wire: WireId, end: usize) {
        if let party @ Party::Server(_, Role::Client) = self.party(wire, end)
            && self.runs(party)
        {
            self.push(wire, end, Item::Down);
        }
    }

    /// The party at this end has taken a frame; a sender that waited for room may go on.
    pub(super) fn taken(&mut self, wire: WireId, end: usize, len: usize) {
        if self.wires[wire.0].lanes[1 - end].taken(len)
            && let Party::Server(place, Role::Link(link)) = self.party(wire, 1 - end)
        {
            self.arrive(place, Arrival::LinkWritable(link));
        }
    }

    /// The party at this end closes the connection, after what it has sent.
    pub(super) fn close(&mut self, wire: WireId, end: usize) {
        if !core::mem::take(&mut self.wires[wire.0].open[end]) {
            return;
        }
        self.push(wire, end, Item::Down);
        self.expect_idle(wire);
        self.redial_when_down(wire);
    }

    /// The process at this end is gone. Its clients are told by its system, or by nobody.
    pub(super) fn abandon(&mut self, wire: WireId, end: usize) {
        self.wires[wire.0].open[end] = false;
        if self.wires[wire.0].open[1 - end] {
            if !self.is_client_wire(wire) || self.rng.chance(500) {
                self.push(wire, end, Item::Down);
            }
            self.expect_idle(wire);
        } else {
            self.void(wire);
        }
    }

    /// A new process is at this end: whatever the other end had of the old one is over. A client
    /// notices when it next sends something.
    pub(super) fn renew(&mut self, wire: WireId, end: usize) {
        self.wires[wire.0].open[end] = false;
        if self.is_client_wire(wire) && self.wires[wire.0].open[1 - end] {
            return;
        }
        self.void(wire);
        self.on_down(wire, 1 - end);
        self.redial_when_down(wire);
    }

    /// After a while on which nothing gets through, the connection will be found broken.
    pub(super) fn expect_idle(&mut self, wire: WireId) {
        let Self { wires, queue, at, .. } = self;
        let generation = wires[wire.0].generation;
        queue.put(*at + wires[wire.0].idle, Due::Idle { wire, generation });
    }

    pub(super) fn on_idle(&mut self, wire: WireId, generation: u32) {
        let (at, known) = (self.at, &self.wires[wire.0]);
        if known.generation != generation || known.is_down() {
            return;
        }
        let long = known.lanes.iter().filter_map(|lane| lane.stalled_since());
        let stalled = long.min().is_some_and(|since| at - since >= known.idle);
        if stalled || !known.is_up() {
            self.break_off(wire);
        }
    }

    /// The connection breaks: both ends notice at once, and what is under way is lost.
    pub(super) fn break_off(&mut self, wire: WireId) {
        self.void(wire);
        for end in [0, 1] {
            self.on_down(wire, end);
        }
        self.redial_when_down(wire);
    }

    /// What is under way does not arrive any more; a client that was being connected is told.
    fn void(&mut self, wire: WireId) {
        let known = &mut self.wires[wire.0];
        known.generation += 1;
        if let Party::Client(client, place) = self.party(wire, 0)
            && !self.wires[wire.0].open[0]
            && !self.wires[wire.0].dialling
        {
            self.on_not_dialled(client, place);
        }
    }

    /// The CoServers dial each other and the witness for ever; a client's core dials itself.
    fn redial_when_down(&mut self, wire: WireId) {
        if self.wires[wire.0].is_down() && !self.is_client_wire(wire) {
            self.redial(wire);
        }
    }

    fn is_client_wire(&self, wire: WireId) -> bool {
        matches!(self.party(wire, 0), Party::Client(..))
    }

    /// The client finds out whether the process that it is connected to is there.
    pub(super) fn is_answered(&self, wire: WireId) -> bool {
        let known = &self.wires[wire.0];
        known.is_up() && !known.is_stalled() && self.runs(self.party(wire, 1))
    }

    /// Somebody dials in a while.
    pub(super) fn redial(&mut self, wire: WireId) {
        if !core::mem::replace(&mut self.wires[wire.0].dialling, true) {
            let at = self.at + self.rng.spread(200_000, 20_000_000);
            self.queue.put(at, Due::Dial { wire });
        }
    }

    pub(super) fn on_dial(&mut self, wire: WireId) {
        self.wires[wire.0].dialling = false;
        let ends = [0, 1].map(|end| self.runs(self.party(wire, end)));
        let down = self.wires[wire.0].is_down();
        let stalled = self.wires[wire.0].is_stalled();
        if let Party::Client(client, place) = self.party(wire, 0) {
            if ends != [true, true] || stalled {
                // Refused, or no answer: its core dials again when it thinks fit.
                return self.on_not_dialled(client, place);
            }
            self.give_way(wire);
        } else if ends != [true, true] || !down {
            // Whoever starts dials then.
            return;
        }
        if stalled {
            return self.redial(wire);
        }
        let (at, known) = (self.at, &mut self.wires[wire.0]);
        known.generation += 1;
        known.lanes.iter_mut().for_each(|lane| lane.reset(at));
        for end in [0, 1] {
            self.push(wire, end, Item::Up);
        }
    }

    /// A client's new connection takes the place of what is left of the one before.
    fn give_way(&mut self, wire: WireId) {
        let [client, server] = core::mem::take(&mut self.wires[wire.0].open);
        if client {
            self.reach(Mark::ClientReplaces);
        }
        if server {
            self.tell_down(wire, 1);
        }
    }

    /// Carries on what has waited for a lane.
    pub(super) fn carry_on(
        &mut self,
        wire: WireId,
        from: usize,
        waiting: std::collections::VecDeque<(u32, Item)>,
    ) {
        for (generation, item) in waiting {
            let at = self.wires[wire.0].lanes[from].resend(self.at, &mut self.rng);
            self.queue.put(at, Due::Arrive { wire, to: 1 - from, generation, item });
        }
    }

    /// A frame on a link: full links are told to the sender.
    pub(super) fn send_on_link(&mut self, from: ReplicaId, link: LinkId, bytes: Bytes) -> bool {
        let wire = self.link_wire(link);
        let sent = self.send(wire, from.slot(), bytes);
        if !sent {
            self.reach(Mark::LinkBlocked);
        }
        let queued = self.wires[wire.0].lanes[from.slot()].in_flight();
        self.see(Observation::Queued { from, bytes: queued });
        sent
    }
}
