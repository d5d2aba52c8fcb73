//! What comes to a CoServer process: frames, results, inputs of clients and devices.

use bytes::Bytes;

use super::checkers::Observation;
use super::marks::Mark;
use super::mutants::Mutant;
use super::net::WireId;
use super::node::{Arrival, DEVICE_QUEUE};
use super::service::PORT;
use super::wiring::{Party, Role};
use super::world::World;
use crate::entry::EntryKind;
use crate::ids::{ConnId, Index, LinkId, ReplicaId};
use crate::proto::{Input, Standing, StorageResponse};
use crate::wire::codec;
use crate::wire::frames::{ClientCall, Death, PeerFrame};

/// What arrives at a CoServer's process.
impl World {
    pub(super) fn on_arrival(&mut self, place: ReplicaId, arrival: Arrival) {
        match arrival {
            Arrival::LinkUp(link) => self.tell(place, Input::LinkUp { link }),
            Arrival::LinkDown(link) => self.tell(place, Input::LinkDown { link }),
            Arrival::LinkWritable(link) => self.tell(place, Input::LinkWritable { link }),
            Arrival::WitnessUp(slot) => self.on_witness_wire(place, slot, true),
            Arrival::WitnessDown(slot) => self.on_witness_wire(place, slot, false),
            Arrival::ClientUp(wire) => self.on_conn_up(place, wire),
            Arrival::ClientDown(wire) => self.on_conn_down(place, wire),
            Arrival::Executed(executed) => self.give_result(place, executed),
            Arrival::Disk(response) => self.on_storage(place, response),
            Arrival::PeerDied(incarnation) => {
                let how = Death::Killed { signal: 9 };
                self.tell(place, Input::PeerDied { incarnation, how });
            }
            Arrival::Command(command) => self.tell(place, Input::Command(command)),
            Arrival::Poke => {}
            Arrival::Frame { wire, generation, role, bytes } => {
                if self.wires[wire.0].generation != generation {
                    return;
                }
                let end = if role == Role::Client { 1 } else { self.end_at(place, role) };
                self.taken(wire, end, bytes.len());
                match role {
                    Role::Link(link) => self.on_peer_frame(place, wire, link, &bytes),
                    Role::Witness(slot) => self.on_witness_frame(place, slot, wire, &bytes),
                    Role::Client => self.on_client_call(place, wire, &bytes),
                }
            }
        }
    }

    fn on_storage(&mut self, place: ReplicaId, mut response: StorageResponse) {
        if let StorageResponse::Recovered(Ok(recovered)) = &mut response {
            match self.options.mutant {
                Some(Mutant::LostTail) => recovered.tail.clear(),
                Some(Mutant::OtherState) => recovered.outputs.0[0] ^= 1,
                _ => {}
            }
        }
        let Some(who) = self.servers[place.slot()].who() else { return };
        self.trace.say(self.at, || format!("{who} <- disk  {}", in_brief(&response)));
        if let StorageResponse::Recovered(Err(_)) = &response {
            // Whatever it held, it goes on with nothing.
            self.see(Observation::Truncated { who, after: Index(0) });
        }
        if let StorageResponse::Recovered(Ok(recovered)) = &response {
            self.see(Observation::Restored { who, recovered });
            for entry in &recovered.tail {
                self.see(Observation::Appended { who, entry });
            }
        }
        self.tell(place, Input::Storage(response));
    }

    pub(super) fn end_at(&self, place: ReplicaId, role: Role) -> usize {
        if matches!(role, Role::Witness(_)) { 0 } else { place.slot() }
    }

    pub(super) fn on_peer_frame(
        &mut self,
        place: ReplicaId,
        wire: WireId,
        link: LinkId,
        bytes: &[u8],
    ) {
        let Ok(mut frame) = codec::decode_peer(bytes) else {
            self.reach(Mark::CorruptRefused);
            self.trace.say(self.at, || format!("{place} refuses a frame on link {link}"));
            self.close(wire, place.slot());
            return self.tell(place, Input::LinkDown { link });
        };
        self.trace.say(self.at, || format!("{place} <- link {link}  {}", brief(&frame)));
        if let PeerFrame::Batch { entries, .. } = &mut frame {
            let last_index = self.last_index(place);
            if entries.first().is_some_and(|entry| entry.index <= last_index) {
                self.reach(Mark::LateDuplicate);
            }
            if self.options.mutant == Some(Mutant::OtherEntry) && place == ReplicaId::B {
                entries.iter_mut().filter(|entry| entry.index.0 % 8 == 0).for_each(|entry| {
                    entry.time.0 += 1;
                });
            }
            if self.options.mutant == Some(Mutant::OtherOrder) && place == ReplicaId::B {
                entries.iter_mut().for_each(|entry| {
                    let reversed: Vec<_> = entry.kind.inputs().iter().rev().cloned().collect();
                    if reversed.len() > 1 {
                        entry.kind = EntryKind::Inputs(reversed.into());
                    }
                });
            }
        }
        self.tell(place, Input::Peer { link, frame });
    }

    pub(super) fn last_index(&self, place: ReplicaId) -> Index {
        self.servers[place.slot()].process.as_ref().map_or(Index(0), |process| process.last_index)
    }

    /// The replica is told which of its witnesses are there.
    fn on_witness_wire(&mut self, place: ReplicaId, slot: u8, up: bool) {
        let Some(process) = &mut self.server(place).process else { return };
        process.witnesses[usize::from(slot)] = up;
        let input = match up {
            _ if process.slot != slot => Input::SpareWitness { up },
            true => Input::WitnessUp,
            false => Input::WitnessDown,
        };
        self.tell(place, input);
    }

    fn on_witness_frame(&mut self, place: ReplicaId, slot: u8, wire: WireId, bytes: &[u8]) {
        let asked = self.servers[place.slot()].process.as_ref().map(|process| process.slot);
        if asked != Some(slot) {
            // Of one that was asked before.
            return;
        }
        let Ok(answer) = codec::decode_witness_answer(bytes) else {
            self.reach(Mark::CorruptRefused);
            self.close(wire, 0);
            return self.on_witness_wire(place, slot, false);
        };
        self.trace.say(self.at, || format!("{place} <- witness {slot}  {answer:?}"));
        let serves = matches!(
            self.servers[place.slot()].process.as_ref().map(|process| process.standing),
            Some(Standing::Serving { .. } | Standing::Holding)
        );
        if serves && self.options.mutant == Some(Mutant::DeafToWitness) {
            return;
        }
        self.tell(place, Input::Witness(answer));
    }

    pub(super) fn on_conn_up(&mut self, place: ReplicaId, wire: WireId) {
        let Some(process) = &mut self.server(place).process else { return };
        process.next_conn += 1;
        let conn = ConnId(process.next_conn);
        process.conns.insert(conn, wire);
        process.wires.insert(wire, conn);
    }

    pub(super) fn on_conn_down(&mut self, place: ReplicaId, wire: WireId) {
        let Some(process) = &mut self.server(place).process else { return };
        let Some(conn) = process.wires.remove(&wire) else { return };
        process.conns.remove(&conn);
        process.waiting.retain(|(from, _)| *from != conn);
        self.tell(place, Input::ClientGone { conn });
    }

    pub(super) fn on_client_call(&mut self, place: ReplicaId, wire: WireId, bytes: &[u8]) {
        let Some(process) = &mut self.server(place).process else { return };
        let Some(conn) = process.wires.get(&wire).copied() else { return };
        match codec::decode_client_calls(bytes) {
            Ok(calls) => {
                for call in calls {
                    if let ClientCall::Request { session, .. } = &call {
                        process.asked.insert(*session, conn);
                    }
                    process.waiting.push_back((conn, call));
                }
            }
            Err(_) => {
                self.reach(Mark::CorruptRefused);
                self.close(wire, 1);
                self.on_conn_down(place, wire);
            }
        }
    }

    /// Gives the core inputs of clients and devices while it takes them.
    pub(super) fn feed(&mut self, place: ReplicaId, batch: usize) {
        for _ in 0..batch {
            let Some(process) = &mut self.server(place).process else { return };
            let serves = matches!(process.standing, Standing::Serving { .. } | Standing::Holding);
            let takes = process.replica.takes_input();
            let first = process.waiting.front();
            let passes = first.is_some_and(|(_, call)| {
                takes || !serves || matches!(call, ClientCall::Hello { .. })
            });
            if passes && let Some((conn, call)) = process.waiting.pop_front() {
                self.trace.say(self.at, || format!("{place} <- client {conn}  {call:?}"));
                let client = self.client_of(place, conn);
                let (owner, permitted) = self.rights(place, client, &call);
                self.tell(place, Input::Client { conn, owner, permitted, call });
                continue;
            }
            let Some(id) = process.device.front().copied().filter(|_| takes) else { return };
            process.device.pop_front();
            process.taken.insert(id);
            self.device_inputs += 1;
            let bytes = Bytes::copy_from_slice(&id.to_le_bytes());
            let lost = self.options.mutant == Some(Mutant::LostInput) && id.is_multiple_of(16);
            if !lost {
                self.tell(place, Input::Device { device: PORT, bytes });
            }
        }
        // More is there: another round.
        let process = self.servers[place.slot()].process.as_ref();
        if process.is_some_and(|process| !process.waiting.is_empty()) {
            self.arrive(place, Arrival::Poke);
        }
    }

    /// Which client is at the other end.
    fn client_of(&self, place: ReplicaId, conn: ConnId) -> usize {
        let process = self.servers[place.slot()].process.as_ref();
        match process.and_then(|process| process.conns.get(&conn)).map(|wire| self.party(*wire, 0))
        {
            Some(Party::Client(client, _)) => client,
            party => panic!("a client's call comes from {party:?}"),
        }
    }

    /// A device of this CoServer has an input with this id.
    pub(super) fn offer(&mut self, place: ReplicaId, id: u64) {
        let Some(process) = &mut self.server(place).process else { return };
        if process.device.len() < DEVICE_QUEUE {
            process.device.push_back(id);
            self.arrive(place, Arrival::Poke);
        }
    }
}

fn in_brief(response: &StorageResponse) -> String {
    match response {
        StorageResponse::Recovered(Ok(recovered)) => {
            let (at, tail) = (recovered.history.index, recovered.tail.len());
            format!("recovered at {at}, {tail} entries after it")
        }
        StorageResponse::EntriesRead { after, entries: Some(entries) } => {
            format!("{} entries after {after}", entries.len())
        }
        StorageResponse::ChunkRead { checkpoint, offset, bytes: Some(bytes) } => {
            format!("{} bytes of checkpoint {checkpoint} at {offset}", bytes.len())
        }
        response => format!("{response:?}"),
    }
}

fn brief(frame: &PeerFrame) -> String {
    match frame {
        PeerFrame::Batch { epoch, progress, entries, forwards, .. } => format!(
            "batch epoch {epoch}, held {}, executed {}, entries {:?}, forwards {:?}",
            progress.last_index,
            progress.executed,
            entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>(),
            forwards.iter().map(|forward| forward.number.0).collect::<Vec<_>>(),
        ),
        PeerFrame::Ping { sequence, epoch, progress, .. } => format!(
            "ping {sequence}, epoch {epoch}, held {}, executed {}",
            progress.last_index, progress.executed
        ),
        PeerFrame::Epoch { record } => super::witness::short(record),
        PeerFrame::Asked { request } => {
            format!("asked for {}", super::witness::short(&request.next))
        }
        frame => format!("{frame:?}"),
    }
}
