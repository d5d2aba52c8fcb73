//! Small pools, several owners and keys that only read: what rules C9 and C10 are about.

use core::time::Duration;

use super::checkers::{Came, GaveWay, Observation, Outcome};
use super::marks::Mark;
use super::mutants::Mutant;
use super::ops::{Op, Request};
use super::options::Options;
use super::rng::Rng;
use super::service::REPLY_COST;
use super::world::{Due, World};
use crate::client::SessionError;
use crate::ids::{OwnerId, ReplicaId, RequestNumber};
use crate::output::Refusal;
use crate::unit::UnitConfig;
use crate::wire::frames::ClientCall;

const MILLI: u64 = 1_000_000;

/// In so many of a thousand thoughts a forgetful client loses its session.
const FORGETS: u32 = 80;

/// What a run has of all this.
#[derive(Clone, Debug)]
pub struct ShareOptions {
    /// The bounds of the unit.
    pub unit: UnitConfig,
    /// Whose the clients are, one by one.
    pub clients: Vec<Tenant>,
    /// For what is left to the clients' chance.
    pub seed: u64,
}

/// A client as the pair's configuration has it, and how it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The client's key.
    pub owner: OwnerId,
    /// What the key may do.
    pub rights: Rights,
    /// How it uses sessions.
    pub habit: Habit,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// The key may ask everything.
    All,
    /// The key may ask only what changes nothing.
    ReadOnly,
    /// The key may ask everything by A's file, and by B's only what changes nothing.
    Differ,
}

/// How a client uses sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// As it should.
    Sound,
    /// It begins anew now and then, and leaves its session to the pair.
    Forgetful,
    /// Until the faults end it does not say which replies it has.
    Unread,
}

impl Tenant {
    /// A client of a pair that knows one key.
    const ONLY: Self = Self { owner: OwnerId(1), rights: Rights::All, habit: Habit::Sound };
}

impl Rights {
    /// Whether the CoServer at this place takes the request.
    pub fn permits(self, place: ReplicaId, op: Op) -> bool {
        match self {
            Self::All => true,
            Self::Differ if place == ReplicaId::A => true,
            Self::Differ | Self::ReadOnly => only_reads(op),
        }
    }

    /// Whether no CoServer does.
    pub fn forbids(self, op: Op) -> bool {
        !ReplicaId::BOTH.iter().any(|place| self.permits(*place, op))
    }
}

/// Whether the service declares that this changes nothing.
fn only_reads(op: Op) -> bool {
    matches!(op, Op::Get { .. })
}

impl ShareOptions {
    fn draw(rng: &mut Rng) -> Self {
        let keys: Vec<_> = (1..=rng.from(2, 4)).map(|key| (OwnerId(key), rights(rng))).collect();
        let clients: Vec<_> = (0..rng.from(3, 7)).map(|_| tenant(&keys, rng)).collect();
        let unit = unit(clients.len() as u64, rng);
        Self { unit, clients, seed: rng.bits() }
    }
}

fn rights(rng: &mut Rng) -> Rights {
    rng.pick(&[Rights::All, Rights::All, Rights::ReadOnly, Rights::Differ])
}

fn tenant(keys: &[(OwnerId, Rights)], rng: &mut Rng) -> Tenant {
    let (owner, rights) = rng.pick(keys);
    let habit = rng.pick(&[Habit::Sound, Habit::Sound, Habit::Forgetful, Habit::Unread]);
    Tenant { owner, rights, habit }
}

/// Room for fewer sessions than there are clients, or as many, and for some dozens of replies.
fn unit(clients: u64, rng: &mut Rng) -> UnitConfig {
    let usual = UnitConfig::default();
    let mut span = |from, to| Duration::from_nanos(rng.spread(from * MILLI, to * MILLI));
    let (session_unused, session_abandoned) = (span(30, 500), span(50, 800));
    let (session_unread, idle) = (span(50, 1000), span(300, 2000));
    let sessions = rng.from(2, clients) as usize;
    let longest_reply = rng.from(16, 300) as usize;
    let unread_bytes = rng.from(REPLY_COST as u64, 300) as usize;
    let largest = longest_reply + 64;
    UnitConfig {
        session_idle: if rng.chance(250) { idle } else { usual.session_idle },
        sessions,
        session_replies: rng.pick(&[8, 64, 1024]),
        session_reply_bytes: largest * rng.pick(&[1, 8, 1000]),
        // What never ends for being unread leaves room for a reply.
        reply_bytes: 2 * largest.max(sessions * unread_bytes) + rng.from(0, 1000) as usize,
        longest_reply,
        session_unused,
        session_unused_ends: 6 * session_unused,
        session_abandoned,
        session_unread,
        unread_bytes,
        ..usual
    }
}

impl Options {
    /// The pair has small pools and several owners.
    pub(super) fn share(&mut self, rng: &mut Rng) {
        let shares = ShareOptions::draw(rng);
        self.clients = shares.clients.len();
        self.pipeline = rng.pick(&[1, 4, 16, 16]);
        self.think = self.think.min(15 * MILLI);
        self.shares = Some(shares);
    }

    /// Whose the clients are.
    pub(super) fn tenant(&self, client: usize) -> Tenant {
        let known = self.shares.as_ref().and_then(|shares| shares.clients.get(client));
        known.copied().unwrap_or(Tenant::ONLY)
    }

    /// The bounds that the pair's units are to have.
    pub(super) fn bounds(&self) -> UnitConfig {
        self.shares.as_ref().map(|shares| shares.unit.clone()).unwrap_or_default()
    }

    /// Those that the unit at this place has.
    pub(super) fn unit(&self, place: ReplicaId) -> UnitConfig {
        let bounds = self.bounds();
        match self.mutant {
            Some(Mutant::NoReplyBound) => UnitConfig { reply_bytes: usize::MAX, ..bounds },
            Some(Mutant::OtherLimits) if place == ReplicaId::B => {
                UnitConfig { sessions: bounds.sessions + 1, ..bounds }
            }
            _ => bounds,
        }
    }
}

/// What is left to a client's chance beside what it asks.
pub(super) struct Habits {
    pub(super) tenant: Tenant,
    rng: Rng,
}

impl Habits {
    pub(super) fn new(client: usize, options: &Options) -> Self {
        let seed = options.shares.as_ref().map_or(0, |shares| shares.seed);
        Self { tenant: options.tenant(client), rng: Rng::new(seed ^ client as u64) }
    }

    fn forgets(&mut self) -> bool {
        self.tenant.habit == Habit::Forgetful && self.rng.chance(FORGETS)
    }

    /// What it says of the replies that it has.
    pub(super) fn said(&self, mut call: ClientCall, is_healed: bool) -> ClientCall {
        if let ClientCall::Request { lowest, .. } = &mut call
            && self.tenant.habit == Habit::Unread
            && !is_healed
        {
            *lowest = RequestNumber(1);
        }
        call
    }
}

impl World {
    /// A client loses its session now and then, while there are faults.
    pub(super) fn forget(&mut self, client: usize) {
        if self.healed.is_some() || !self.clients[client].habits.forgets() {
            return;
        }
        self.trace.say(self.at, || format!("client {client} forgets its session"));
        for place in ReplicaId::BOTH {
            if self.clients[client].wants(place) {
                let wire = self.client_wire(client, place);
                self.close(wire, 0);
            }
        }
        self.clients[client].begin_anew();
    }

    /// The pair ended a client's session, or did not open one: it may only where pools are small.
    pub(super) fn session_over(&mut self, client: usize, how: Result<(), SessionError>) {
        let is_shared = self.options.shares.is_some();
        match how {
            Err(SessionError::Expired | SessionError::NotOpened(Refusal::TooManySessions))
                if is_shared =>
            {
                self.clients[client].begin_anew();
                if self.clients[client].thinks_again() {
                    let at = self.at + MILLI;
                    self.queue.put(at, Due::Think { client });
                }
            }
            how => panic!("the session of client {client} is over: {how:?}"),
        }
    }

    /// Whether the CoServer at this place takes a client's call, and whose it takes it for.
    pub(super) fn rights(
        &self,
        place: ReplicaId,
        client: usize,
        call: &ClientCall,
    ) -> (OwnerId, bool) {
        let tenant = self.options.tenant(client);
        let permitted = match call {
            ClientCall::Request { body, .. } => {
                Request::decode(body).is_ok_and(|request| tenant.rights.permits(place, request.op))
            }
            _ => true,
        };
        match self.options.mutant {
            Some(Mutant::OneOwner) => (OwnerId(1), permitted),
            Some(Mutant::LetThrough) if place == ReplicaId::A => (tenant.owner, true),
            _ => (tenant.owner, permitted),
        }
    }

    /// Notes which of the rules an entry came to.
    pub(super) fn watch_shares(&mut self, seen: &Observation<'_>) {
        let Observation::Executed { who, executed } = *seen else { return };
        let view = self.checkers.observed().view(who);
        let outcomes = view.and_then(|view| view.outcomes(executed.index)).unwrap_or_default();
        let marks: Vec<_> = outcomes.iter().flat_map(marks_of).collect();
        marks.into_iter().for_each(|mark| self.reach(mark));
    }
}

fn marks_of(outcome: &Outcome) -> impl Iterator<Item = Mark> + '_ {
    let gave_way = outcome.gave_way.iter();
    gave_way
        .map(|(_, why)| match why {
            GaveWay::Unused => Mark::UnusedGaveWay,
            GaveWay::Share => Mark::ShareGaveWay,
            GaveWay::Abandoned => Mark::AbandonedGaveWay,
            GaveWay::Replies => Mark::RepliesGaveWay,
            GaveWay::OwnReplies => Mark::OwnRepliesGaveWay,
        })
        .chain(outcome.idle.then_some(Mark::IdleEnded))
        .chain(outcome.unused.then_some(Mark::UnusedEnded))
        .chain(outcome.unread.then_some(Mark::UnreadEnded))
        .chain(match outcome.came {
            Came::Opened(Err(Refusal::TooManySessions)) => Some(Mark::SessionRefused),
            Came::Refused(Refusal::TooManyReplies) => Some(Mark::RepliesRefused),
            Came::Kept { effect: false, .. } => Some(Mark::ReadOnlyRefused),
            _ => None,
        })
}
