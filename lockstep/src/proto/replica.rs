//! The hub: one replica's state, and who decides what.
//!
//! What the sections of `docs/protocol.md` say stands in the file of that name, which begins with
//! the section's rules: [`ordering`](super::ordering) (O), [`release`](super::release) (R),
//! [`epochs`](super::epochs) (E), [`joining`](super::joining) (J), [`witnesses`](super::witnesses)
//! (W), [`checkpoints`](super::checkpoints) (K), [`silence`](super::silence) (S),
//! [`divergence`](super::divergence) (D), [`clients`](super::clients) (C) and
//! [`flow`](super::flow) (F). [`peer`](super::peer) takes the peer's frames apart,
//! [`execution`](super::execution) hands entries to the service, and
//! [`timers`](super::timers) knows what is due.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::checkpoints::Checkpoints;
use super::clock::LogClock;
use super::debts::Debts;
use super::divergence::{Divergence, Search};
use super::donor::{Confirming, Joiner, PrefixSearch};
use super::flow::Resend;
use super::gap::{Held, Stop};
use super::gateway::Gateway;
use super::io::{
    Boot, Command, Config, Input, LinkStatus, Output, Standing, Status, StorageResponse,
};
use super::joining::Joining;
use super::links::Link;
use super::log::Log;
use super::membership::Membership;
use super::pending::{PendingInputs, Queue};
use super::release::Agreement;
use super::repair::Repair;
use super::shortage::Shortages;
use super::silence::Silence;
use super::start::Start;
use super::waits::Waiting;
use super::witnesses::Enrolment;
use crate::entry::{Entry, InputKind};
use crate::event::{Event, Reminder, StopCause, Suspicion};
use crate::ids::{Epoch, Incarnation, Index, LinkId, MonotonicTime, Nonce, ReplicaId, Timestamps};
use crate::limits;
use crate::wire::frames::Progress;

/// A replica's protocol state; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Replica {
    pub(super) config: Config,
    pub(super) incarnation: Incarnation,
    pub(super) seed: [u8; 32],
    pub(super) random: ChaCha8Rng,
    pub(super) now: Timestamps,
    pub(super) outputs: VecDeque<Output>,

    // The log.
    pub(super) log: Log,
    pub(super) clock: LogClock,
    /// Entries that came ahead of one that is missing.
    pub(super) reorder_buffer: BTreeMap<Index, Entry>,
    pub(super) reorder_bytes: usize,
    /// The last entry handed out to be executed.
    pub(super) handed_out: Index,
    pub(super) persisted: Index,
    /// Who orders inputs in this epoch.
    pub(super) sequencer: ReplicaId,
    /// The epoch that began with other members than the one before; renewals of it continue it.
    pub(super) membership_epoch: Epoch,
    /// The last hand-over. What a sequencer had not ordered by then it has forgotten.
    pub(super) last_transfer: Index,
    pub(super) pending: PendingInputs,
    /// The follower's inputs that wait to be ordered.
    pub(super) forwarded_inputs: Queue,
    pub(super) released: Index,
    pub(super) window_full_since: Option<MonotonicTime>,
    /// This process took the log up and has not said yet that its devices stand.
    pub(super) held_up: Option<Held>,

    // The peer.
    pub(super) links: Vec<Link>,
    pub(super) silence: Silence,
    pub(super) peer_incarnation: Option<Incarnation>,
    pub(super) progress: Progress,
    /// The last entry that came from the peer, which therefore has it.
    pub(super) peer_last_index: Index,
    pub(super) agreement: Agreement,
    pub(super) divergence: Option<Divergence>,
    /// For the output at which the two differ.
    pub(super) search: Search,
    /// What the peer owes this side, and what this side owes the peer.
    pub(super) peer_debts: Debts,
    pub(super) own_debts: Debts,
    /// What is to be done here, whether or not the peer is done with it.
    pub(super) own_work: Debts,
    /// Whether the peer was not silent when it was last judged.
    pub(super) heard: bool,
    /// When a report of the peer last told of progress.
    pub(super) progressed: MonotonicTime,
    pub(super) resend: Resend,

    // Coming back.
    pub(super) start: Start,
    /// Set while this replica is brought up to date.
    pub(super) join: Option<Joining>,
    /// Set while this one brings the other up to date.
    pub(super) joiner: Option<Joiner>,
    pub(super) prefix_search: PrefixSearch,
    /// Of what begins at or before this entry something could not be read for a joiner, or was of
    /// no use to it: each begins after it.
    pub(super) unusable_up_to: Option<Index>,
    /// A joiner came to other results somewhere up to this entry: until one has joined, each is
    /// sent a checkpoint from after it.
    pub(super) diverged_up_to: Option<Index>,
    /// The record names a joiner that has not been told that it is a member: this one alone is.
    pub(super) is_uncommitted: bool,
    /// The other, newly a member or after a renewal, has not yet said that its disk knows.
    pub(super) confirming: Option<Confirming>,
    /// Since when this member means to leave.
    pub(super) leaving: Option<MonotonicTime>,
    pub(super) repair: Repair,
    pub(super) checkpoints: Checkpoints,
    pub(super) enrolment: Enrolment,

    // The pair.
    pub(super) membership: Membership,
    pub(super) witness_up: bool,
    /// Whether the witness that is not in use is connected, if there is one.
    pub(super) spare_up: bool,
    pub(super) witness_asked: Option<MonotonicTime>,
    /// The witness in use said last that it stores nothing: it is asked less often, and the log
    /// says so when this reminds of it.
    pub(super) no_room: Option<Reminder<MonotonicTime>>,
    pub(super) suspicion: Option<(Suspicion, MonotonicTime)>,
    pub(super) peer_declared_dead: bool,
    /// The peer's process, since it said that it has asked to leave.
    pub(super) leaving_peer: Option<Incarnation>,
    /// Since when outputs cannot flow, and since then for so long that clients are turned away.
    pub(super) stuck_since: Option<MonotonicTime>,
    pub(super) holding: Option<MonotonicTime>,
    /// When the epoch began here.
    pub(super) epoch_since: Option<MonotonicTime>,
    pub(super) standing: Standing,
    pub(super) waiting: Option<Waiting>,
    pub(super) shortages: Shortages,
    pub(super) stopped: bool,

    pub(super) gateway: Gateway,
    pub(super) next_heartbeat: MonotonicTime,
    pub(super) last_handled: MonotonicTime,
    /// It stood still for long, and it is not known that anything went on meanwhile (rule O14).
    pub(super) stood_still: Option<Stop>,
}

impl Replica {
    /// A replica that has just started and knows nothing.
    ///
    /// # Panics
    /// If the configuration names more than [`limits::LINKS`] links or none: the driver checks
    /// its configuration before.
    pub fn new(config: Config, boot: Boot, now: Timestamps) -> Self {
        assert!((1..=limits::LINKS).contains(&usize::from(config.links)), "one to eight links");
        let disk = boot.disk.as_ref().map(|disk| disk.membership.clone()).unwrap_or_default();
        let membership = Membership::new(config.pair, config.place, boot.incarnation, disk);
        let silence = Silence::new(config.silence_floor, config.silence, config.heartbeat);
        let mut replica = Self {
            incarnation: boot.incarnation,
            seed: boot.seed,
            random: ChaCha8Rng::from_seed(boot.seed),
            now,
            outputs: VecDeque::new(),
            log: Log::default(),
            clock: LogClock::new(config.clock_slew),
            reorder_buffer: BTreeMap::new(),
            reorder_bytes: 0,
            handed_out: Index(0),
            persisted: Index(0),
            sequencer: ReplicaId::A,
            membership_epoch: Epoch(0),
            last_transfer: Index(0),
            pending: PendingInputs::default(),
            forwarded_inputs: Queue::default(),
            released: Index(0),
            window_full_since: None,
            held_up: None,
            links: (0..config.links).map(|id| Link::new(LinkId(id))).collect(),
            silence,
            peer_incarnation: None,
            progress: Progress::default(),
            peer_last_index: Index(0),
            agreement: Agreement::default(),
            divergence: None,
            search: Search::default(),
            peer_debts: Debts::default(),
            own_debts: Debts::default(),
            own_work: Debts::default(),
            heard: false,
            progressed: now.mono,
            resend: Resend::default(),
            start: Start::new(boot.disk, boot.adopt, now.mono),
            join: None,
            joiner: None,
            prefix_search: PrefixSearch::Idle,
            unusable_up_to: None,
            diverged_up_to: None,
            is_uncommitted: false,
            confirming: None,
            leaving: None,
            repair: Repair::default(),
            checkpoints: Checkpoints::default(),
            enrolment: Enrolment::new(membership.witness(), now.mono),
            membership,
            witness_up: false,
            spare_up: false,
            witness_asked: None,
            no_room: None,
            suspicion: None,
            peer_declared_dead: false,
            leaving_peer: None,
            stuck_since: None,
            holding: None,
            epoch_since: None,
            standing: Standing::Starting,
            waiting: None,
            shortages: Shortages::default(),
            stopped: false,
            gateway: Gateway::default(),
            next_heartbeat: now.mono,
            last_handled: now.mono,
            stood_still: None,
            config,
        };
        let slot = replica.enrolment.slot();
        if slot != 0 {
            replica.outputs.push_back(Output::UseWitness { slot });
        }
        replica.recover();
        replica
    }

    /// Something happened. Any number of inputs may be given before the outputs are drained;
    /// what they cause together is sent together.
    pub fn handle(&mut self, now: Timestamps, input: Input) {
        self.advance_time(now);
        if self.stopped {
            return self.handle_when_out(input);
        }
        match input {
            Input::Timeout => {}
            Input::LinkUp { link } => self.on_link_up(link),
            Input::LinkDown { link } => self.on_link_down(link),
            Input::LinkBlocked { link } => self.on_link_blocked(link),
            Input::LinkWritable { link } => self.on_link_writable(link),
            Input::Peer { link, frame } => self.on_peer(link, frame),
            Input::PeerDied { incarnation, how } => self.on_peer_died(incarnation, how),
            Input::WitnessUp => self.on_witness_up(),
            Input::SpareWitness { up } => self.spare_up = up,
            Input::WitnessDown => self.on_witness_down(),
            Input::Witness(answer) => self.on_witness(answer),
            Input::Client { conn, owner, permitted, call } => {
                self.on_client(conn, owner, permitted, call);
            }
            Input::ClientGone { conn } => self.gateway.disconnect(conn),
            Input::Device { device, bytes } => self.take(InputKind::Device { device, bytes }),
            Input::Executed(executed) => self.on_executed(executed),
            Input::Storage(response) => self.on_storage(response),
            Input::DevicesStand => self.on_devices_stand(),
            Input::Command(command) => self.on_command(command),
        }
        self.on_time();
        self.check_invariants();
    }

    fn on_storage(&mut self, response: StorageResponse) {
        match response {
            StorageResponse::Persisted(index) => self.on_persisted(index),
            StorageResponse::MembershipPersisted(number) => self.on_membership_persisted(number),
            StorageResponse::Recovered(result) => self.on_recovered(result),
            StorageResponse::CommonPrefix(found) => self.on_common_prefix(found),
            StorageResponse::EntriesRead { after, entries } => {
                self.on_entries_read(after, entries);
            }
            StorageResponse::ChunkRead { checkpoint, offset, bytes } => {
                self.on_chunk_read(checkpoint, offset, bytes);
            }
            StorageResponse::ChunksWritten { checkpoint, have } => {
                self.on_chunks_written(checkpoint, have);
            }
            StorageResponse::Installed(result) => self.on_installed(result),
            StorageResponse::CheckpointWritten { index, result } => {
                self.on_checkpoint_written(index, result);
            }
            StorageResponse::Failed { why } => self.stop(StopCause::Storage { why }),
            StorageResponse::Exhausted { why } => self.stop(StopCause::Exhausted { why }),
        }
    }

    /// The next thing to be done; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.fill_outputs();
        }
        self.outputs.pop_front()
    }

    /// The next thing to be done of what is decided already; nothing is sent, and nothing handed
    /// out, that is not.
    pub fn poll_decided(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether an input of a client or device is taken now. While it is not, the driver leaves
    /// it where it is, so that its sender waits.
    pub fn takes_input(&self) -> bool {
        if self.stopped || self.membership.record().is_none() || self.is_joiner() {
            return false;
        }
        let room = if self.is_sequencer() {
            self.has_room() && self.forwarded_inputs.is_empty()
        } else {
            self.gateway.has_room()
        };
        room && self.pending.has_room()
    }

    /// Whether what clients say is to be read now. It is while input is taken, and while this
    /// replica does not serve, since a client then gets a refusal instead of waiting for nothing
    /// (rule C5).
    pub fn reads_clients(&self) -> bool {
        !matches!(self.standing, Standing::Serving { .. }) || self.takes_input()
    }

    /// The state at a glance.
    pub fn status(&self) -> Status {
        Status {
            place: self.config.place,
            incarnation: self.incarnation,
            standing: self.standing,
            record: self.membership.record().copied(),
            is_sequencer: self.is_sequencer(),
            last_index: self.log.last_index(),
            executed: self.log.executed(),
            agreed: self.agreed(),
            released: self.released,
            peer_held: self.progress.last_index,
            peer_executed: self.progress.executed,
            peer: self.peer_incarnation,
            links: self.links.iter().map(link_status).collect(),
            silence: self.silence.timeout(),
            witness_up: self.witness_up,
            witness_slot: self.enrolment.slot(),
            time: self.log.last_time(),
            pending: self.pending.len(),
            held_for_repair: self.repair.is_held(),
            wait: self.waiting_for(),
            sessions: self.shortages.counts(),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::HandOver => self.hand_over(),
            Command::Stop => self.leave(),
            Command::Readmit => self.readmit(),
        }
    }

    /// Whether this replica is a member and orders the inputs. A joiner that was handed the role
    /// does not before its disk says that it is a member (rule J6): nothing of its log is sent.
    pub(super) fn is_sequencer(&self) -> bool {
        let member = self.membership.record().is_some() && !self.is_joiner();
        member && self.sequencer == self.config.place
    }

    /// Whether both are members, and this one knows that the other is.
    pub(super) fn is_duplex(&self) -> bool {
        self.membership.is_duplex() && !self.is_uncommitted && !self.is_joiner()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(super) fn nonce(&mut self) -> Nonce {
        Nonce(self.random.next_u64().max(1))
    }

    /// Everything that must hold between two inputs, whatever the peer, the witness, the clients
    /// and the driver do.
    fn check_invariants(&self) {
        let (last_index, executed) = (self.log.last_index(), self.log.executed());
        assert!(self.log.base() <= self.released, "only what was released is dropped");
        assert!(self.released <= executed, "only what was executed is released");
        assert!(executed <= self.handed_out, "only what was handed out is executed");
        assert!(self.handed_out <= last_index, "only what is held is executed");
        assert!(self.persisted <= last_index, "only what is held is persisted");
        assert!(self.log.steps() <= self.window_limit(), "the window is bounded");
        assert!(
            self.forwarded_inputs.len() <= limits::KEPT_INPUTS
                && self.pending.len() <= limits::KEPT_INPUTS,
            "what waits to be ordered is bounded"
        );
    }
}

fn link_status(link: &Link) -> LinkStatus {
    LinkStatus {
        link: link.id,
        connected: link.connected,
        up: link.up,
        round_trip: link.round_trip(),
    }
}

/// At least this long, so that a configured zero does not make a busy loop.
pub(super) const TICK_MIN: Duration = Duration::from_millis(1);
