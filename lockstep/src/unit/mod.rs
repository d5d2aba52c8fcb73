//! The replicated unit: the service with everything that has to be the same on both CoServers.
//!
//! A [`Unit`] takes the log's entries one by one and says what each came to. It owns the service,
//! the client sessions and the next wake-up. It also owns the members as far as the service is told
//! of them, the last time and the running digest of the outputs. All of it is frozen, compared and
//! restored together ([`FrozenUnit`]).
//!
//! Not here: threads, sockets, files, clocks, entropy. A unit calls nothing but its service. So the
//! same entries give the same results wherever it runs: inline in the CoServer, on a thread of its
//! own, or somewhere else for a replay.
//!
//! # Steps of an entry
//!
//! 1. Every wake-up due by the entry's time, the earliest first, each at its own deadline. A
//!    wake-up that a step sets within that time runs before the next input, up to
//!    [`UnitConfig::steps_before_entry`] in all.
//! 2. Every session that has been idle or unused for too long ends, or has kept much unread, at the
//!    entry's time; the same bound holds again.
//! 3. What the entry itself says, each of its inputs a step. One that needs room in a pool that is
//!    full first ends sessions that are worth less, each a step (rule C9).
//!
//! Execution may pause between two inputs ([`Unit::execute_next`]), so that a loop that has other
//! things to do is not held up by all of them; the entry has a result only as a whole.
//!
//! An entry with which a log is taken up again ([`EntryKind::Resume`]) has neither of the first
//! two. Between it and the entry before no process ran, and the service is told how long. Until
//! [`EntryKind::Ready`] both are held, then they come as late as they are. The time of the gap
//! counts for no session (rules O11, O12, C6). After an [`EntryKind::Gap`] they come at once, at
//! the entry's own time (rule O14).
//!
//! What a bound leaves over comes before the next entry; [`Executed::wakeup`] then lies in the
//! past, so that the sequencer adds one at once.

mod config;
mod freeze;
mod header;
pub mod records;
mod session_records;
mod sessions;
#[cfg(test)]
mod tests;
mod unread;

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

pub use config::{AbortRefused, UnitConfig, check_unwinding};
pub use freeze::FrozenUnit;
use sessions::{Admission, EndedSession, Opening, Sessions};

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind};
use crate::ids::{Epoch, Index, LogTime, Nonce, OwnerId, ReplicaId, RequestNumber, SessionId};
use crate::limits;
use crate::loss::{Loss, SessionUse};
use crate::machine::{Context, StateMachine, Step};
use crate::output::{Executed, Output, OutputKind, Refusal, chain};
use crate::record::{Members, Record};

/// A service, and everything that is replicated with it.
#[derive(Debug)]
pub struct Unit<S> {
    service: S,
    sessions: Sessions,
    members: MembersView,
    /// The last entry executed.
    index: Index,
    /// The time of the last step, or of the last entry if that is later. No step has an
    /// earlier time.
    now: LogTime,
    /// When the service next wants to be woken.
    wakeup: Option<LogTime>,
    /// Wake-ups and ends of idle sessions wait until the devices stand (rule O11).
    held: bool,
    /// The running digest of the outputs at `index`.
    digest: Digest,
    /// A step panicked: the service may be half-way through something.
    panicked: bool,
    /// The entry that is being executed, of which some inputs are still to come.
    stage: Option<Stage>,
}

/// The members as the service knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MembersView {
    /// The epoch of the last entry that told the members.
    epoch: Epoch,
    members: Members,
    sequencer: ReplicaId,
}

impl MembersView {
    fn step(&self) -> Step<'static> {
        Step::Members { members: self.members, sequencer: self.sequencer }
    }
}

/// One entry while it is executed.
#[derive(Debug)]
struct Stage {
    index: Index,
    /// The next of its inputs, or of its one step.
    position: usize,
    /// How many wake-ups it may still carry out.
    wakes: u32,
    step: u32,
    /// Where the outputs of the present step begin.
    first: usize,
    outputs: Vec<Output>,
    lost: Vec<(OwnerId, Loss)>,
}

impl Stage {
    fn push(&mut self, kind: OutputKind) {
        let ordinal = u32::try_from(self.outputs.len() - self.first).unwrap_or(u32::MAX);
        self.outputs.push(Output { step: self.step, ordinal, kind });
    }

    /// Commits the present step: what comes now belongs to the next one.
    fn end_step(&mut self) {
        self.step += 1;
        self.first = self.outputs.len();
    }
}

/// A step panicked, with this message.
struct Panicked(String);

impl<S: StateMachine> Unit<S> {
    /// A unit before the first entry, with the default configuration.
    pub fn new(service: S) -> Self {
        Self::with_config(service, UnitConfig::default())
    }

    /// A unit before the first entry.
    pub fn with_config(service: S, config: UnitConfig) -> Self {
        Self {
            service,
            sessions: Sessions::new(config),
            members: MembersView {
                epoch: Epoch(0),
                members: Members::NONE,
                sequencer: ReplicaId::A,
            },
            index: Index(0),
            now: LogTime(0),
            wakeup: None,
            held: false,
            digest: Digest::ZERO,
            panicked: false,
            stage: None,
        }
    }

    /// Executes the next entry, or what is left of it.
    ///
    /// If a step panics, the result has the panic's message and no outputs, and the unit is at
    /// its end: the service's state is not to be trusted any more.
    ///
    /// # Panics
    /// If the entry is not the next one, or an earlier one panicked: both are mistakes of the
    /// caller, after which the replicas could not be kept the same.
    pub fn execute(&mut self, entry: &Entry) -> Executed {
        loop {
            if let Some(executed) = self.execute_next(entry) {
                return executed;
            }
        }
    }

    /// Executes the next input of the next entry, or all of an entry without inputs. Returns what
    /// the entry came to once that is known; until then the state is that of no entry, and nothing
    /// else may be executed or frozen.
    ///
    /// # Panics
    /// As [`execute`](Self::execute).
    pub fn execute_next(&mut self, entry: &Entry) -> Option<Executed> {
        let mut stage = self.stage.take().unwrap_or_else(|| self.begin(entry));
        assert_eq!(entry.index, stage.index, "one entry after the other");
        let panic = self.run(entry, &mut stage).err().map(|Panicked(message)| message);
        if panic.is_none() && stage.position < entry.steps() {
            self.stage = Some(stage);
            return None;
        }
        Some(self.end(stage, panic))
    }

    fn begin(&mut self, entry: &Entry) -> Stage {
        assert!(!self.panicked, "entry {} after a step that panicked", entry.index);
        assert_eq!(entry.index, self.index.next(), "entries are executed in index order");
        let wakes = self.sessions.config().steps_before_entry;
        let (outputs, lost) = (Vec::with_capacity(entry.steps()), Vec::new());
        Stage { index: entry.index, position: 0, wakes, step: 0, first: 0, outputs, lost }
    }

    fn end(&mut self, stage: Stage, panic: Option<String>) -> Executed {
        let Stage { index, .. } = stage;
        self.index = index;
        self.panicked = panic.is_some();
        let (outputs, wakeup) =
            if self.panicked { (Vec::new(), None) } else { (stage.outputs, self.wakeup()) };
        self.digest = chain(self.digest, index, &outputs, wakeup, self.panicked);
        let sessions = self.session_use(stage.lost);
        Executed { index, digest: self.digest, outputs, wakeup, panic, sessions }
    }

    fn session_use(&self, lost: Vec<(OwnerId, Loss)>) -> SessionUse {
        SessionUse { open: self.sessions.len(), reply_bytes: self.sessions.bytes(), lost }
    }

    /// The last entry executed.
    pub fn index(&self) -> Index {
        self.index
    }

    /// The running digest of the outputs at the last entry.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The time of the last entry.
    pub fn time(&self) -> LogTime {
        self.now
    }

    /// Whether a step panicked; then nothing more may be executed or frozen.
    pub fn has_panicked(&self) -> bool {
        self.panicked
    }

    /// The service, in its state after the last executed entry.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What the replies cost that are kept for all sessions.
    pub fn reply_bytes(&self) -> usize {
        self.sessions.bytes()
    }

    /// When the unit next needs an entry to go on: the service's wake-up, or the end of the
    /// session that is idle longest. None while both are held.
    pub fn wakeup(&self) -> Option<LogTime> {
        if self.held {
            return None;
        }
        [self.wakeup, self.sessions.next_expiry()].into_iter().flatten().min()
    }

    fn run(&mut self, entry: &Entry, stage: &mut Stage) -> Result<(), Panicked> {
        match entry.kind {
            EntryKind::Resume { .. } => {
                self.held = true;
                self.step_over_gap(entry.time, stage)?;
            }
            EntryKind::Ready => self.held = false,
            EntryKind::Gap => self.step_over_gap(entry.time, stage)?,
            _ => {}
        }
        let time = entry.time_at(stage.position);
        if !self.held {
            self.wake(time, stage)?;
        }
        self.now = self.now.max(time);
        if !self.held && stage.position == 0 {
            self.expire_sessions(stage)?;
        }
        match entry.kind.inputs().get(stage.position) {
            Some(input) => {
                self.on_input(input, entry.origin.place, stage)?;
                stage.end_step();
            }
            None => self.own_step(entry, stage)?,
        }
        stage.position += 1;
        Ok(())
    }

    /// The log goes on after a gap: the service learns how long that was before anything else, and
    /// nothing of that time is made up for (rules O11, O14).
    fn step_over_gap(&mut self, at: LogTime, stage: &mut Stage) -> Result<(), Panicked> {
        let gap = at.since(self.now);
        self.now = self.now.max(at);
        self.sessions.skip(gap);
        self.call(stage, Step::Resumed { gap })?;
        stage.end_step();
        Ok(())
    }

    /// Steps for the wake-ups that are due. A deadline that a bound once left over may lie
    /// before a step that has been made since; time does not go back for it.
    fn wake(&mut self, until: LogTime, stage: &mut Stage) -> Result<(), Panicked> {
        while stage.wakes > 0 {
            let Some(deadline) = self.wakeup.take_if(|at| *at <= until) else { break };
            stage.wakes -= 1;
            self.now = self.now.max(deadline);
            self.call(stage, Step::Wake)?;
            stage.end_step();
        }
        Ok(())
    }

    fn expire_sessions(&mut self, stage: &mut Stage) -> Result<(), Panicked> {
        for _ in 0..self.sessions.config().steps_before_entry {
            let Some((ended, why)) = self.sessions.expire(self.now) else { break };
            self.end_session(ended, why, stage)?;
        }
        Ok(())
    }

    fn own_step(&mut self, entry: &Entry, stage: &mut Stage) -> Result<(), Panicked> {
        match &entry.kind {
            EntryKind::Genesis { seed } => self.call(stage, Step::Start { seed }).map(drop),
            EntryKind::Membership { record } | EntryKind::Resume { record } => {
                self.on_membership(record, stage)
            }
            EntryKind::HandOver { to } => self.on_hand_over(entry.epoch, *to, stage),
            EntryKind::Tick
            | EntryKind::Ready
            | EntryKind::Gap
            | EntryKind::Checkpoint
            | EntryKind::Witness { .. }
            | EntryKind::Inputs(_) => Ok(()),
        }
    }

    fn on_input(
        &mut self,
        input: &InputKind,
        place: ReplicaId,
        stage: &mut Stage,
    ) -> Result<(), Panicked> {
        match input {
            InputKind::Device { device, bytes } => {
                self.call(stage, Step::Device { device: *device, place, bytes }).map(drop)
            }
            InputKind::SessionOpen { token } => {
                self.on_session_open(OwnerId::UNKNOWN, *token, stage)
            }
            InputKind::SessionOpenFor { owner, token } => {
                self.give_way(*owner, *token, stage)?;
                self.on_session_open(*owner, *token, stage)
            }
            InputKind::SessionRequest { session, token, number, lowest, body } => {
                self.on_request(stage, *session, *token, *number, *lowest, Some(body))
            }
            InputKind::SessionRefused { session, token, number, lowest } => {
                self.on_request(stage, *session, *token, *number, *lowest, None)
            }
            InputKind::SessionClose { session, token } => {
                if self.sessions.close(*session, *token) {
                    self.call(stage, Step::SessionEnded { session: *session })?;
                }
                Ok(())
            }
        }
    }

    fn on_membership(&mut self, record: &Record, stage: &mut Stage) -> Result<(), Panicked> {
        let Record { epoch, members, .. } = *record;
        self.members = MembersView { epoch, members, sequencer: record.sequencer() };
        self.call(stage, self.members.step()).map(drop)
    }

    /// A hand-over counts within its epoch only. A renewal makes a later epoch of the same
    /// members without an entry that says so, hence "not earlier".
    fn on_hand_over(
        &mut self,
        epoch: Epoch,
        to: ReplicaId,
        stage: &mut Stage,
    ) -> Result<(), Panicked> {
        if epoch < self.members.epoch || self.members.members.at(to).is_none() {
            return Ok(());
        }
        self.members.sequencer = to;
        self.call(stage, self.members.step()).map(drop)
    }

    /// Where every session is taken, one that is worth less ends for the new one (rule C9).
    fn give_way(
        &mut self,
        owner: OwnerId,
        token: Nonce,
        stage: &mut Stage,
    ) -> Result<(), Panicked> {
        if self.sessions.is_full_for(token)
            && let Some(ended) = self.sessions.give_way(owner, self.now)
        {
            self.end_session(ended, Loss::Displaced, stage)?;
        }
        Ok(())
    }

    fn end_session(
        &mut self,
        ended: EndedSession,
        why: Loss,
        stage: &mut Stage,
    ) -> Result<(), Panicked> {
        stage.lost.push((ended.owner, why));
        self.call(stage, Step::SessionEnded { session: ended.id })?;
        stage.end_step();
        Ok(())
    }

    /// The input's place in the log is the session's id, so that no id comes twice (rule C1).
    fn on_session_open(
        &mut self,
        owner: OwnerId,
        token: Nonce,
        stage: &mut Stage,
    ) -> Result<(), Panicked> {
        let id = SessionId::new(stage.index, stage.position);
        let result = match self.sessions.open(owner, token, id, self.now) {
            Opening::New(session) => {
                self.call(stage, Step::SessionOpened { session })?;
                Ok(session)
            }
            Opening::Again(session) => Ok(session),
            Opening::Full => {
                stage.lost.push((owner, Loss::NoSession));
                Err(Refusal::TooManySessions)
            }
        };
        stage.push(OutputKind::Opened { token, result });
        Ok(())
    }

    /// A request, or one whose body is left out since its client may not ask it. Its number is
    /// taken as if it took effect, so that those after it can (rule C10).
    fn on_request(
        &mut self,
        stage: &mut Stage,
        session: SessionId,
        token: Nonce,
        number: RequestNumber,
        lowest: RequestNumber,
        body: Option<&Bytes>,
    ) -> Result<(), Panicked> {
        let mut admission = self.sessions.admit(session, token, number, lowest, self.now);
        if admission == Admission::NoRoom {
            admission = self.make_room(session, stage)?;
        }
        let result = match admission {
            Admission::Answer(result) => result,
            Admission::NoRoom => {
                stage.lost.extend(self.sessions.owner(session).map(|owner| (owner, Loss::NoRoom)));
                Err(Refusal::TooManyReplies)
            }
            Admission::TakeEffect => {
                let result = match body {
                    Some(body) => self.ask(stage, Step::Request { session, number, body })?,
                    None => Err(Refusal::ReadOnly),
                };
                self.sessions.store(session, result.clone());
                result
            }
        };
        stage.push(OutputKind::Reply { session, token, number, result });
        Ok(())
    }

    fn ask(
        &mut self,
        stage: &mut Stage,
        request: Step<'_>,
    ) -> Result<Result<Bytes, Refusal>, Panicked> {
        let bytes = self.call(stage, request)?;
        let longest = self.sessions.config().longest_reply.min(limits::REPLY_BYTES);
        let fits = bytes.len() <= longest;
        Ok(if fits { Ok(bytes) } else { Err(Refusal::ReplyTooLarge) })
    }

    /// Ends sessions whose kept replies are in the way of this one's next (rule C9).
    fn make_room(&mut self, session: SessionId, stage: &mut Stage) -> Result<Admission, Panicked> {
        for _ in 0..self.sessions.config().steps_before_entry {
            let Some(ended) = self.sessions.make_room(session) else { break };
            self.end_session(ended, Loss::MadeRoom, stage)?;
            if self.sessions.has_room() {
                return Ok(Admission::TakeEffect);
            }
        }
        Ok(Admission::NoRoom)
    }

    /// Lets the service make one step. Its state counts as lost if it panics; what it had
    /// staged is dropped with the entry.
    fn call(&mut self, stage: &mut Stage, step: Step<'_>) -> Result<Bytes, Panicked> {
        let mut context =
            Context::new(stage.index, stage.step, self.now, &mut stage.outputs, &mut self.wakeup);
        let service = &mut self.service;
        catch_unwind(AssertUnwindSafe(|| service.step(&mut context, step))).map_err(panicked)
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> Panicked {
    Panicked(panic_message(payload))
}

/// The message of a panic.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| {
        // A payload of another type may panic again when it is dropped.
        core::mem::forget(payload);
        "a panic without a message".to_owned()
    })
}
