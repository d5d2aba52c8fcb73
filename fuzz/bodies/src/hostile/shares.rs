//! Small pools of sessions and replies, which clients of several owners want (rules C9, C10).
//!
//! Whatever entries the peer sends, no pool is over its bound. No owner has to give way to one that
//! has as much or more, and none is refused while another has more than a fair share. What a client
//! of this replica may not ask is in no entry that this replica makes, and in nothing that it
//! passes on.

use ::core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::entry::{Entry, InputKind};
use lockstep::ids::{Nonce, OwnerId, RequestNumber, SessionId};
use lockstep::output::{Executed, Output as ServiceOutput, OutputKind, Refusal};
use lockstep::proto::Output;
use lockstep::unit::{Unit, UnitConfig};
use lockstep::wire::frames::PeerFrame;

use crate::counting_service::CountingService;
use crate::source::Source;

/// Sessions that fit.
const SESSIONS: usize = 3;

/// What one kept reply costs: a digest, and what is counted beside its bytes.
const REPLY: usize = 16 + 64;

/// Body of a request that may not be made. No entry of the peer has it.
pub(super) const FORBIDDEN: [u8; 2] = [0, 0xf0];

/// Sessions end for others alone, never by themselves. Six replies fit.
pub(super) fn bounds() -> UnitConfig {
    UnitConfig {
        session_idle: Duration::MAX,
        sessions: SESSIONS,
        longest_reply: 16,
        session_reply_bytes: 4 * REPLY,
        reply_bytes: 6 * REPLY,
        session_unused: Duration::from_micros(5),
        session_abandoned: Duration::from_micros(50),
        session_unread: Duration::MAX,
        unread_bytes: REPLY,
        ..UnitConfig::default()
    }
}

/// The key that a call comes with, or the owner that the peer names.
pub(super) fn owner(choice: u8) -> OwnerId {
    OwnerId(1 + u64::from(choice % 3))
}

/// The open sessions, as the unit's outputs tell of them.
#[derive(Debug, Default)]
pub(super) struct OpenSessions {
    open: BTreeMap<SessionId, OpenSession>,
    /// How many ends the service had been told of.
    told: usize,
}

#[derive(Clone, Copy, Debug)]
struct OpenSession {
    owner: OwnerId,
    token: Nonce,
    /// The request that comes next.
    next: u64,
}

impl OpenSessions {
    /// An open session, its mark and the number that is next there, or one that there is not.
    pub(super) fn any(&self, choice: u8) -> (SessionId, Nonce, u64) {
        let at = usize::from(choice >> 4 & 3);
        match self.open.iter().nth(at) {
            Some((session, open_session)) => (*session, open_session.token, open_session.next),
            None => (SessionId(1 + at as u64), Nonce(1 + at as u64), 1),
        }
    }

    /// A request's numbers, near what the session expects.
    pub(super) fn numbers(next: u64, source: &mut Source<'_>) -> (RequestNumber, RequestNumber) {
        let number = RequestNumber(source.number(next));
        // Most say of none of the replies that they have it.
        let lowest = RequestNumber(source.number(1));
        (number, lowest)
    }

    fn held(&self, owner: OwnerId) -> usize {
        self.open.values().filter(|open_session| open_session.owner == owner).count()
    }

    /// What an entry did to the sessions.
    pub(super) fn executed(
        &mut self,
        entry: &Entry,
        executed: &Executed,
        unit: &Unit<CountingService>,
    ) {
        let ended = unit.service().ended.get(self.told..).unwrap_or_default();
        self.told += ended.len();
        if executed.panic.is_some() {
            return;
        }
        let answer = executed.outputs.last().map(|output| &output.kind);
        let before = ended.len();
        match (entry.kind.inputs(), answer) {
            (
                [InputKind::SessionOpenFor { owner, token }],
                Some(OutputKind::Opened { result, .. }),
            ) => {
                assert!(before <= 1, "one session makes room for one");
                ended.iter().for_each(|session| self.gives_way(*session, *owner));
                self.opened(*owner, *token, *result);
            }
            (
                [
                    input @ (InputKind::SessionRequest { session, .. }
                    | InputKind::SessionRefused { session, .. }),
                ],
                Some(OutputKind::Reply { number, result, .. }),
            ) => {
                assert!(!ended.contains(session), "nobody makes room by ending");
                self.open.retain(|session, _| !ended.contains(session));
                let is_refused = matches!(input, InputKind::SessionRefused { .. });
                self.answered(*session, *number, is_refused, result);
            }
            ([InputKind::SessionClose { session, .. }], _) => {
                assert!(ended.iter().all(|ended| ended == session), "others end: {ended:?}");
                self.open.retain(|session, _| !ended.contains(session));
            }
            ([_, _, ..], _) => self.together(entry.kind.inputs(), &executed.outputs, ended),
            _ => assert_eq!(ended, [], "nobody asked for anything"),
        }
        assert_eq!(unit.sessions(), self.open.len(), "what is open is what was opened");
        assert!(unit.sessions() <= SESSIONS);
        assert!(unit.reply_bytes() <= bounds().reply_bytes);
    }

    /// What several inputs of one entry did; which of them ended a session is not known.
    fn together(&mut self, inputs: &[InputKind], outputs: &[ServiceOutput], ended: &[SessionId]) {
        let is_answer = |kind: &&OutputKind| !matches!(kind, OutputKind::Device { .. });
        let mut answers = outputs.iter().map(|output| &output.kind).filter(is_answer);
        for input in inputs {
            match input {
                InputKind::SessionOpenFor { owner, token } => {
                    let Some(OutputKind::Opened { result, .. }) = answers.next() else {
                        panic!("no answer to {input:?}")
                    };
                    if let Ok(session) = *result {
                        let new = OpenSession { owner: *owner, token: *token, next: 1 };
                        self.open.entry(session).or_insert(new);
                    }
                }
                InputKind::SessionRequest { session, .. }
                | InputKind::SessionRefused { session, .. } => {
                    let Some(OutputKind::Reply { number, result, .. }) = answers.next() else {
                        panic!("no answer to {input:?}")
                    };
                    if !ended.contains(session) {
                        let is_refused = matches!(input, InputKind::SessionRefused { .. });
                        self.answered(*session, *number, is_refused, result);
                    }
                }
                _ => {}
            }
        }
        assert!(answers.next().is_none(), "an answer to nobody");
        self.open.retain(|session, _| !ended.contains(session));
    }

    fn gives_way(&mut self, session: SessionId, asks: OwnerId) {
        assert_eq!(self.open.len(), SESSIONS, "a session ends although there is room");
        let owner = self.open[&session].owner;
        let fair = owner == asks || self.held(owner) > self.held(asks);
        assert!(fair, "{session} of {owner:?} ends for {asks:?}: {:?}", self.open);
        self.open.remove(&session);
    }

    fn opened(&mut self, owner: OwnerId, token: Nonce, result: Result<SessionId, Refusal>) {
        match result {
            Ok(session) => {
                let new = OpenSession { owner, token, next: 1 };
                let known = *self.open.entry(session).or_insert(new);
                assert_eq!(known.token, token, "another's session");
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::TooManySessions);
                assert_eq!(self.open.len(), SESSIONS, "refused although there is room");
                let most =
                    self.open.values().map(|open_session| self.held(open_session.owner)).max();
                let fair = self.held(owner) + 1;
                assert!(most <= Some(fair), "{owner:?} is refused: {:?}", self.open);
            }
        }
    }

    fn answered(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        is_refused: bool,
        result: &Result<Bytes, Refusal>,
    ) {
        let Some(open_session) = self.open.get_mut(&session) else {
            return assert_eq!(*result, Err(Refusal::UnknownSession));
        };
        let is_kept = matches!(result, Ok(_) | Err(Refusal::ReadOnly));
        if is_kept && number.0 == open_session.next {
            open_session.next += 1;
            assert_eq!(result.is_err(), is_refused, "what may not be asked has no effect");
        }
    }
}

/// What may not be asked is in nothing that this replica makes.
pub(super) fn keeps_out(output: &Output) {
    let is_forbidden = |input: &InputKind| matches!(input, InputKind::SessionRequest { body, .. } if body[..] == FORBIDDEN);
    let has_forbidden = |entry: &Entry| entry.kind.inputs().iter().any(is_forbidden);
    match output {
        Output::Append(entry) | Output::Execute(entry) => assert!(!has_forbidden(entry)),
        Output::Peer { frame: PeerFrame::Batch { entries, forwards, .. }, .. } => {
            assert!(!entries.iter().any(has_forbidden));
            assert!(!forwards.iter().any(|forward| is_forbidden(&forward.kind)));
        }
        _ => {}
    }
}
