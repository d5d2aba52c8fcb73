//! One replica among peers, witness and clients that say anything.
//!
//! Everything that is said has passed the codec, as it would have on a connection. The replica
//! must not panic, and must keep to its bounds; its own invariants are checked by itself.

use ::core::time::Duration;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::{Entry, EntryKind, Origin as From};
use lockstep::ids::{
    ConnId, DeviceId, Epoch, Incarnation, Index, Lineage, LinkId, LogTime, Mono, Nonce, Now,
    OriginNumber, OwnerId, PairId, Place, RequestNumber, SessionId,
};
use lockstep::limits;
use lockstep::outline::{Outline, OutputOutline, Target};
use lockstep::proto::{
    Boot, Command, Config, DivergencePolicy, Input, LookedUp, Output, Recovered, Replica, Standing,
    Status,
};
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::unit::Unit;
use lockstep::wire::codec;
use lockstep::wire::frames::{
    CheckpointFile, ClientCall, Environment, Fetch, Forward, Hello, PeerFrame, Point, Progress,
    Versions, WitnessAnswer, WitnessRefusal,
};

mod disk;

use crate::source::Source;
use crate::tally::Tally;

const PAIR: PairId = PairId([7; 16]);
const PROTOCOL: Versions = Versions::SPOKEN;
const US: Incarnation = Incarnation(10);
const THEM: Incarnation = Incarnation(20);
const WINDOW: usize = 16;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let how = source.byte();
    let place = if how & 1 == 0 { Place::A } else { Place::B };
    let mut world = World::new(place, how >> 3 & 3);
    if how & 2 == 0 && how >> 3 & 3 == 0 {
        world.form(if how & 4 == 0 { place } else { place.other() });
    }
    while let Some(op) = source.choice() {
        world.step(op, &mut source);
    }
}

struct World {
    place: Place,
    replica: Replica,
    unit: Unit<Tally>,
    todo: Vec<Entry>,
    /// What it follows, as far as is known here.
    record: Record,
    now: u64,
    /// Its own requests to the witness, to be granted or not.
    asked: Option<Request>,
    stopped: bool,
    /// What its disk gives when asked to recover; nothing the second time.
    recovered: Option<Recovered>,
}

fn environment() -> Environment {
    Environment {
        service: "tally".into(),
        service_version: 1,
        configuration: Digest::ZERO,
        protocol: PROTOCOL,
    }
}

fn config(place: Place) -> Config {
    Config {
        pair: PAIR,
        place,
        links: 2,
        environment: environment(),
        silence: Duration::from_millis(100),
        silence_floor: Duration::from_millis(40),
        heartbeat: Duration::from_millis(10),
        slow_limit: Duration::from_millis(500),
        forward_delay: Duration::from_millis(20),
        hold_limit: Duration::from_millis(300),
        window_entries: WINDOW,
        window_bytes: limits::WINDOW_BYTES_MIN,
        witnesses: 2,
        witness_patience: Duration::from_secs(1),
        divergence: DivergencePolicy::Sequencer,
        meeting: Duration::from_secs(1),
        clock_step: lockstep::limits::CLOCK_STEP,
        gap_least: lockstep::limits::GAP_LEAST,
        clock_slew: lockstep::limits::CLOCK_SLEW,
        checkpoint_bytes: 64 << 20,
        join_rate: 64 << 20,
    }
}

impl World {
    /// `disk`: 0 for a process with none, else with that of a member, of a joiner, or one that is
    /// to be adopted.
    fn new(place: Place, disk: u8) -> Self {
        let now = 1_000_000_000;
        let (found, recovered) = disk::found(place, disk);
        let boot = Boot { incarnation: US, seed: [1; 32], disk: found, adopt: disk == 3 };
        let mut world = Self {
            place,
            replica: Replica::new(config(place), boot, time(now)),
            unit: Unit::new(Tally::default()),
            todo: Vec::new(),
            record: Record::vacant(PAIR, Lineage(0), Epoch(0)),
            now,
            asked: None,
            stopped: false,
            recovered,
        };
        world.tell(Input::WitnessUp);
        world.tell(Input::LinkUp { link: LinkId(0) });
        world.tell(Input::LinkUp { link: LinkId(1) });
        world
    }

    /// Makes it a member, with this one as the sequencer.
    fn form(&mut self, sequencer: Place) {
        for link in 0..2 {
            let hello = self.hello(THEM, true, None);
            self.hear(LinkId(link), PeerFrame::Hello(hello));
        }
        let record = self.formed(sequencer, US, THEM);
        self.tell(Input::Witness(WitnessAnswer::Present { record }));
        self.record = record;
    }

    fn formed(&self, asker: Place, us: Incarnation, them: Incarnation) -> Record {
        let members = match self.place {
            Place::A => Members::both(us, them),
            Place::B => Members::both(them, us),
        };
        Record {
            pair: PAIR,
            lineage: Lineage(0),
            epoch: Epoch(1),
            members,
            asker,
            nonce: Nonce(7),
            origin: Origin::Formed,
        }
    }

    fn hello(&self, incarnation: Incarnation, heard: bool, record: Option<Record>) -> Hello {
        let place = self.place.other();
        Hello {
            pair: PAIR,
            place,
            incarnation,
            environment: environment(),
            record,
            heard,
            claim: None,
            enrolled: None,
        }
    }

    fn tell(&mut self, input: Input) {
        self.replica.handle(time(self.now), input);
        self.drain();
        self.check();
    }

    fn hear(&mut self, link: LinkId, frame: PeerFrame) {
        // What the codec refuses never comes here.
        let Ok(bytes) = codec::encode_peer(&frame) else { return };
        let frame = codec::decode_peer(&bytes).expect("what was just written");
        self.tell(Input::Peer { link, frame });
    }

    fn hear_witness(&mut self, answer: WitnessAnswer) {
        if codec::encode_witness_answer(&answer).is_ok() {
            self.tell(Input::Witness(answer));
        }
    }

    fn drain(&mut self) {
        let now = time(self.now);
        while let Some(output) = self.replica.poll() {
            match output {
                Output::Append(entry) => {
                    self.replica.handle(now, Input::Persisted(entry.index));
                }
                Output::PersistMembership { number, .. } => {
                    self.replica.handle(now, Input::MembershipPersisted(number));
                }
                Output::Execute(entry) => self.todo.push(entry),
                Output::Peer { frame, .. } => drop(codec::encode_peer(&frame).expect("a frame")),
                Output::Witness(call) => {
                    codec::encode_witness_call(&call).expect("a call within the limits");
                    if let lockstep::wire::frames::WitnessCall::Ask { request } = call {
                        self.asked = Some(request);
                    }
                }
                Output::Client { answer, .. } => {
                    codec::encode_client_answer(&answer).expect("an answer within the limits");
                }
                Output::Stop { .. } => self.stopped = true,
                Output::Release { .. } => assert!(!self.stopped, "released after the end"),
                Output::Recover { .. } => self.recover(now),
                Output::Truncate { .. } => {}
                Output::LookUp { points } => {
                    assert!(points.len() <= limits::POINTS);
                    self.looked_up(now, &points);
                }
                Output::ReadEntries { after } => {
                    let entries = Some(Vec::new()).filter(|_| after.0 % 5 != 4);
                    self.replica.handle(now, Input::EntriesRead { after, entries });
                }
                Output::ReadChunk { checkpoint, offset } => {
                    let bytes = Some(Bytes::from(vec![1; 100])).filter(|_| offset % 5 != 4);
                    let read = Input::ChunkRead { checkpoint, offset, bytes };
                    self.replica.handle(now, read);
                }
                Output::BeginChunks(file) => {
                    let (checkpoint, have) = (file.index, 0);
                    self.replica.handle(now, Input::ChunksWritten { checkpoint, have });
                }
                Output::WriteChunk { checkpoint, offset, bytes } => {
                    let have = offset + bytes.len() as u64;
                    self.replica.handle(now, Input::ChunksWritten { checkpoint, have });
                }
                Output::Install { file, .. } => {
                    let result = if file.len & 1 == 0 { Ok(()) } else { Err("damaged".into()) };
                    self.replica.handle(now, Input::Installed(result));
                }
                Output::WriteCheckpoint { history } => {
                    let index = history.index;
                    let file = CheckpointFile { index, len: 1000, hash: Digest::ZERO };
                    let result = if index.0 & 1 == 0 { Ok(file) } else { Err("full".into()) };
                    self.replica.handle(now, Input::CheckpointWritten { index, result });
                }
                Output::Retain { .. } | Output::UseWitness { .. } => {}
                Output::CloseLink { .. }
                | Output::CloseClient { .. }
                | Output::Standing(_)
                | Output::Event(_) => {}
            }
        }
    }

    fn check(&mut self) {
        let status = self.replica.status();
        if let Some(record) = status.record {
            self.record = record;
        }
        let window = 2 * (WINDOW + limits::WINDOW_RESERVE) as u64;
        assert!(status.held.0 - status.released.0 <= window, "too much is held: {status:?}");
        assert!(self.todo.len() as u64 <= window);
        assert!(status.kept <= 2 * limits::KEPT_INPUTS);
        let starting = matches!(status.standing, Standing::Starting | Standing::Joining);
        assert!(status.record.is_some() || starting || self.stopped, "{status:?}");
    }

    fn step(&mut self, op: u8, source: &mut Source<'_>) {
        let link = LinkId(op & 1);
        match op >> 1 & 31 {
            0..=7 => self.on_batch(link, source),
            8 => self.on_ping(link, source),
            9 => self.hear(link, PeerFrame::Pong { sequence: source.number(1) }),
            10 => self.on_hello(link, source),
            11 => self.on_record(link, source),
            12 => self.on_digests(link, source),
            13 => self.on_farewell(link, source),
            14 | 15 => self.on_witness(source),
            16 | 17 => self.on_client(source),
            18 => self.on_device(source.byte()),
            19..=22 => self.execute(1 + usize::from(source.byte()) / 16),
            23 | 24 => self.pass(source.byte()),
            25 => self.on_link(link, source.byte()),
            26 => self.tell(Input::Command(Command::HandOver)),
            27 => self.tell(Input::WitnessDown),
            28 => self.tell(Input::WitnessUp),
            29 => self.on_asked(link, source),
            30 => self.on_joining(link, source),
            _ => self.execute(usize::MAX),
        }
    }

    fn execute(&mut self, most: usize) {
        for _ in 0..most.min(self.todo.len()) {
            if self.unit.has_panicked() {
                return;
            }
            let entry = self.todo.remove(0);
            let executed = self.unit.execute(&entry);
            self.tell(Input::Executed(executed));
        }
    }

    fn pass(&mut self, choice: u8) {
        let unit = [50_000, 50_000, 1_000_000, 10_000_000][usize::from(choice >> 6)];
        self.now += unit * u64::from(choice & 63);
        self.tell(Input::Timeout);
    }

    fn on_link(&mut self, link: LinkId, choice: u8) {
        self.tell(match choice & 3 {
            0 => Input::LinkDown { link },
            1 => Input::LinkBlocked { link },
            2 => Input::LinkWritable { link },
            _ => Input::LinkUp { link },
        });
    }

    fn on_device(&mut self, command: u8) {
        if self.replica.takes_input() {
            let bytes = Bytes::copy_from_slice(&[command]);
            self.tell(Input::Device { device: DeviceId(0), bytes });
        }
    }

    // The peer.

    fn on_hello(&mut self, link: LinkId, source: &mut Source<'_>) {
        let incarnation = source.pick(&[THEM, THEM, US, Incarnation(30), Incarnation(u64::MAX)]);
        let record = source.flag().then(|| self.any_record(source));
        let mut hello = self.hello(incarnation, source.flag(), record);
        match source.byte() {
            0..8 => hello.environment.service = "é".repeat(128),
            8..12 => hello.place = self.place,
            12..16 => hello.environment.service_version = 2,
            _ => {}
        }
        self.hear(link, PeerFrame::Hello(hello));
    }

    fn epoch(&self, source: &mut Source<'_>) -> (Lineage, Epoch) {
        let record = &self.record;
        if source.byte() < 240 {
            return (record.lineage, record.epoch);
        }
        (Lineage(u32::from(source.byte() & 1)), Epoch(source.number(record.epoch.0)))
    }

    fn any_progress(&self, source: &mut Source<'_>) -> Progress {
        let status = self.replica.status();
        let mut progress = Progress {
            held: status.held,
            entries: Digest::ZERO,
            persisted: status.held,
            executed: status.executed,
            outputs: Digest::ZERO,
            halted: false,
            ordered: OriginNumber(0),
        };
        let choice = source.byte();
        if choice & 1 == 1 {
            progress.held = Index(source.number(status.held.0));
            progress.persisted = progress.held;
        }
        if choice & 2 == 2 {
            progress.executed = Index(source.number(status.executed.0));
        }
        if choice & 4 == 4 {
            progress.ordered = OriginNumber(source.number(status.kept as u64));
        }
        if choice & 8 == 8 {
            progress.persisted = Index(source.number(status.held.0));
        }
        progress.halted = choice > 240;
        // A right digest: it has executed what we have to what we have.
        if choice & 16 == 16 {
            progress.executed = Index(0);
        }
        progress
    }

    fn on_ping(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let progress = self.any_progress(source);
        self.hear(link, PeerFrame::Ping { sequence: source.number(1), lineage, epoch, progress });
    }

    fn on_batch(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let progress = self.any_progress(source);
        let status = self.replica.status();
        let mut index = source_near(source, status.held.next());
        let mut entries = Vec::new();
        for _ in 0..source.below(24) {
            entries.push(self.any_entry(index, &status, source));
            index = Index(index.0.saturating_add(if source.byte() > 224 { 2 } else { 1 }));
        }
        let mut forwards = Vec::new();
        let first = source.number(1);
        for at in 0..source.below(24) as u64 {
            let number = OriginNumber(first.wrapping_add(at));
            forwards.push(Forward { number, kind: self.any_kind(source) });
        }
        self.hear(link, PeerFrame::Batch { lineage, epoch, progress, entries, forwards });
    }

    fn any_entry(&self, index: Index, status: &Status, source: &mut Source<'_>) -> Entry {
        let choice = source.byte();
        let incarnation = source.pick(&[THEM, THEM, THEM, THEM, US, Incarnation(30)]);
        let place = if choice & 1 == 0 { self.place.other() } else { self.place };
        let number = if choice & 6 == 0 { source.number(1) } else { 0 };
        let step = index.0.wrapping_sub(status.held.0).wrapping_mul(1_000);
        let mut time = status.time.0.wrapping_add(step);
        if choice > 240 {
            time = source.number(time);
        }
        let epoch = if choice & 0x78 == 0x78 { source.number(1) } else { self.record.epoch.0 };
        Entry {
            index,
            epoch: Epoch(epoch),
            time: LogTime(time),
            origin: From { place, incarnation, number: OriginNumber(number) },
            kind: self.any_kind(source),
        }
    }

    fn any_kind(&self, source: &mut Source<'_>) -> EntryKind {
        let choice = source.byte();
        let session = SessionId(1 + u64::from(choice >> 4 & 3));
        let token = Nonce(1 + u64::from(choice >> 4 & 3));
        match choice & 15 {
            0..4 => EntryKind::Tick,
            4 => EntryKind::Genesis { seed: [choice; 32] },
            5 => EntryKind::Membership { record: self.any_record(source) },
            6 => EntryKind::HandOver { to: self.place },
            7 => EntryKind::HandOver { to: self.place.other() },
            8 => EntryKind::SessionOpenFor { owner: OwnerId(1), token },
            9 => EntryKind::SessionRequest {
                session,
                token,
                number: RequestNumber(source.number(1)),
                lowest: RequestNumber(source.number(1)),
                body: Bytes::copy_from_slice(&[choice]),
            },
            10 => EntryKind::SessionClose { session, token },
            12 => EntryKind::SessionRefused {
                session,
                token,
                number: RequestNumber(source.number(1)),
                lowest: RequestNumber(source.number(1)),
            },
            11 if choice > 240 => {
                let bytes = Bytes::from(vec![choice; limits::BULK_BYTES]);
                EntryKind::Device { device: DeviceId(0), bytes }
            }
            _ => {
                let device = DeviceId(u16::from(choice));
                EntryKind::Device { device, bytes: Bytes::copy_from_slice(&[source.byte()]) }
            }
        }
    }

    fn any_record(&self, source: &mut Source<'_>) -> Record {
        let record = &self.record;
        let choice = source.byte();
        let asker = if choice & 1 == 0 { Place::A } else { Place::B };
        let them = source.pick(&[THEM, THEM, Incarnation(30), US, Incarnation(u64::MAX)]);
        let epoch = Epoch(source.number(record.epoch.0.wrapping_add(1)));
        let next = match choice >> 1 & 7 {
            0 => Record::vacant(PAIR, Lineage(u32::from(choice >> 4)), epoch),
            1 | 2 => Record { epoch, ..self.formed(asker, US, them) },
            3 => Record { epoch, ..self.formed(asker, Incarnation(11), them) },
            4 => {
                let at = self.place.other();
                let members = Members::alone(at, them);
                Record { epoch, members, asker: at, origin: Origin::Alone, ..*record }
            }
            5 => {
                let members = Members::alone(self.place, US);
                Record { epoch, members, asker: self.place, origin: Origin::Alone, ..*record }
            }
            _ => Record { epoch, asker, origin: Origin::Renewal(record.digest()), ..*record },
        };
        let pair = if choice > 248 { PairId([8; 16]) } else { PAIR };
        Record { pair, nonce: Nonce(u64::from(choice)), ..next }
    }

    fn on_record(&mut self, link: LinkId, source: &mut Source<'_>) {
        let record = self.any_record(source);
        self.hear(link, PeerFrame::Epoch { record });
    }

    /// What is said while one brings the other up to date.
    fn on_joining(&mut self, link: LinkId, source: &mut Source<'_>) {
        let held = self.replica.status().held;
        let near = source_near(source, held);
        let frame = match source.byte() % 11 {
            0 => PeerFrame::Join {
                points: vec![Point { index: near, chain: Digest::ZERO }],
                spoilt: near.0.is_multiple_of(4).then_some(near),
            },
            1 => {
                let from = Point { index: near, chain: Digest([source.byte(); 16]) };
                PeerFrame::Offer { record: self.any_record(source), from, checkpoint: None, held }
            }
            2 => {
                let len = source.number(600_000);
                let file = CheckpointFile { index: near, len, hash: Digest::ZERO };
                let from = Point { index: near, chain: Digest::ZERO };
                let (record, checkpoint) = (self.any_record(source), Some(file));
                PeerFrame::Offer { record, from, checkpoint, held }
            }
            3 => PeerFrame::Fetch(Fetch::Entries { from: near }),
            4 => PeerFrame::Fetch(Fetch::Chunk { checkpoint: near, offset: source.number(1) }),
            5 => {
                let status = self.replica.status();
                let after = near;
                let entries = (1..=source.below(5) as u64)
                    .map_while(|step| after.0.checked_add(step))
                    .map(|at| self.any_entry(Index(at), &status, source))
                    .collect();
                PeerFrame::Entries { after, entries, held: Index(source.number(held.0)) }
            }
            6 => {
                let bytes = Bytes::from(vec![0; source.below(300)]);
                let offset = source.number(0);
                PeerFrame::Chunk { checkpoint: near, offset, bytes }
            }
            7 => PeerFrame::Gone,
            8 => PeerFrame::Admit { record: self.any_record(source), from: near },
            9 => PeerFrame::Admitted { epoch: self.epoch(source).1 },
            _ => PeerFrame::Checkpoint { index: near, hash: Digest::ZERO },
        };
        self.hear(link, frame);
    }

    fn recover(&mut self, now: Now) {
        let result = match self.recovered.take() {
            Some(recovered) => {
                self.unit = Unit::new(Tally::default());
                self.todo.clear();
                for entry in disk::log(self.place, US.0 - 1) {
                    if entry.index <= recovered.history.index {
                        self.unit.execute(&entry);
                    }
                }
                Ok(Box::new(recovered))
            }
            None => {
                self.unit = Unit::new(Tally::default());
                self.todo.clear();
                Err("damaged".into())
            }
        };
        self.replica.handle(now, Input::Recovered(result));
    }

    fn looked_up(&mut self, now: Now, points: &[Point]) {
        let file = CheckpointFile { index: Index(2), len: 700, hash: Digest::ZERO };
        let common = points.first().copied().filter(|point| point.index.0 & 1 == 0);
        let checkpoint = Some((file, Digest::ZERO)).filter(|_| points.len() & 1 == 0);
        let found = LookedUp { common, bytes: 100, checkpoint };
        self.replica.handle(now, Input::LookedUp(found));
    }

    fn on_asked(&mut self, link: LinkId, source: &mut Source<'_>) {
        let next = self.any_record(source);
        let request = Request { present: self.record.digest(), next };
        self.hear(link, PeerFrame::Asked { request });
    }

    fn on_digests(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let from = Index(source.number(self.replica.status().executed.0));
        let outputs = vec![Digest([source.byte(); 16]); source.below(24)];
        // A list of none says nothing.
        if outputs.is_empty() {
            return self.on_outline(link, from, source);
        }
        self.hear(link, PeerFrame::Digests { lineage, epoch, from, outputs });
    }

    fn on_outline(&mut self, link: LinkId, index: Index, source: &mut Source<'_>) {
        let output = |choice: u8| OutputOutline {
            target: if choice & 1 == 0 { Target::Reply } else { Target::Device(DeviceId(1)) },
            digest: Digest([choice; 16]),
            payload: Digest([choice >> 1; 16]),
            len: u64::from(choice),
            head: Bytes::from(vec![choice; usize::from(choice) / 2]),
        };
        let outputs: Vec<_> = (0..source.below(4)).map(|_| output(source.byte())).collect();
        let outline = Outline {
            index,
            before: Digest([source.byte(); 16]),
            count: source.number(outputs.len() as u64),
            outputs,
            wakeup: None,
            panicked: source.byte() > 200,
        };
        self.hear(link, PeerFrame::Outline(outline));
    }

    fn on_farewell(&mut self, link: LinkId, source: &mut Source<'_>) {
        let reason = "é".repeat(source.below(3) * 256);
        let frame = match source.byte() {
            0..16 => PeerFrame::Refuse { reason },
            _ => PeerFrame::Farewell { epoch: self.epoch(source).1, reason },
        };
        self.hear(link, frame);
    }

    // The witness and clients.

    fn on_witness(&mut self, source: &mut Source<'_>) {
        let answer = match (source.byte(), self.asked) {
            (0..128, Some(asked)) => WitnessAnswer::Present { record: asked.next },
            (240.., _) => WitnessAnswer::Refused { reason: WitnessRefusal::Behind },
            _ => WitnessAnswer::Present { record: self.any_record(source) },
        };
        self.hear_witness(answer);
    }

    fn on_client(&mut self, source: &mut Source<'_>) {
        let choice = source.byte();
        let (conn, alone) = (ConnId(u64::from(choice & 1)), choice & 2 == 2);
        let token = Nonce(source.number(1));
        let session = SessionId(source.number(1));
        let call = match choice >> 2 & 7 {
            0 => ClientCall::Hello { pair: PAIR, protocol: PROTOCOL },
            1 => ClientCall::Open { token, alone },
            2 => ClientCall::Close { session, token },
            3 => return self.tell(Input::ClientGone { conn }),
            4 => ClientCall::Probe,
            _ => ClientCall::Request {
                session,
                token,
                number: RequestNumber(source.number(1)),
                lowest: RequestNumber(source.number(1)),
                alone,
                body: Bytes::copy_from_slice(&[choice]),
            },
        };
        if codec::encode_client_call(&call).is_ok() {
            let permitted = choice < 192;
            self.tell(Input::Client { conn, owner: OwnerId(1), permitted, call });
        }
    }
}

fn source_near(source: &mut Source<'_>, next: Index) -> Index {
    if source.byte() < 208 { next } else { Index(source.number(next.0)) }
}

fn time(now: u64) -> Now {
    Now { mono: Mono(now), wall: LogTime(1_000_000_000_000 + now) }
}
