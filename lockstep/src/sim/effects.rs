//! What a replica core wants done, and is done for it.

use bytes::BytesMut;

use super::checkers::{Observation, OutputName, Who};
use super::mutants::Mutant;
use super::node::GRACE;
use super::options::Durability;
use super::storage::Job;
use super::world::{Due, World};
use crate::entry::{Entry, EntryKind, InputKind};
use crate::event::StopCause;
use crate::ids::{ConnId, LogTime, ReplicaId};
use crate::output::{Carrier, OutputKind};
use crate::proto::{Input, Output, Replica, StorageRequest, StorageResponse};
use crate::record::Origin;
use crate::wire::frames::{ClientAnswer, PeerFrame, WitnessAnswer, WitnessCall};

/// What a core wants done.
impl World {
    pub(super) fn drain(&mut self, place: ReplicaId) {
        self.execute_first(place);
        while self.settle(place, Replica::poll) {}
    }

    /// As the runtime does where steps are short: they are executed before anything of them
    /// is sent.
    fn execute_first(&mut self, place: ReplicaId) {
        let (most, slot) = (self.options.executes_first[place.slot()], place.slot());
        let is_short =
            self.options.service_time[slot].is_none() && self.servers[slot].slowness == 0;
        let Some(process) = self.servers[slot].process.as_mut().filter(|_| most != 0 && is_short)
        else {
            return;
        };
        process.replica.hand_out_first(most);
        self.settle(place, Replica::poll_decided);
    }

    /// Carries out what there is, and tells what came of it; whether there was any such.
    fn settle(&mut self, place: ReplicaId, poll: fn(&mut Replica) -> Option<Output>) -> bool {
        let mut answers = Vec::new();
        while let Some(output) =
            self.server(place).process.as_mut().and_then(|process| poll(&mut process.replica))
        {
            self.carry_out(place, output, &mut answers);
            if self.verdict.is_some() {
                return false;
            }
        }
        let has_answers = !answers.is_empty();
        for input in answers {
            match input {
                Input::Executed(executed) => self.give_result(place, executed),
                input => self.tell(place, input),
            }
        }
        has_answers
    }

    pub(super) fn carry_out(&mut self, place: ReplicaId, output: Output, answers: &mut Vec<Input>) {
        let Some(who) = self.servers[place.slot()].who() else { return };
        match output {
            Output::Peer { links, frame } => self.send_to_peer(who, links, &frame, answers),
            Output::Recover { to } => {
                answers.retain(|answer| !matches!(answer, Input::Executed(_)));
                self.abandon_state(place);
                self.cut_log(place);
                self.store(place, Job::Recover { to });
            }
            Output::Storage(StorageRequest::Truncate { .. })
                if self.options.mutant == Some(Mutant::KeptTail) => {}
            Output::Storage(request) => {
                if let StorageRequest::Truncate { after } = request {
                    self.see(Observation::Truncated { who, after });
                    self.cut_log(place);
                }
                self.ask_store(place, request);
            }
            Output::WriteCheckpoint { history } => {
                answers.extend(self.write_checkpoint(place, history).map(Input::Storage));
            }
            Output::CloseLink { link } => {
                let wire = self.link_wire(link);
                self.close(wire, place.slot());
                answers.push(Input::LinkDown { link });
            }
            Output::UseWitness { .. }
                if self.options.mutant == Some(Mutant::OldWitness) && place == ReplicaId::B => {}
            Output::UseWitness { slot } => {
                if let Some(process) = &mut self.server(place).process {
                    process.slot = slot;
                    if process.witnesses[usize::from(slot)] {
                        answers.push(Input::WitnessUp);
                    }
                }
            }
            Output::Witness(WitnessCall::CompareAndSwap { request })
                if self.options.mutant == Some(Mutant::SelfGranted)
                    && request.next.origin == Origin::Alone =>
            {
                let record = request.next;
                answers.push(Input::Witness(WitnessAnswer::Present { record }));
            }
            Output::Witness(call) => {
                let slot = self.servers[place.slot()].process.as_ref().map_or(0, |p| p.slot);
                let wire = self.witness_wire(place, slot);
                match self.encoder.witness_call(&call) {
                    Ok(bytes) => self.send(wire, 0, bytes),
                    Err(error) => panic!("the call {call:?} cannot be encoded: {error}"),
                };
            }
            Output::Client { conn, answer } => self.answer(who, conn, &answer),
            Output::CloseClient { conn } => {
                let process = self.server(place).process.as_mut();
                let wire = process.and_then(|process| process.conns.remove(&conn));
                if let Some(wire) = wire {
                    if let Some(process) = &mut self.server(place).process {
                        process.wires.remove(&wire);
                        process.waiting.retain(|(from, _)| *from != conn);
                    }
                    self.close(wire, 1);
                }
            }
            Output::Append(entry) => {
                let early = self.options.mutant == Some(Mutant::EarlyPersisted);
                if self.options.durability == Durability::Memory || early {
                    answers.push(Input::Storage(StorageResponse::Persisted(entry.index)));
                }
                self.store_entry(place, entry.clone());
                self.appended(who, entry);
            }
            Output::Execute(entry) => self.execute(place, entry, answers),
            Output::Release { index, step, ordinal, epoch, kind } => {
                let name = OutputName { index, step, ordinal };
                self.release(who, name, epoch, kind);
            }
            Output::Standing(standing) => {
                if let Some(process) = &mut self.server(place).process {
                    process.standing = standing;
                }
                self.trace.say(self.at, || format!("{who} is {standing:?}"));
                self.see(Observation::Standing { who, standing });
            }
            Output::Event(event) => {
                self.trace.say(self.at, || format!("{who} event {event:?}"));
                self.see(Observation::Event { who, event: &event });
            }
            Output::Stop { cause } => self.stop(who, &cause),
        }
    }

    pub(super) fn stop(&mut self, who: Who, cause: &StopCause) {
        self.trace.say(self.at, || format!("{who} stops: {cause}"));
        self.see(Observation::Stopped { who, cause });
        let server = self.server(who.place);
        let life = server.life;
        if let Some(process) = &mut server.process
            && !core::mem::replace(&mut process.is_ending, true)
        {
            self.queue.put(self.at + GRACE, Due::Exit { place: who.place, life });
        }
    }

    pub(super) fn send_to_peer(
        &mut self,
        who: Who,
        links: crate::proto::io::LinkSet,
        frame: &PeerFrame,
        answers: &mut Vec<Input>,
    ) {
        if let PeerFrame::Batch { forwards, .. } = frame
            && let Some(last) = forwards.last()
        {
            self.watch.forwards(who, last.number);
        }
        self.watch_frames(who, frame);
        let bytes = match self.encoder.peer(frame) {
            Ok(bytes) => bytes,
            Err(error) => panic!("a frame of {who} cannot be encoded: {error}"),
        };
        for link in links.iter() {
            if !self.send_on_link(who.place, link, bytes.clone()) {
                answers.push(Input::LinkBlocked { link });
            }
        }
    }

    pub(super) fn answer(&mut self, who: Who, conn: ConnId, answer: &ClientAnswer) {
        self.trace.say(self.at, || format!("{who} -> client {conn}  {answer:?}"));
        self.see(Observation::Answered { who, answer });
        let process = self.servers[who.place.slot()].process.as_ref();
        let Some(wire) = process.and_then(|process| process.conns.get(&conn)).copied() else {
            return;
        };
        if let ClientAnswer::Reply { session, number, .. } = answer {
            let follows = !self.servers[who.place.slot()].is_sequencer();
            self.watch.answers(*session, *number, follows);
        }
        match self.encoder.client_answers(&vec![answer.clone()]) {
            Ok(bytes) => {
                if !self.send(wire, 1, bytes) {
                    self.close(wire, 1);
                    self.on_conn_down(who.place, wire);
                }
            }
            Err(error) => panic!("the answer {answer:?} cannot be encoded: {error}"),
        }
    }

    pub(super) fn appended(&mut self, who: Who, mut entry: Entry) {
        if self.options.mutant == Some(Mutant::ClockBack)
            && who.place == ReplicaId::A
            && entry.index.0.is_multiple_of(10)
        {
            entry.time = LogTime(entry.time.0 - 1_000_000_000);
        }
        if self.servers[who.place.slot()].is_sequencer()
            && entry.origin.incarnation == who.incarnation
        {
            self.watch.orders_own(who, entry.origin.number);
        }
        if let Some(process) = &mut self.server(who.place).process {
            process.last_index = entry.index;
        }
        self.trace.step(self.at, 33, entry.index.0);
        self.trace.say(self.at, || format!("{who} appends {}", entry_in_brief(&entry)));
        self.see(Observation::Appended { who, entry: &entry });
    }

    pub(super) fn release(
        &mut self,
        who: Who,
        name: OutputName,
        epoch: crate::ids::Epoch,
        kind: OutputKind,
    ) {
        let kind = match kind {
            OutputKind::Device { device, carrier, bytes }
                if self.options.mutant == Some(Mutant::RewriteRelease)
                    && who.place == ReplicaId::B
                    && carrier == Carrier::Both =>
            {
                let mut bytes = BytesMut::from(&bytes[..]);
                bytes.extend_from_slice(b"!");
                OutputKind::Device { device, carrier, bytes: bytes.freeze() }
            }
            kind => kind,
        };
        self.trace.step(self.at, 34, name.index.0);
        self.trace.say(self.at, || format!("{who} releases {name} in epoch {epoch}"));
        self.see(Observation::Released { who, epoch, name, kind: &kind });
    }
}

fn input_in_brief(input: &InputKind) -> String {
    match input {
        InputKind::SessionRequest { session, number, body, .. } => {
            let request = super::ops::Request::decode(body);
            let request = request.map(|request| (request.id, request.op));
            format!("request {session}/{number} {request:x?}")
        }
        InputKind::Device { bytes, .. } => format!("device input {bytes:02x?}"),
        input => format!("{input:?}"),
    }
}

fn entry_in_brief(entry: &Entry) -> String {
    let what = match &entry.kind {
        EntryKind::Genesis { .. } => "genesis".into(),
        EntryKind::Membership { record } => super::witness::short(record),
        EntryKind::Resume { record } => format!("resumes, {}", super::witness::short(record)),
        EntryKind::Inputs(inputs) => {
            inputs.iter().map(input_in_brief).collect::<Vec<_>>().join(", ")
        }
        kind => format!("{kind:?}"),
    };
    format!(
        "{} (epoch {}, time {}, from {}/{}): {what}",
        entry.index, entry.epoch, entry.time, entry.origin.place, entry.origin.number
    )
}
