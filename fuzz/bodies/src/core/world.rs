//! What is between the nodes: links, the witness, clients, and the time.

use ::core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::{
    ConnId, Epoch, Incarnation, Index, Lineage, LinkId, LogTime, MonotonicTime, Nonce, PairId,
    ReplicaId, RequestNumber, SessionId, Timestamps,
};
use lockstep::limits;
use lockstep::output::OutputKind;
use lockstep::proto::{Boot, Config, DivergencePolicy, Input, Replica};
use lockstep::record::Record;
use lockstep::wire::codec;
use lockstep::wire::frames::{Environment, Versions};
use lockstep::witness::{self, Held, Witness};

use super::disk::{Disk, State};
use super::node::{Mail, Node, incarnation};

pub(super) const PAIR: PairId = PairId([7; 16]);
pub(super) const MS: u64 = 1_000_000;
pub(super) const PROTOCOL: Versions = Versions::SPOKEN;
/// More than this under way to one node is lost: connections have buffers.
const MAIL: usize = 512;

/// Names a released output.
pub(super) type Name = (Index, u32, u32);

pub(super) struct World {
    pub(super) now: u64,
    pub(super) nodes: [Node; 2],
    /// By link: the number of its present connection, if there is one.
    pub(super) connections: [Option<u64>; 2],
    /// By link: it is up and brings nothing.
    pub(super) cut: [bool; 2],
    pub(super) witness: Witness,
    pub(super) witness_up: bool,
    /// Whether what is asked of the witness is lost without a word.
    pub(super) witness_deaf: bool,
    /// Each node's connection to the witness.
    pub(super) witness_conns: [Option<ConnId>; 2],
    pub(super) numbers: u64,
    /// Every output that was ever released.
    pub(super) released: BTreeMap<Name, OutputKind>,
    /// What anybody was ever told of a request.
    pub(super) replies: BTreeMap<(SessionId, RequestNumber), Bytes>,
    pub(super) opened: BTreeMap<Nonce, SessionId>,
    /// By entry at which something was released: the log's digest there.
    pub(super) acknowledged: BTreeMap<Index, Digest>,
    /// Every process that may release, by a record or by what a member told it.
    pub(super) members: BTreeSet<Incarnation>,
    /// Every checkpoint that was ever taken.
    pub(super) taken: Vec<State>,
    /// A service computed something else, or panicked.
    pub(super) wrong: bool,
    /// Whether a process with a wrong service was started again, with a sound one. What it had
    /// released while it was alone may be contradicted.
    pub(super) doubtful: bool,
    /// What has been seen, by name.
    pub(super) reached: BTreeSet<&'static str>,
}

fn config(place: ReplicaId) -> Config {
    Config {
        pair: PAIR,
        place,
        links: 2,
        environment: Environment {
            service: "tally".into(),
            service_version: 1,
            configuration: Digest::ZERO,
            protocol: PROTOCOL,
        },
        silence: Duration::from_millis(100),
        silence_floor: Duration::from_millis(40),
        heartbeat: Duration::from_millis(10),
        slow_limit: Duration::from_millis(500),
        forward_delay: Duration::from_millis(20),
        hold_limit: Duration::from_millis(300),
        window_entries: 16,
        window_bytes: limits::WINDOW_BYTES_MIN,
        witnesses: 1,
        witness_patience: Duration::from_secs(1),
        divergence: DivergencePolicy::Sequencer,
        meeting: Duration::from_millis(100),
        clock_step: lockstep::limits::CLOCK_STEP,
        gap_least: lockstep::limits::GAP_LEAST,
        clock_slew: lockstep::limits::CLOCK_SLEW,
        checkpoint_bytes: 3_000,
        join_rate: 64 << 20,
    }
}

pub(super) fn node(place: ReplicaId, generation: u64, disk: Disk, now: Timestamps) -> Node {
    let incarnation = incarnation(place, generation);
    let seed = [incarnation.0 as u8; 32];
    let boot = Boot { incarnation, seed, disk: disk.found(), adopt: false };
    Node::new(Replica::new(config(place), boot, now), incarnation, disk)
}

pub(super) fn time(now: u64) -> Timestamps {
    Timestamps { mono: MonotonicTime(now), wall: LogTime(1_000_000_000_000 + now) }
}

impl World {
    pub(super) fn new() -> Self {
        let now = 1_000 * MS;
        let vacant = Record::vacant(PAIR, Lineage(0), Epoch(0));
        let grace = witness::Config { grace: Duration::ZERO };
        let mut world = Self {
            now,
            nodes: ReplicaId::BOTH.map(|place| node(place, 0, Disk::new(), time(now))),
            connections: [None; 2],
            cut: [false; 2],
            witness: Witness::new(MonotonicTime(now), grace, [(PAIR, Some(Held::trusted(vacant)))]),
            witness_up: true,
            witness_deaf: false,
            witness_conns: [None; 2],
            numbers: 0,
            released: BTreeMap::new(),
            replies: BTreeMap::new(),
            opened: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            members: BTreeSet::new(),
            taken: Vec::new(),
            wrong: false,
            doubtful: false,
            reached: BTreeSet::new(),
        };
        world.connect(LinkId(0));
        world.connect(LinkId(1));
        for place in ReplicaId::BOTH {
            world.reach_witness(place);
        }
        world
    }

    pub(super) fn node(&mut self, place: ReplicaId) -> &mut Node {
        &mut self.nodes[place.slot()]
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Tells a replica something, and does what it wants done.
    pub(super) fn tell(&mut self, place: ReplicaId, input: Input) {
        let now = time(self.now);
        if self.node(place).runs() {
            self.node(place).replica.handle(now, input);
            self.drain(place);
        }
    }

    /// Delivers the mail at this position.
    pub(super) fn deliver(&mut self, to: ReplicaId, at: usize) {
        let node = self.node(to);
        if !node.runs() || node.inbox.is_empty() {
            return;
        }
        let at = at % node.inbox.len();
        let Some(mail) = node.inbox.remove(at) else { return };
        match mail {
            Mail::Peer { link, connection, bytes } => {
                let slot = usize::from(link.0);
                if self.connections[slot] == Some(connection) && !self.cut[slot] {
                    let frame = codec::decode_peer(&bytes).expect("written by the other");
                    self.tell(to, Input::Peer { link, frame });
                }
            }
            Mail::Witness { conn, bytes } => {
                if self.witness_conns[to.slot()] == Some(conn) {
                    let answer = codec::decode_witness_answer(&bytes).expect("the witness's");
                    self.tell(to, Input::Witness(answer));
                }
            }
        }
    }

    pub(super) fn deliver_all(&mut self, to: ReplicaId) {
        for _ in 0..self.node(to).inbox.len() {
            self.deliver(to, 0);
        }
    }

    pub(super) fn lose(&mut self, to: ReplicaId, at: usize) {
        let inbox = &mut self.node(to).inbox;
        let at = at % inbox.len().max(1);
        inbox.remove(at);
    }

    pub(super) fn repeat(&mut self, to: ReplicaId, at: usize) {
        let inbox = &mut self.node(to).inbox;
        let at = at % inbox.len().max(1);
        if let Some(mail) = inbox.get(at).cloned() {
            inbox.push_back(mail);
        }
    }

    pub(super) fn post(&mut self, to: ReplicaId, mail: Mail) {
        let node = self.node(to);
        if node.alive && node.inbox.len() < MAIL {
            node.inbox.push_back(mail);
        }
    }

    /// Lets time pass: up to 3 ms, 60 ms or 600 ms in one leap.
    pub(super) fn pass(&mut self, choice: u8) {
        let unit = [MS / 20, MS / 20, MS, 10 * MS][usize::from(choice >> 6)];
        self.now += unit * u64::from(choice & 63);
        self.fire();
    }

    pub(super) fn fire(&mut self) {
        for place in ReplicaId::BOTH {
            let now = MonotonicTime(self.now);
            let due = self.node(place).replica.next_timeout().is_some_and(|due| due <= now);
            if due {
                self.tell(place, Input::Timeout);
            }
        }
    }

    /// Lets the pair run as it should, for this many half milliseconds. Only here do devices stand
    /// (rule O12): until then the wake-ups of a log that was taken up again are held.
    pub(super) fn settle(&mut self, spans: u32) {
        for _ in 0..spans {
            self.now += MS / 2;
            for place in ReplicaId::BOTH {
                self.deliver_all(place);
                self.execute(place, usize::MAX);
                if !self.node(place).storage.lazy {
                    self.catch_up(place);
                }
                if self.node(place).runs() && self.node(place).replica.waits_for_devices() {
                    self.tell(place, Input::DevicesStand);
                }
            }
            self.fire();
        }
    }

    /// Has the service execute this many entries.
    pub(super) fn execute(&mut self, place: ReplicaId, most: usize) {
        for _ in 0..most {
            if !self.node(place).runs() {
                return;
            }
            let Some(executed) = self.node(place).execute() else { return };
            self.wrong |= executed.panic.is_some();
            self.tell(place, Input::Executed(executed));
        }
    }
}
