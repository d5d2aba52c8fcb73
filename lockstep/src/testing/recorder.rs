//! How inputs become entries: what a sequencer does, without the protocol.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::script::Input;
use crate::entry::{Entry, EntryKind, InputKind, Origin};
use crate::ids::{
    Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, OwnerId, PairId, ReplicaId,
    RequestNumber, SessionId,
};
use crate::record::{Members, Origin as RecordOrigin, Record};

/// Log time between two entries, unless a script lets time pass.
const SPACING: Duration = Duration::from_millis(1);

/// Log time of the first entry: some day in 2025.
const FIRST: LogTime = LogTime(1_750_000_000_000_000_000);

/// A client of a script says with each request that it has all replies but this many of the
/// last ones, so that those can be asked for again.
pub(super) const UNANSWERED: usize = 4;

/// A client as the recorder knows it.
#[derive(Clone, Debug)]
struct Client {
    session: SessionId,
    token: Nonce,
    /// The bodies of all its requests.
    asked: Vec<Bytes>,
}

/// Turns inputs into entries, as a sequencer would.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    index: Index,
    time: LogTime,
    epoch: Epoch,
    inputs: OriginNumber,
    tokens: u64,
    clients: BTreeMap<u32, Client>,
    members: Members,
    /// How often a process was started at each place, after the first one.
    starts: [u64; 2],
}

/// The process that a script has at this place after this many starts, the first one not counted.
/// Inputs that name their process, as a CoServer's devices make them, need it.
pub fn process(place: ReplicaId, starts: u64) -> Incarnation {
    let first = match place {
        ReplicaId::A => 0xA,
        ReplicaId::B => 0xB,
    };
    Incarnation(starts << 8 | first)
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            index: Index(0),
            time: FIRST,
            epoch: Epoch(0),
            inputs: OriginNumber(0),
            tokens: 0,
            clients: BTreeMap::new(),
            members: Members::NONE,
            starts: [0; 2],
        }
    }

    /// The entries with which every log begins.
    pub(super) fn begin(&mut self) -> Vec<Entry> {
        let genesis = self.own(EntryKind::Genesis { seed: [7; 32] });
        let [a, b] = ReplicaId::BOTH.map(|place| process(place, 0));
        let members = self.membership(Members::both(a, b), ReplicaId::A, RecordOrigin::Formed);
        vec![genesis, members]
    }

    /// The time of the last entry.
    pub(super) fn time(&self) -> LogTime {
        self.time
    }

    /// A client's session, if it has opened one and not closed it.
    pub(super) fn session(&self, client: u32) -> Option<SessionId> {
        self.clients.get(&client).map(|client| client.session)
    }

    /// The entries for an input: one, none if it makes no sense, two if a client has to open a
    /// session first or a CoServer has to come back first.
    pub(super) fn write(&mut self, input: Input) -> Vec<Entry> {
        match input {
            Input::Open { client } => vec![self.open(client)],
            Input::Request { client, body } => {
                let missing = !self.clients.contains_key(&client);
                let opened = missing.then(|| self.open(client));
                opened.into_iter().chain(self.request(client, body)).collect()
            }
            Input::Again { client, back } => self.again(client, back).into_iter().collect(),
            Input::Close { client } => self.close(client).into_iter().collect(),
            Input::Device { device, place, bytes } => {
                vec![self.outside(place, InputKind::Device { device, bytes })]
            }
            Input::Pass(span) => vec![self.tick(self.time.plus(span))],
            Input::Alone(place) => {
                let back = self.members.at(place).is_none().then(|| self.duplex(place.other()));
                back.into_iter().chain([self.alone(place, RecordOrigin::Alone)]).collect()
            }
            Input::Duplex { sequencer } => vec![self.duplex(sequencer)],
            Input::Restarted(place) => self.restarted(place, Duration::ZERO),
            Input::RestartedAfter { place, gap } => self.restarted(place, gap),
            Input::Gap(gap) => {
                self.time = self.time.plus(gap);
                vec![self.own(EntryKind::Gap)]
            }
            Input::HandOver(to) => vec![self.own(EntryKind::HandOver { to })],
        }
    }

    /// A tick at this time, or just after the last entry if that is later.
    pub(super) fn tick(&mut self, at: LogTime) -> Entry {
        let mut entry = self.own(EntryKind::Tick);
        entry.time = at.max(LogTime(entry.time.0 - (SPACING.as_nanos() as u64) + 1));
        self.time = entry.time;
        entry
    }

    fn open(&mut self, client: u32) -> Entry {
        let known = self.clients.get(&client).map(|client| client.token);
        let token = known.unwrap_or_else(|| {
            self.tokens += 1;
            Nonce(self.tokens)
        });
        let entry =
            self.outside(ReplicaId::A, InputKind::SessionOpenFor { owner: OwnerId(1), token });
        let session = SessionId::new(entry.index, 0);
        self.clients.entry(client).or_insert(Client { session, token, asked: Vec::new() });
        entry
    }

    fn request(&mut self, client: u32, body: Bytes) -> Option<Entry> {
        let client = self.clients.get_mut(&client)?;
        client.asked.push(body);
        let last = client.asked.len() - 1;
        let kind = client.nth(last);
        Some(self.outside(ReplicaId::A, kind))
    }

    fn again(&mut self, client: u32, back: usize) -> Option<Entry> {
        let client = self.clients.get(&client)?;
        let nth = client.asked.len().checked_sub(back.min(UNANSWERED - 1) + 1)?;
        let kind = client.nth(nth);
        Some(self.outside(ReplicaId::B, kind))
    }

    fn close(&mut self, client: u32) -> Option<Entry> {
        let Client { session, token, .. } = self.clients.remove(&client)?;
        Some(self.outside(ReplicaId::A, InputKind::SessionClose { session, token }))
    }

    fn alone(&mut self, place: ReplicaId, origin: RecordOrigin) -> Entry {
        let members = Members::alone(place, self.process(place));
        self.membership(members, place, origin)
    }

    /// Both are members; whoever is missing comes back as a new process.
    fn duplex(&mut self, sequencer: ReplicaId) -> Entry {
        let missing = ReplicaId::BOTH.into_iter().filter(|place| self.members.at(*place).is_none());
        let missing: Vec<ReplicaId> = missing.collect();
        missing.iter().for_each(|place| self.starts[place.slot()] += 1);
        let [a, b] = ReplicaId::BOTH.map(|place| self.process(place));
        let origin = if missing.is_empty() { RecordOrigin::Formed } else { RecordOrigin::Joined };
        self.membership(Members::both(a, b), sequencer, origin)
    }

    /// The log is taken up again after a while, and then the devices stand.
    fn restarted(&mut self, place: ReplicaId, gap: Duration) -> Vec<Entry> {
        let back = self.members.at(place).is_none().then(|| self.duplex(place.other()));
        self.starts[place.slot()] += 1;
        self.time = self.time.plus(gap);
        let mut taken_up = self.alone(place, RecordOrigin::Restarted);
        if let EntryKind::Membership { record } = taken_up.kind {
            taken_up.kind = EntryKind::Resume { record };
        }
        let ready = self.own(EntryKind::Ready);
        back.into_iter().chain([taken_up, ready]).collect()
    }

    fn process(&self, place: ReplicaId) -> Incarnation {
        process(place, self.starts[place.slot()])
    }

    fn membership(&mut self, members: Members, asker: ReplicaId, origin: RecordOrigin) -> Entry {
        self.epoch = self.epoch.next();
        self.members = members;
        let record = Record {
            pair: PairId([1; 16]),
            lineage: Lineage(1),
            epoch: self.epoch,
            members,
            asker,
            nonce: Nonce(self.epoch.0),
            origin,
        };
        self.own(EntryKind::Membership { record })
    }

    fn own(&mut self, kind: EntryKind) -> Entry {
        self.entry(ReplicaId::A, OriginNumber(0), kind)
    }

    /// An entry of one input, which came in at a CoServer.
    pub(super) fn outside(&mut self, place: ReplicaId, input: InputKind) -> Entry {
        self.inputs = self.inputs.next();
        self.entry(place, self.inputs, EntryKind::Inputs(input.into()))
    }

    fn entry(&mut self, place: ReplicaId, number: OriginNumber, kind: EntryKind) -> Entry {
        self.index = self.index.next();
        self.time = self.time.plus(SPACING);
        let origin = Origin { place, incarnation: self.process(place), number };
        Entry { index: self.index, epoch: self.epoch, time: self.time, origin, kind }
    }
}

impl Client {
    /// The entry for its nth request, counted from 0.
    fn nth(&self, nth: usize) -> InputKind {
        let lowest = (self.asked.len() + 1).saturating_sub(UNANSWERED).max(1);
        InputKind::SessionRequest {
            session: self.session,
            token: self.token,
            number: RequestNumber(nth as u64 + 1),
            lowest: RequestNumber(lowest as u64),
            body: self.asked[nth].clone(),
        }
    }
}
