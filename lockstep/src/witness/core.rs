//! The witness for many pairs, without I/O: calls and results of writing in, answers and records
//! to write out.
//!
//! # Driving it
//! Give it one [`Input`] after another, and after each take [`Witness::poll`]'s outputs until there
//! are none. An [`Output::Store`] or [`Output::Distrust`] has to be carried out, and its result
//! given back, before the process forgets it; answers that depend on it come only then. The witness
//! needs no timer: what it refuses now is asked again.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{ConnId, Epoch, Incarnation, MonotonicTime, PairId, ReplicaId};
use crate::limits::{WITNESS_CONNECTIONS_PER_PLACE, WITNESS_WAITING};
use crate::record::{Origin, Record, Request};
use crate::wire::frames::{WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::io::{Config, Event, Input, Output, PROTOCOL};
use crate::witness::rules::{self, Asker};
use crate::witness::store::{Held, Stored, Told};

/// The witness's core: decides about every call, and does no I/O.
#[derive(Debug)]
pub struct Witness {
    /// The witness grants nothing before this time.
    ready: MonotonicTime,
    pairs: BTreeMap<PairId, Pair>,
    conns: BTreeMap<ConnId, Asker>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Pair {
    /// The pair's record can be given, and replaced.
    Present(Record),
    /// The pair's record is being replaced; calls wait, since either record would be the
    /// wrong answer.
    Storing {
        /// What is kept until then; nothing if the pair is new here.
        before: Option<Held>,
        next: Record,
        by: ConnId,
        waiting: VecDeque<(ConnId, WitnessCall)>,
    },
    /// The pair's members know of a later epoch.
    Behind(Held),
    /// Which record a restart will find is not known. To say that the old one is present could make
    /// an asker believe that its request was settled against it.
    Failed,
}

impl Witness {
    /// A witness that starts now, with what its store holds: for each pair its record, or `None`
    /// if that could not be read.
    pub fn new(
        now: MonotonicTime,
        config: Config,
        loaded: impl IntoIterator<Item = (PairId, Option<Held>)>,
    ) -> Self {
        let pairs = loaded.into_iter().map(|(pair, held)| (pair, Pair::of(pair, held))).collect();
        let ready = now.plus(config.grace);
        Self { ready, pairs, conns: BTreeMap::new(), outputs: VecDeque::new() }
    }

    /// Takes one input. See the [module](self) for what has to follow.
    pub fn handle(&mut self, now: MonotonicTime, input: Input) {
        let pair = match &input {
            Input::Call { pair, .. } | Input::Stored { pair, .. } => Some(*pair),
            Input::Enrolled(held) => Some(held.record.pair),
            Input::Closed { conn } => self.conns.get(conn).map(|asker| asker.pair),
        };
        match input {
            Input::Call { conn, pair, place, call } => self.on_call(now, conn, pair, place, call),
            Input::Closed { conn } => self.on_gone(conn),
            Input::Stored { pair, stored } => self.on_stored(now, pair, stored),
            Input::Enrolled(held) => self.on_enrolled(now, held),
        }
        pair.into_iter().for_each(|pair| self.check_invariants(pair));
    }

    /// What holds of a pair after every input. Others' words cannot break it; where it does not
    /// hold, this core is wrong, and must not go on to grant anything.
    fn check_invariants(&self, pair: PairId) {
        match self.pairs.get(&pair) {
            None | Some(Pair::Failed) => {}
            Some(Pair::Present(present)) => assert_eq!(present.pair, pair, "another pair's record"),
            Some(Pair::Behind(held)) => {
                assert_eq!(held.record.pair, pair, "another pair's record");
                assert!(held.behind.is_some(), "behind what nobody told of");
            }
            Some(Pair::Storing { before, next, waiting, .. }) => {
                let before = before.as_ref().map(|held| &held.record);
                assert!(next.pair == pair, "another pair's record");
                assert!(before.is_none_or(|before| before.pair == pair), "another pair's record");
                let is_later = |before| Told::from(next) >= Told::from(before);
                assert!(before.is_none_or(is_later), "an earlier record is written");
                assert!(waiting.len() <= WITNESS_WAITING, "more calls wait than may");
                let of_pair = |conn| self.conns.get(conn).is_some_and(|asker| asker.pair == pair);
                assert!(
                    waiting.iter().all(|(conn, _)| of_pair(conn)),
                    "a call that nobody waits for"
                );
            }
        }
        for place in ReplicaId::BOTH {
            let theirs = |asker: &&Asker| (asker.pair, asker.place) == (pair, place);
            let count = self.conns.values().filter(theirs).count();
            assert!(
                count <= WITNESS_CONNECTIONS_PER_PLACE,
                "more connections than a place may have"
            );
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The record that is present for the pair, if one can be given.
    pub fn present(&self, pair: PairId) -> Option<&Record> {
        match self.pairs.get(&pair)? {
            Pair::Present(present) => Some(present),
            Pair::Storing { before, .. } => {
                before.as_ref().filter(|held| held.behind.is_none()).map(|held| &held.record)
            }
            Pair::Behind(_) | Pair::Failed => None,
        }
    }

    fn on_call(
        &mut self,
        now: MonotonicTime,
        conn: ConnId,
        pair: PairId,
        place: ReplicaId,
        call: WitnessCall,
    ) {
        if let WitnessCall::Hello { pair: named, place: at, incarnation, protocol } = call {
            let honest = (named, at) == (pair, place) && incarnation != Incarnation(0);
            if !honest || self.conns.contains_key(&conn) {
                self.turn_away(conn, pair, place, WitnessRefusal::NotYou);
            } else if protocol.oldest > PROTOCOL.newest || protocol.newest < PROTOCOL.oldest {
                self.turn_away(conn, pair, place, WitnessRefusal::Version);
            } else {
                self.make_room(pair, place);
                self.conns.insert(conn, Asker { pair, place, incarnation });
            }
            return;
        }
        match self.conns.get(&conn).copied() {
            Some(asker) if (asker.pair, asker.place) == (pair, place) => {
                self.on_question(now, conn, asker, call);
            }
            _ => self.turn_away(conn, pair, place, WitnessRefusal::NotYou),
        }
    }

    /// A call of an asker that has introduced itself.
    fn on_question(&mut self, now: MonotonicTime, conn: ConnId, asker: Asker, call: WitnessCall) {
        let pair = asker.pair;
        if let WitnessCall::Enrol { record } = call
            && self.on_enrolment(now, conn, asker, record)
        {
            return;
        }
        match self.pairs.get_mut(&pair) {
            None => self.refuse(conn, asker, WitnessRefusal::UnknownPair),
            Some(Pair::Failed) => self.refuse(conn, asker, WitnessRefusal::Storage),
            Some(Pair::Behind(_)) => {
                self.note_told(asker, &call);
                self.refuse(conn, asker, WitnessRefusal::Behind);
            }
            Some(Pair::Storing { waiting, .. }) if waiting.len() >= WITNESS_WAITING => {
                self.outputs.push_back(Output::Event(Event::Dropped { pair }));
            }
            Some(Pair::Storing { waiting, .. }) => waiting.push_back((conn, call)),
            Some(Pair::Present(present)) => {
                let present = *present;
                self.answer(now, conn, asker, &present, &call);
            }
        }
    }

    fn answer(
        &mut self,
        now: MonotonicTime,
        conn: ConnId,
        asker: Asker,
        present: &Record,
        call: &WitnessCall,
    ) {
        if foreign(asker.pair, call) {
            return self.turn_away(conn, asker.pair, asker.place, WitnessRefusal::NotYou);
        }
        if let Some(told) = unexplained(present, call) {
            let (pair, ours) = (asker.pair, Told::from(present));
            self.pairs.insert(pair, Pair::Behind(Held { record: *present, behind: Some(told) }));
            self.outputs.push_back(Output::Distrust { pair, told });
            self.outputs.push_back(Output::Event(Event::Behind { pair, ours, told }));
            return self.refuse(conn, asker, WitnessRefusal::Behind);
        }
        match call {
            // Asked for and granted before: the answer was lost, or this is its second copy.
            WitnessCall::CompareAndSwap { request } if request.next == *present => {
                self.tell(conn, *present)
            }
            WitnessCall::CompareAndSwap { .. } if now < self.ready => {
                self.refuse(conn, asker, WitnessRefusal::Starting);
            }
            WitnessCall::CompareAndSwap { request } => self.on_ask(conn, asker, present, request),
            WitnessCall::Query { .. } | WitnessCall::Enrol { .. } | WitnessCall::Hello { .. } => {
                self.tell(conn, *present);
            }
        }
    }

    /// A member tells the record that this witness should have (rule W3). Whether that was done;
    /// if not, the call is answered like a question.
    fn on_enrolment(
        &mut self,
        now: MonotonicTime,
        conn: ConnId,
        asker: Asker,
        record: Record,
    ) -> bool {
        let Asker { pair, place, incarnation } = asker;
        let (before, known, behind) = match self.pairs.get(&pair) {
            None => (None, None, false),
            Some(Pair::Present(present)) => {
                (Some(Held::trusted(*present)), Some(Told::from(present)), false)
            }
            Some(Pair::Behind(held)) => {
                let known = held.behind.max(Some(Told::from(&held.record)));
                (Some(*held), known, true)
            }
            Some(Pair::Storing { .. } | Pair::Failed) => return false,
        };
        let honest = record.pair == pair && record.members.has(place, incarnation);
        let told = Told::from(&record);
        // A number that a member has told of may be this very record's.
        let later = known < Some(told) || (behind && known == Some(told));
        if !honest || !later {
            return false;
        }
        if now < self.ready {
            self.refuse(conn, asker, WitnessRefusal::Starting);
            return true;
        }
        let waiting = VecDeque::new();
        self.pairs.insert(pair, Pair::Storing { before, next: record, by: conn, waiting });
        self.outputs.push_back(Output::Adopt { record });
        true
    }

    fn on_ask(&mut self, conn: ConnId, asker: Asker, present: &Record, request: &Request) {
        if let Err(why) = rules::judge(present, asker, request) {
            self.outputs.push_back(Output::Event(Event::Denied { asker, why }));
            return self.tell(conn, *present);
        }
        let next = request.next;
        assert!(
            next.epoch > present.epoch && next.lineage == present.lineage,
            "a record may only be replaced by a later one"
        );
        let (before, waiting) = (Some(Held::trusted(*present)), VecDeque::new());
        self.pairs.insert(asker.pair, Pair::Storing { before, next, by: conn, waiting });
        self.outputs.push_back(Output::Store { present: request.present, record: next });
    }

    fn on_stored(&mut self, now: MonotonicTime, pair: PairId, stored: Stored) {
        let Some(state @ Pair::Storing { .. }) = self.pairs.get_mut(&pair) else {
            return;
        };
        let Pair::Storing { before, next, by, mut waiting } =
            core::mem::replace(state, Pair::Failed)
        else {
            return;
        };
        match (stored, before) {
            (Stored::There, _) => *state = Pair::Present(next),
            (Stored::NotThere, Some(before)) => *state = Pair::of(pair, Some(before)),
            (Stored::NotThere, None) => drop(self.pairs.remove(&pair)),
            (Stored::Unknown, _) => {}
        }
        let event = match stored {
            Stored::There => Event::Granted { record: next },
            Stored::NotThere => Event::NotStored { pair },
            Stored::Unknown => Event::StorageFailed { pair },
        };
        self.outputs.push_back(Output::Event(event));
        if stored == Stored::There {
            self.tell(by, next);
        } else if let Some(asker) = self.conns.get(&by).copied() {
            // The request is settled against no asker: it asks again.
            self.refuse(by, asker, WitnessRefusal::Storage);
        }
        self.on_waiting(now, &mut waiting);
    }

    /// An operator's word replaces whatever was thought of the pair.
    fn on_enrolled(&mut self, now: MonotonicTime, held: Held) {
        let pair = held.record.pair;
        if let Some(Pair::Storing { mut waiting, .. }) =
            self.pairs.insert(pair, Pair::of(pair, Some(held)))
        {
            self.on_waiting(now, &mut waiting);
        }
    }

    /// What came while a record was written, in the order in which it came.
    fn on_waiting(&mut self, now: MonotonicTime, waiting: &mut VecDeque<(ConnId, WitnessCall)>) {
        for (conn, call) in waiting.drain(..) {
            if let Some(asker) = self.conns.get(&conn).copied() {
                self.on_question(now, conn, asker, call);
            }
        }
    }

    fn on_gone(&mut self, conn: ConnId) {
        let Some(asker) = self.conns.remove(&conn) else {
            return;
        };
        if let Some(Pair::Storing { waiting, .. }) = self.pairs.get_mut(&asker.pair) {
            waiting.retain(|(from, _)| *from != conn);
        }
    }

    /// Keeps the highest epoch that was told of, for the operator's new lineage to begin above.
    fn note_told(&mut self, asker: Asker, call: &WitnessCall) {
        let Some(Pair::Behind(held)) = self.pairs.get_mut(&asker.pair) else {
            return;
        };
        let Some(told) = unexplained(&held.record, call) else {
            return;
        };
        if !foreign(asker.pair, call) && held.behind < Some(told) {
            held.behind = Some(told);
            self.outputs.push_back(Output::Distrust { pair: asker.pair, told });
        }
    }

    /// Closes the oldest connection of a place that has as many as it may.
    fn make_room(&mut self, pair: PairId, place: ReplicaId) {
        let theirs = |asker: &Asker| (asker.pair, asker.place) == (pair, place);
        if self.conns.values().filter(|asker| theirs(asker)).count() < WITNESS_CONNECTIONS_PER_PLACE
        {
            return;
        }
        let oldest = self.conns.iter().find(|(_, asker)| theirs(asker)).map(|(conn, _)| *conn);
        if let Some(conn) = oldest {
            self.on_gone(conn);
            self.outputs.push_back(Output::Close { conn });
        }
    }

    /// Answers with the present record, unless the connection has ended.
    fn tell(&mut self, conn: ConnId, record: Record) {
        if self.conns.contains_key(&conn) {
            let answer = WitnessAnswer::Present { record };
            self.outputs.push_back(Output::Answer { conn, answer });
        }
    }

    fn refuse(&mut self, conn: ConnId, asker: Asker, reason: WitnessRefusal) {
        let Asker { pair, place, .. } = asker;
        let answer = WitnessAnswer::Refused { reason };
        self.outputs.push_back(Output::Answer { conn, answer });
        self.outputs.push_back(Output::Event(Event::Refused { pair, place, reason }));
    }

    /// Refuses the connection itself.
    fn turn_away(&mut self, conn: ConnId, pair: PairId, place: ReplicaId, reason: WitnessRefusal) {
        self.refuse(conn, Asker { pair, place, incarnation: Incarnation(0) }, reason);
        self.on_gone(conn);
        self.outputs.push_back(Output::Close { conn });
    }
}

impl Pair {
    fn of(pair: PairId, held: Option<Held>) -> Self {
        match held {
            Some(held) if held.record.pair != pair => Self::Failed,
            Some(held) if held.behind.is_some() => Self::Behind(held),
            Some(held) => Self::Present(held.record),
            None => Self::Failed,
        }
    }
}

/// Whether the call speaks of another pair than its asker's.
pub(super) fn foreign(pair: PairId, call: &WitnessCall) -> bool {
    match call {
        WitnessCall::Query { known: Some(record) } => record.pair != pair,
        WitnessCall::CompareAndSwap { request } => request.next.pair != pair,
        WitnessCall::Enrol { record } => record.pair != pair,
        WitnessCall::Query { known: None } | WitnessCall::Hello { .. } => false,
    }
}

/// The epoch that this call names, if the present record cannot explain it: a later one, or another
/// record of the same number. Only this witness could have granted either.
pub(super) fn unexplained(present: &Record, call: &WitnessCall) -> Option<Told> {
    let ours = Told::from(present);
    let (told, contradicts) = match call {
        WitnessCall::Query { known: Some(known) } => {
            let told = Told::from(known);
            (told, told == ours && known != present)
        }
        // Its number is above those of another lineage, of which this witness need not know.
        WitnessCall::CompareAndSwap {
            request: Request { next: Record { origin: Origin::Adopted, .. }, .. },
        } => {
            return None;
        }
        WitnessCall::CompareAndSwap { request: Request { next, .. } } => {
            // It asks for the number after the one that it knows.
            let known = Epoch(next.epoch.0.saturating_sub(1));
            (Told { lineage: next.lineage, epoch: known }, false)
        }
        WitnessCall::Query { known: None }
        | WitnessCall::Enrol { .. }
        | WitnessCall::Hello { .. } => return None,
    };
    (told > ours || contradicts).then_some(told)
}
