//! One replica among peers, witness and clients that say anything.
//!
//! Everything that is said has passed the codec, as it would have on a connection. The replica
//! must not panic, and must keep to its bounds; its own invariants are checked by itself.

use ::core::time::Duration;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::entry::Entry;
use lockstep::ids::{
    DeviceId, Epoch, Incarnation, Lineage, LinkId, LogTime, MonotonicTime, Nonce, PairId,
    ReplicaId, Timestamps,
};
use lockstep::limits;
use lockstep::proto::{
    Boot, Command, Config, DivergencePolicy, Input, Output, Recovered, Replica, Standing,
    StorageRequest, StorageResponse,
};
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::unit::Unit;
use lockstep::wire::codec;
use lockstep::wire::frames::{Environment, PeerFrame, Versions, WitnessAnswer};

mod disk;
mod entries;
mod joining;
mod outside;
mod peer;
mod shares;

use shares::OpenSessions;

use crate::counting_service::CountingService;
use crate::source::Source;

const PAIR: PairId = PairId([7; 16]);
const PROTOCOL: Versions = Versions::SPOKEN;
const US: Incarnation = Incarnation(10);
const THEM: Incarnation = Incarnation(20);
const WINDOW: usize = 16;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let how = source.byte();
    let place = if how & 1 == 0 { ReplicaId::A } else { ReplicaId::B };
    let mut world = World::new(place, how >> 3 & 3);
    if how & 2 == 0 && how >> 3 & 3 == 0 {
        world.form(if how & 4 == 0 { place } else { place.other() });
    }
    while let Some(op) = source.choice() {
        world.step(op, &mut source);
    }
}

struct World {
    place: ReplicaId,
    replica: Replica,
    unit: Unit<CountingService>,
    open_sessions: OpenSessions,
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

fn config(place: ReplicaId) -> Config {
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

fn unit() -> Unit<CountingService> {
    Unit::with_config(CountingService::default(), shares::bounds())
}

impl World {
    /// `disk`: 0 for a process with none, else with that of a member, of a joiner, or one that is
    /// to be adopted.
    fn new(place: ReplicaId, disk: u8) -> Self {
        let now = 1_000_000_000;
        let (found, recovered) = disk::found(place, disk);
        let boot = Boot { incarnation: US, seed: [1; 32], disk: found, adopt: disk == 3 };
        let mut world = Self {
            place,
            replica: Replica::new(config(place), boot, time(now)),
            unit: unit(),
            open_sessions: OpenSessions::default(),
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
    fn form(&mut self, sequencer: ReplicaId) {
        for link in 0..2 {
            let hello = self.hello(THEM, true, None);
            self.hear(LinkId(link), PeerFrame::Hello(hello));
        }
        let record = self.formed(sequencer, US, THEM);
        self.tell(Input::Witness(WitnessAnswer::Present { record }));
        self.record = record;
    }

    fn formed(&self, asker: ReplicaId, us: Incarnation, them: Incarnation) -> Record {
        let members = match self.place {
            ReplicaId::A => Members::both(us, them),
            ReplicaId::B => Members::both(them, us),
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

    fn tell(&mut self, input: Input) {
        self.replica.handle(time(self.now), input);
        self.drain();
        self.check();
    }

    fn drain(&mut self) {
        let now = time(self.now);
        while let Some(output) = self.replica.poll() {
            shares::keeps_out(&output);
            match output {
                Output::Append(entry) => {
                    self.replica
                        .handle(now, Input::Storage(StorageResponse::Persisted(entry.index)));
                }
                Output::Storage(StorageRequest::PersistMembership { number, .. }) => {
                    self.replica
                        .handle(now, Input::Storage(StorageResponse::MembershipPersisted(number)));
                }
                Output::Execute(entry) => self.todo.push(entry),
                Output::Peer { frame, .. } => drop(codec::encode_peer(&frame).expect("a frame")),
                Output::Witness(call) => {
                    codec::encode_witness_call(&call).expect("a call within the limits");
                    if let lockstep::wire::frames::WitnessCall::CompareAndSwap { request } = call {
                        self.asked = Some(request);
                    }
                }
                Output::Client { answer, .. } => {
                    codec::encode_client_answers(&vec![answer])
                        .expect("an answer within the limits");
                }
                Output::Stop { .. } => self.stopped = true,
                Output::Release { .. } => assert!(!self.stopped, "released after the end"),
                Output::Recover { .. } => self.recover(now),
                Output::Storage(StorageRequest::Truncate { .. }) => {}
                output @ (Output::Storage(StorageRequest::FindCommonPrefix { .. })
                | Output::Storage(StorageRequest::ReadEntries { .. })
                | Output::Storage(StorageRequest::ReadChunk { .. })
                | Output::Storage(StorageRequest::BeginChunks(_))
                | Output::Storage(StorageRequest::WriteChunk { .. })
                | Output::Storage(StorageRequest::Install { .. })
                | Output::WriteCheckpoint { .. }) => self.stored(now, output),
                Output::Storage(StorageRequest::Retain { .. }) | Output::UseWitness { .. } => {}
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
        assert!(status.last_index.0 - status.released.0 <= window, "too much is held: {status:?}");
        assert!(self.todo.len() as u64 <= window);
        assert!(status.pending <= 2 * limits::KEPT_INPUTS);
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
            self.open_sessions.executed(&entry, &executed, &self.unit);
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
}

fn time(now: u64) -> Timestamps {
    Timestamps { mono: MonotonicTime(now), wall: LogTime(1_000_000_000_000 + now) }
}
