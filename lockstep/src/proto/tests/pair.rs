//! Two replicas and a witness in virtual time, for tests that read as scenarios.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::disk::{Disk, State};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind};
use crate::event::{Event, StopCause};
use crate::history::History;
use crate::ids::{
    ConnId, DeviceId, Epoch, Incarnation, Index, Lineage, LinkId, LogTime, MonotonicTime, Nonce,
    OwnerId, PairId, ReplicaId, RequestNumber, SessionId, Timestamps,
};
use crate::loss::SessionUse;
use crate::output::{self, Carrier, Executed, Output as ServiceOutput, OutputKind, Refusal};
use crate::proto::io::{
    Boot, Config, DivergencePolicy, Input, LinkSet, Membership, Output, Standing,
};
use crate::proto::{Replica, StorageRequest, StorageResponse};
use crate::record::Record;
use crate::wire::frames::{
    ClientAnswer, ClientCall, Environment, PeerFrame, Versions, WitnessAnswer, WitnessCall,
    WitnessRefusal,
};

pub(super) const MS: Duration = Duration::from_millis(1);
const HOP: Duration = Duration::from_micros(50);
const PAIR: PairId = PairId([7; 16]);
pub(super) const CLIENT: ConnId = ConnId(1);

/// Makes something else of what a step came to.
pub(super) type Deviation = fn(&mut Vec<ServiceOutput>, &mut Option<LogTime>);

enum Mail {
    Peer { to: ReplicaId, link: LinkId, frame: PeerFrame },
    Ask { from: ReplicaId, call: WitnessCall },
    Answer { to: ReplicaId, answer: WitnessAnswer },
}

pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) alive: bool,
    pub(super) paused: bool,
    digest: Digest,
    pub(super) released: Vec<((Index, u32), Bytes)>,
    pub(super) answers: Vec<ClientAnswer>,
    /// What its clients were told of the other one's return.
    pub(super) told_back: Vec<(ReplicaId, Incarnation)>,
    pub(super) events: Vec<Event>,
    pub(super) stopped: Option<StopCause>,
    pub(super) standings: Vec<Standing>,
    /// The service here computes something else from this entry on.
    pub(super) wrong_from: Option<Index>,
    pub(super) panics_at: Option<Index>,
    /// What the service here does to its outputs at an entry, and to when it is to be woken.
    pub(super) differs: Option<(Index, Deviation)>,
    /// The service here takes entries and does not end with one, until [`Pair::resume`].
    pub(super) executes: bool,
    unexecuted: VecDeque<Entry>,
    /// How long a step takes here; and when the one under way ends.
    pub(super) step_takes: Duration,
    step_ends: Option<Duration>,
    /// How long a sync takes here; what waits for the next one, and what is under way until when.
    pub(super) sync_takes: Duration,
    unsynced: Vec<Entry>,
    syncing: Option<(Duration, Vec<Entry>)>,
    /// What was executed, from the first entry on.
    pub(super) executed: Vec<EntryKind>,
    /// The batches that the replica made, with the links for each.
    pub(super) batches: Vec<(LinkSet, Vec<Index>)>,
    /// Of each checkpoint that is taken, whether the other held its entry by then.
    pub(super) held_before_frozen: Vec<bool>,
    /// How often the witness was called.
    pub(super) calls: usize,
    /// How often it looked up what a joiner has.
    pub(super) prefix_searches: usize,
    waiting: VecDeque<Mail>,
    /// Whether the devices do what they are told. Survives the process, as does the disk.
    pub(super) devices_stand: bool,
    /// What the process finds when it is started again.
    pub(super) disk: Disk,
    /// Nothing is persisted any more.
    pub(super) disk_stuck: bool,
    /// No state is restored, until [`Pair::finish_recovery`].
    pub(super) slow_recovery: bool,
    unrecovered: Option<Option<Index>>,
    /// No membership is written, until [`Pair::finish_membership`].
    pub(super) slow_membership: bool,
    unremembered: Vec<(u64, Membership)>,
    /// The service wants to be woken then, once.
    pub(super) wakes: Option<LogTime>,
    /// The service's state here is another one, although its outputs are the same.
    pub(super) other_state: bool,
    /// No checkpoint is finished, until [`Pair::finish_checkpoint`].
    pub(super) slow_checkpoints: bool,
    unfinished: Option<History>,
    /// When the writing of each checkpoint began.
    pub(super) written: Vec<(Duration, Index)>,
    /// The outputs' digest at each entry at which a checkpoint is taken.
    frozen: BTreeMap<Index, Digest>,
}

/// The pair, its witness and what is under way between them.
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) nodes: [Node; 2],
    pub(super) record: Record,
    pub(super) witness_up: bool,
    /// What the alternate witness has, if anything; whether it can be reached, and which of the
    /// two each replica asks.
    pub(super) alternate: Option<Record>,
    pub(super) alternate_up: bool,
    slots: [u8; 2],
    /// The preferred witness has lost what it had.
    pub(super) witness_wiped: bool,
    /// Answers of the witness are lost.
    pub(super) witness_mute: bool,
    /// It answers every call so.
    pub(super) witness_refuses: Option<WitnessRefusal>,
    /// By link: whether it carries frames.
    pub(super) links: [bool; 2],
    pub(super) loss: Box<dyn FnMut() -> bool>,
    /// Batches are lost; all else arrives.
    pub(super) batches_lost: bool,
    /// Heartbeats and their answers are lost; all else arrives.
    pub(super) heartbeats_lost: bool,
    /// Lists of digests, and outlines, are lost; all else arrives.
    pub(super) digests_lost: bool,
    pub(super) outlines_lost: bool,
    /// The answers to heartbeats are lost; all else arrives.
    pub(super) echoes_lost: bool,
    /// How far a place's wall clock is ahead.
    pub(super) wall_ahead: [Duration; 2],
    /// How long a frame is on its way.
    pub(super) hop: Duration,
    /// Entries are executed before they are sent.
    pub(super) executes_first: bool,
    /// Bytes of entries that a joiner was sent because it asked for them, sent again or not.
    pub(super) fetched: u64,
    /// How often a joiner asked to join.
    pub(super) joins: usize,
    /// How often somebody said that its disk knows that it is a member.
    pub(super) admitted: usize,
    /// When each piece was sent that a joiner asked for, and its bytes.
    pub(super) pieces: Vec<(Duration, u64)>,
    mail: Vec<(Duration, u64, Mail)>,
    sent: u64,
    started: u64,
    /// With what the next process at a place is started.
    pub(super) configured: Box<dyn Fn(ReplicaId) -> Config>,
}

pub(super) fn config(place: ReplicaId) -> Config {
    Config {
        pair: PAIR,
        place,
        links: 2,
        environment: Environment {
            service: "test".into(),
            service_version: 1,
            configuration: Digest::ZERO,
            protocol: Versions::SPOKEN,
        },
        silence: MS * 100,
        silence_floor: MS * 40,
        heartbeat: MS * 10,
        slow_limit: MS * 500,
        forward_delay: MS * 20,
        hold_limit: MS * 300,
        window_entries: 64,
        window_bytes: crate::limits::WINDOW_BYTES_MIN,
        divergence: DivergencePolicy::Sequencer,
        witnesses: 1,
        witness_patience: MS * 200,
        meeting: Duration::from_secs(1),
        clock_step: crate::limits::CLOCK_STEP,
        gap_least: crate::limits::GAP_LEAST,
        clock_slew: crate::limits::CLOCK_SLEW,
        checkpoint_bytes: 64 << 20,
        join_rate: 64 << 20,
    }
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(config)
    }

    pub(super) fn with(config: impl Fn(ReplicaId) -> Config + 'static) -> Self {
        let now = Duration::from_secs(1);
        let nodes = ReplicaId::BOTH.map(|place| {
            let incarnation = Incarnation(10 + place.slot() as u64);
            let boot =
                Boot { incarnation, seed: [place.slot() as u8; 32], disk: None, adopt: false };
            Node {
                replica: Replica::new(config(place), boot, time(now)),
                alive: true,
                paused: false,
                digest: Digest::ZERO,
                released: Vec::new(),
                answers: Vec::new(),
                told_back: Vec::new(),
                events: Vec::new(),
                stopped: None,
                standings: Vec::new(),
                wrong_from: None,
                panics_at: None,
                differs: None,
                executes: true,
                unexecuted: VecDeque::new(),
                step_takes: Duration::ZERO,
                step_ends: None,
                sync_takes: Duration::ZERO,
                unsynced: Vec::new(),
                syncing: None,
                executed: Vec::new(),
                batches: Vec::new(),
                held_before_frozen: Vec::new(),
                calls: 0,
                prefix_searches: 0,
                waiting: VecDeque::new(),
                devices_stand: true,
                disk: Disk::default(),
                disk_stuck: false,
                slow_recovery: false,
                slow_membership: false,
                unremembered: Vec::new(),
                unrecovered: None,
                other_state: false,
                wakes: None,
                slow_checkpoints: false,
                unfinished: None,
                written: Vec::new(),
                frozen: BTreeMap::new(),
            }
        });
        let mut pair = Self {
            now,
            nodes,
            record: Record::vacant(PAIR, Lineage(0), Epoch(0)),
            witness_up: true,
            alternate: None,
            alternate_up: true,
            slots: [0; 2],
            witness_wiped: false,
            witness_mute: false,
            witness_refuses: None,
            links: [true; 2],
            loss: Box::new(|| false),
            batches_lost: false,
            heartbeats_lost: false,
            digests_lost: false,
            outlines_lost: false,
            echoes_lost: false,
            wall_ahead: [Duration::ZERO; 2],
            hop: HOP,
            executes_first: false,
            fetched: 0,
            joins: 0,
            admitted: 0,
            pieces: Vec::new(),
            mail: Vec::new(),
            sent: 0,
            started: 0,
            configured: Box::new(config),
        };
        for place in ReplicaId::BOTH {
            pair.tell(place, Input::WitnessUp);
            pair.tell(place, Input::LinkUp { link: LinkId(0) });
            pair.tell(place, Input::LinkUp { link: LinkId(1) });
        }
        pair
    }

    /// A pair that is formed, with place `a` as the sequencer.
    pub(super) fn formed() -> Self {
        let mut pair = Self::new();
        pair.run(MS * 100);
        assert!(pair.record.members.is_duplex());
        pair
    }

    pub(super) fn node(&mut self, place: ReplicaId) -> &mut Node {
        &mut self.nodes[place.slot()]
    }

    pub(super) fn tell(&mut self, place: ReplicaId, input: Input) {
        let now = self.time(place);
        if self.node(place).alive {
            self.node(place).replica.handle(now, input);
            self.drain(place);
        }
    }

    pub(super) fn device_input(&mut self, place: ReplicaId, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        assert!(self.node(place).replica.takes_input());
        self.tell(place, Input::Device { device: DeviceId(0), bytes });
    }

    /// Inputs of one round: all of them are there before anything is sent.
    pub(super) fn device_inputs(&mut self, place: ReplicaId, inputs: &[Bytes]) {
        let now = self.time(place);
        for bytes in inputs {
            let input = Input::Device { device: DeviceId(0), bytes: bytes.clone() };
            self.node(place).replica.handle(now, input);
        }
        self.drain(place);
    }

    pub(super) fn call(&mut self, place: ReplicaId, call: ClientCall) {
        self.call_if(true, place, call);
    }

    fn call_if(&mut self, permitted: bool, place: ReplicaId, call: ClientCall) {
        self.tell(place, Input::Client { conn: CLIENT, owner: OwnerId(1), permitted, call });
    }

    pub(super) fn greet(&mut self, place: ReplicaId) {
        let protocol = Versions::SPOKEN;
        self.call(place, ClientCall::Hello { pair: PAIR, protocol });
    }

    pub(super) fn request(&mut self, place: ReplicaId, number: u64, alone: bool) {
        self.request_if(true, place, number, alone);
    }

    /// A request that the client's key may make, or may not.
    pub(super) fn request_if(
        &mut self,
        permitted: bool,
        place: ReplicaId,
        number: u64,
        alone: bool,
    ) {
        let (session, token) = (SessionId(3), Nonce(9));
        let (number, lowest) = (RequestNumber(number), RequestNumber(1));
        let body = Bytes::from_static(b"do");
        let call = ClientCall::Request { session, token, number, lowest, alone, body };
        self.call_if(permitted, place, call);
    }

    pub(super) fn kill(&mut self, place: ReplicaId) {
        self.node(place).alive = false;
    }

    /// A new process at that place, with what the disk holds.
    pub(super) fn restart(&mut self, place: ReplicaId) {
        self.restart_with(place, false);
    }

    pub(super) fn restart_with(&mut self, place: ReplicaId, adopt: bool) {
        self.started += 1;
        let incarnation = Incarnation(100 + self.started);
        let (now, configured) = (self.time(place), (self.configured)(place));
        let node = self.node(place);
        let disk = node.disk.found();
        let boot = Boot { incarnation, seed: [place.slot() as u8; 32], disk, adopt };
        node.replica = Replica::new(configured, boot, now);
        (node.alive, node.paused, node.stopped) = (true, false, None);
        node.digest = Digest::ZERO;
        node.released.clear();
        node.executed.clear();
        node.unexecuted.clear();
        (node.step_ends, node.syncing) = (None, None);
        node.unsynced.clear();
        node.waiting.clear();
        node.events.clear();
        node.slow_membership = false;
        node.unremembered.clear();
        self.slots[place.slot()] = 0;
        self.drain(place);
        self.mail.retain(|(_, _, mail)| match mail {
            Mail::Peer { to, .. } | Mail::Answer { to, .. } => *to != place,
            Mail::Ask { from, .. } => *from != place,
        });
        if self.slots[place.slot()] == 0 && self.witness_up {
            self.tell(place, Input::WitnessUp);
        }
        self.reconnect();
    }

    /// Connections that ended, or were closed, are made again, as a driver does.
    pub(super) fn reconnect(&mut self) {
        for link in [LinkId(0), LinkId(1)] {
            for end in ReplicaId::BOTH {
                self.tell(end, Input::LinkDown { link });
                self.tell(end, Input::LinkUp { link });
            }
        }
    }

    /// The operator gives up what the pair held.
    pub(super) fn begin_lineage(&mut self) {
        let Record { pair, lineage, epoch, .. } = self.record;
        self.record = Record::vacant(pair, Lineage(lineage.0 + 1), epoch.next());
    }

    /// A disk as it comes from the shop.
    pub(super) fn wipe(&mut self, place: ReplicaId) {
        self.node(place).disk = Disk::default();
    }

    /// Runs until the pair is redundant again.
    pub(super) fn run_to_duplex(&mut self) {
        for _ in 0..100 {
            self.run(MS * 50);
            let duplex = |node: &Node| {
                matches!(node.replica.status().standing, Standing::Serving { duplex: true, .. })
            };
            if self.nodes.iter().all(|node| node.alive && duplex(node)) {
                return;
            }
        }
        let status = ReplicaId::BOTH.map(|place| self.node(place).replica.status());
        panic!("the pair does not become redundant: {status:#?}");
    }

    /// Runs, in small steps, until this one has seen such an event.
    pub(super) fn run_until(&mut self, place: ReplicaId, wanted: impl Fn(&Event) -> bool) {
        for _ in 0..100_000 {
            if self.node(place).saw(&wanted) {
                return;
            }
            self.run(MS / 10);
        }
        panic!("{place} does not come to that: {:#?}", self.node(place).replica.status());
    }

    pub(super) fn pause(&mut self, place: ReplicaId, paused: bool) {
        self.node(place).paused = paused;
        if !paused {
            for mail in core::mem::take(&mut self.node(place).waiting) {
                self.post(mail);
            }
        }
    }

    /// The service goes on with what it was given.
    pub(super) fn resume(&mut self, place: ReplicaId) {
        self.node(place).executes = true;
        for entry in core::mem::take(&mut self.node(place).unexecuted) {
            let executed = self.node(place).execute(&entry);
            self.tell(place, Input::Executed(executed));
        }
    }

    /// The connection to the witness ends, or comes up again, on both sides.
    pub(super) fn connect_witness(&mut self, up: bool) {
        self.witness_up = up;
        let slots = self.slots;
        for place in ReplicaId::BOTH.into_iter().filter(|place| slots[place.slot()] == 0) {
            self.tell(place, if up { Input::WitnessUp } else { Input::WitnessDown });
        }
    }

    fn time(&self, place: ReplicaId) -> Timestamps {
        let Timestamps { mono, wall } = time(self.now);
        let ahead = self.wall_ahead[place.slot()].as_nanos() as u64;
        Timestamps { mono, wall: LogTime(wall.0 + ahead) }
    }

    /// A frame comes from the peer, as though it had sent it.
    pub(super) fn forge(&mut self, to: ReplicaId, frame: PeerFrame) {
        self.tell(to, Input::Peer { link: LinkId(0), frame });
    }

    pub(super) fn cut(&mut self, link: u8, carries: bool) {
        self.links[usize::from(link)] = carries;
    }

    /// Lets time pass, in steps of a tenth of a millisecond.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += MS / 10;
            self.deliver();
            for place in ReplicaId::BOTH {
                self.work(place);
                let (now, node) = (self.time(place), self.node(place));
                let due = node.replica.next_timeout().is_some_and(|due| due <= now.mono);
                if due && node.alive && !node.paused {
                    self.tell(place, Input::Timeout);
                }
            }
        }
    }

    /// Ends the step and the sync that are under way, when it is time, and begins the next.
    fn work(&mut self, place: ReplicaId) {
        let now = self.now;
        let node = self.node(place);
        if !node.alive || node.paused {
            return;
        }
        if let Some((_, entries)) = node.syncing.take_if(|(ends, _)| *ends <= now) {
            let last = entries.last().expect("something is synced").index;
            for entry in entries {
                node.disk.append(entry);
            }
            self.tell(place, Input::Storage(StorageResponse::Persisted(last)));
        }
        let node = self.node(place);
        if node.syncing.is_none() && !node.unsynced.is_empty() {
            let entries = core::mem::take(&mut node.unsynced);
            node.syncing = Some((now + node.sync_takes, entries));
        }
        if node.step_ends.take_if(|ends| *ends <= now).is_some() {
            let entry = node.unexecuted.pop_front().expect("the step's entry");
            let executed = node.execute(&entry);
            self.tell(place, Input::Executed(executed));
        }
        let node = self.node(place);
        if node.executes && node.step_ends.is_none() && !node.unexecuted.is_empty() {
            node.step_ends = Some(now + node.step_takes);
        }
    }

    fn deliver(&mut self) {
        self.mail.sort_by_key(|(at, sent, _)| (*at, *sent));
        while self.mail.first().is_some_and(|(at, ..)| *at <= self.now) {
            match self.mail.remove(0).2 {
                Mail::Ask { from, call } => self.witness(from, call),
                Mail::Answer { to, answer } if self.witness_up || self.slots[to.slot()] == 1 => {
                    self.arrive(to, Mail::Answer { to, answer });
                }
                Mail::Peer { to, link, frame } if self.links[usize::from(link.0)] => {
                    self.arrive(to, Mail::Peer { to, link, frame });
                }
                _ => {}
            }
        }
    }

    fn arrive(&mut self, to: ReplicaId, mail: Mail) {
        if self.node(to).paused {
            return self.node(to).waiting.push_back(mail);
        }
        match mail {
            Mail::Answer { answer, .. } => self.tell(to, Input::Witness(answer)),
            Mail::Peer { link, frame, .. } => self.tell(to, Input::Peer { link, frame }),
            Mail::Ask { .. } => {}
        }
    }

    /// A witness without its own rules: compare and set.
    fn witness(&mut self, from: ReplicaId, call: WitnessCall) {
        if self.slots[from.slot()] == 1 {
            return self.alternate(from, &call);
        }
        if !self.witness_up {
            return;
        }
        if let WitnessCall::Enrol { record } = call
            && self.witness_wiped
        {
            (self.record, self.witness_wiped) = (record, false);
        }
        if self.witness_wiped {
            let answer = WitnessAnswer::Refused { reason: WitnessRefusal::UnknownPair };
            return self.post(Mail::Answer { to: from, answer });
        }
        if let Some(reason) = self.witness_refuses {
            let answer = WitnessAnswer::Refused { reason };
            return self.post(Mail::Answer { to: from, answer });
        }
        if let WitnessCall::CompareAndSwap { request } = call
            && request.present == self.record.digest()
        {
            self.record = request.next;
        }
        if !self.witness_mute {
            let answer = WitnessAnswer::Present { record: self.record };
            self.post(Mail::Answer { to: from, answer });
        }
    }

    fn alternate(&mut self, from: ReplicaId, call: &WitnessCall) {
        if !self.alternate_up {
            return;
        }
        match (call, &mut self.alternate) {
            (WitnessCall::Enrol { record }, present)
                if present.is_none_or(|present| present.epoch < record.epoch) =>
            {
                *present = Some(*record);
            }
            (WitnessCall::CompareAndSwap { request }, Some(present))
                if request.present == present.digest() =>
            {
                *present = request.next;
            }
            _ => {}
        }
        let answer = match self.alternate {
            Some(record) => WitnessAnswer::Present { record },
            None => WitnessAnswer::Refused { reason: WitnessRefusal::UnknownPair },
        };
        self.post(Mail::Answer { to: from, answer });
    }

    fn use_witness(&mut self, place: ReplicaId, slot: u8) {
        self.slots[place.slot()] = slot;
        let up = if slot == 0 { self.witness_up } else { self.alternate_up };
        if up {
            let now = self.time(place);
            self.node(place).replica.handle(now, Input::WitnessUp);
        }
    }

    fn post(&mut self, mail: Mail) {
        match &mail {
            Mail::Peer { frame: PeerFrame::Entries { entries, .. }, .. } => {
                let bytes = entries.iter().map(|entry| entry.weight() as u64).sum::<u64>();
                self.fetched += bytes;
                self.pieces.push((self.now, bytes));
            }
            Mail::Peer { frame: PeerFrame::Chunk { bytes, .. }, .. } => {
                self.pieces.push((self.now, bytes.len() as u64));
            }
            Mail::Peer { frame: PeerFrame::Join { .. }, .. } => self.joins += 1,
            Mail::Peer { frame: PeerFrame::Admitted { .. }, .. } => self.admitted += 1,
            _ => {}
        }
        self.sent += 1;
        self.mail.push((self.now + self.hop, self.sent, mail));
    }

    fn drain(&mut self, place: ReplicaId) {
        if self.executes_first {
            self.node(place).replica.hand_out_first(usize::MAX);
            while let Some(output) = self.node(place).replica.poll_decided() {
                self.carry_out(place, output);
            }
        }
        while let Some(output) = self.node(place).replica.poll() {
            self.carry_out(place, output);
        }
        let node = self.node(place);
        if node.alive && node.devices_stand && node.replica.waits_for_devices() {
            self.tell(place, Input::DevicesStand);
        }
    }

    fn note_freeze(&mut self, place: ReplicaId, entry: &Entry) {
        if matches!(entry.kind, EntryKind::Checkpoint) {
            let last_index = self.node(place.other()).replica.status().last_index >= entry.index;
            self.node(place).held_before_frozen.push(last_index);
        }
    }

    fn carry_out(&mut self, place: ReplicaId, output: Output) {
        let now = self.time(place);
        match output {
            Output::Peer { links, frame } => {
                let batch = matches!(frame, PeerFrame::Batch { .. });
                if let PeerFrame::Batch { entries, .. } = &frame {
                    let indices = entries.iter().map(|entry| entry.index).collect();
                    self.node(place).batches.push((links, indices));
                }
                for link in links.iter() {
                    let (to, frame) = (place.other(), frame.clone());
                    let echo = matches!(frame, PeerFrame::Pong { .. });
                    let beat = matches!(frame, PeerFrame::Ping { .. } | PeerFrame::Pong { .. });
                    let lost = (self.loss)()
                        || (batch && self.batches_lost)
                        || (self.digests_lost && matches!(frame, PeerFrame::Digests { .. }))
                        || (self.outlines_lost && matches!(frame, PeerFrame::Outline(_)))
                        || (beat && self.heartbeats_lost)
                        || (echo && self.echoes_lost);
                    if !lost {
                        self.post(Mail::Peer { to, link, frame });
                    }
                }
            }
            Output::Witness(call) => {
                self.node(place).calls += 1;
                self.post(Mail::Ask { from: place, call });
            }
            Output::Client {
                answer: ClientAnswer::PeerBack { place: of, incarnation }, ..
            } => {
                self.node(place).told_back.push((of, incarnation));
            }
            Output::Client { answer, .. } => self.node(place).answers.push(answer),
            Output::Append(entry) => {
                let node = self.node(place);
                if node.sync_takes > Duration::ZERO {
                    node.unsynced.push(entry);
                } else if !node.disk_stuck {
                    let index = entry.index;
                    node.disk.append(entry);
                    node.disk.mark = node.replica.mark().0;
                    node.replica.handle(now, Input::Storage(StorageResponse::Persisted(index)));
                }
            }
            Output::Storage(StorageRequest::PersistMembership { number, membership }) => {
                let node = self.node(place);
                if node.slow_membership {
                    return node.unremembered.push((number, membership));
                }
                if !node.disk_stuck {
                    node.disk.membership = membership;
                    node.replica
                        .handle(now, Input::Storage(StorageResponse::MembershipPersisted(number)));
                }
            }
            Output::Execute(entry)
                if self.node(place).executes && self.node(place).step_takes.is_zero() =>
            {
                self.note_freeze(place, &entry);
                let executed = self.node(place).execute(&entry);
                self.node(place).replica.handle(now, Input::Executed(executed));
            }
            Output::Execute(entry) => self.node(place).unexecuted.push_back(entry),
            Output::Release { index, step, kind: OutputKind::Device { bytes, .. }, .. } => {
                self.node(place).released.push(((index, step), bytes));
            }
            Output::Event(event) => self.node(place).events.push(event),
            Output::Stop { cause } => self.node(place).stopped = Some(cause),
            Output::Standing(standing) => self.node(place).standings.push(standing),
            Output::UseWitness { slot } => self.use_witness(place, slot),
            other => self.storage(place, other),
        }
    }
}

/// What the pair's disks answer.
impl Pair {
    fn storage(&mut self, place: ReplicaId, output: Output) {
        let sender = self.node(place.other()).disk.clone();
        let began = self.now;
        let node = self.node(place);
        let answer = match output {
            Output::Recover { to } if node.slow_recovery => {
                return node.unrecovered = Some(to);
            }
            Output::Recover { to } => {
                let mut disk = core::mem::take(&mut node.disk);
                node.digest = Digest::ZERO;
                node.executed.clear();
                let (digest, answer) = disk.recover(to, |before, entry| {
                    node.digest = before;
                    node.execute(entry).digest
                });
                (node.disk, node.digest) = (disk, digest);
                answer
            }
            Output::Storage(StorageRequest::Truncate { after }) => {
                return node.disk.truncate(after);
            }
            Output::Storage(StorageRequest::FindCommonPrefix { points }) => {
                node.prefix_searches += 1;
                node.disk.find_common_prefix(&points)
            }
            Output::Storage(StorageRequest::ReadEntries { after }) => node.disk.read(after),
            Output::Storage(StorageRequest::ReadChunk { checkpoint, offset }) => {
                node.disk.read_chunk(checkpoint, offset)
            }
            Output::Storage(StorageRequest::BeginChunks(file)) => node.disk.begin_chunks(file),
            Output::Storage(StorageRequest::WriteChunk { checkpoint, offset, bytes }) => {
                node.disk.write_chunk(checkpoint, offset, &bytes)
            }
            Output::Storage(StorageRequest::Install { file, .. }) => {
                node.disk.install(file, &sender)
            }
            Output::WriteCheckpoint { history } => {
                node.written.push((began, history.index));
                if node.slow_checkpoints {
                    return node.unfinished = Some(history);
                }
                node.write(history)
            }
            _ => return,
        };
        let now = self.time(place);
        self.node(place).replica.handle(now, answer);
    }

    /// The state is restored that a process asked for.
    pub(super) fn finish_recovery(&mut self, place: ReplicaId) {
        let node = self.node(place);
        node.slow_recovery = false;
        let to = node.unrecovered.take().expect("one is under way");
        self.storage(place, Output::Recover { to });
        self.drain(place);
    }

    /// What a process is to remember is written.
    pub(super) fn finish_membership(&mut self, place: ReplicaId) {
        let node = self.node(place);
        node.slow_membership = false;
        for (number, membership) in core::mem::take(&mut node.unremembered) {
            self.node(place).disk.membership = membership;
            self.tell(place, Input::Storage(StorageResponse::MembershipPersisted(number)));
        }
    }

    /// The checkpoint that is being written is there.
    pub(super) fn finish_checkpoint(&mut self, place: ReplicaId) {
        let node = self.node(place);
        let history = node.unfinished.take().expect("one is being written");
        let answer = node.write(history);
        self.tell(place, answer);
    }
}

impl Node {
    fn write(&mut self, history: History) -> Input {
        let outputs = self.frozen[&history.index];
        let mut answer = self.disk.checkpoint(State { history, outputs });
        if let Input::Storage(StorageResponse::CheckpointWritten { result: Ok(file), .. }) =
            &mut answer
            && self.other_state
        {
            file.hash = Digest(file.hash.0.map(|byte| !byte));
        }
        answer
    }

    /// A service that sends every device input back to where it came from, and answers every
    /// request with its number.
    fn execute(&mut self, entry: &Entry) -> Executed {
        self.executed.push(entry.kind.clone());
        let wrong = self.wrong_from.is_some_and(|from| entry.index >= from);
        let answers = entry.kind.inputs().iter().enumerate();
        let answers = answers.filter_map(|(step, input)| {
            let kind = answer(entry, step, input, wrong)?;
            Some(ServiceOutput { step: step as u32, ordinal: 0, kind })
        });
        let panic = (self.panics_at == Some(entry.index)).then(|| "told to".to_owned());
        let mut outputs: Vec<_> = answers.filter(|_| panic.is_none()).collect();
        let mut wakeup = self.wakes.filter(|at| *at > entry.time);
        if let Some((_, deviate)) = self.differs.filter(|(index, _)| *index == entry.index) {
            deviate(&mut outputs, &mut wakeup);
        }
        self.digest = output::chain(self.digest, entry.index, &outputs, wakeup, panic.is_some());
        if matches!(entry.kind, EntryKind::Checkpoint) {
            self.frozen.insert(entry.index, self.digest);
        }
        Executed {
            index: entry.index,
            digest: self.digest,
            outputs,
            wakeup,
            panic,
            sessions: SessionUse::default(),
        }
    }

    pub(super) fn executed_inputs(&self) -> impl Iterator<Item = &InputKind> {
        self.executed.iter().flat_map(EntryKind::inputs)
    }

    pub(super) fn executed_device_inputs(&self) -> usize {
        let of_device = |input: &&InputKind| matches!(input, InputKind::Device { .. });
        self.executed_inputs().filter(of_device).count()
    }

    pub(super) fn texts(&self) -> Vec<&str> {
        self.released.iter().map(|(_, text)| core::str::from_utf8(text).unwrap()).collect()
    }

    pub(super) fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

/// What an input comes to, if anything.
fn answer(entry: &Entry, step: usize, input: &InputKind, wrong: bool) -> Option<OutputKind> {
    match input {
        InputKind::Device { device, bytes } => {
            let mut bytes = bytes.to_vec();
            if wrong {
                bytes.push(b'!');
            }
            let carrier = Carrier::Replica(entry.origin.place);
            Some(OutputKind::Device { device: *device, carrier, bytes: bytes.into() })
        }
        InputKind::SessionRequest { session, token, number, .. } => Some(OutputKind::Reply {
            session: *session,
            token: *token,
            number: *number,
            result: Ok(Bytes::copy_from_slice(&number.0.to_le_bytes())),
        }),
        InputKind::SessionRefused { session, token, number, .. } => Some(OutputKind::Reply {
            session: *session,
            token: *token,
            number: *number,
            result: Err(Refusal::ReadOnly),
        }),
        InputKind::SessionOpenFor { token, .. } => {
            let session = SessionId::new(entry.index, step);
            Some(OutputKind::Opened { token: *token, result: Ok(session) })
        }
        InputKind::SessionOpen { .. } | InputKind::SessionClose { .. } => None,
    }
}

pub(super) fn time(now: Duration) -> Timestamps {
    let nanos = now.as_nanos() as u64;
    Timestamps { mono: MonotonicTime(nanos), wall: LogTime(1_000_000_000_000 + nanos) }
}
