//! Outputs: what the service wants done outside.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::ids::{DeviceId, Index, LogTime, Nonce, ReplicaId, RequestNumber, SessionId};
use crate::loss::SessionUse;

/// On which CoServer a device's output is carried out.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The CoServer at this place: where the input came from, say. Dropped if it is no member.
    Replica(ReplicaId),
    /// Whichever is the sequencer at the output's index.
    Sequencer,
    /// Both, each for itself.
    Both,
}

/// One output, named by the index of its entry, the step within it and its ordinal there.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The step of the entry that made it: due wake-ups come first, each a step of its own.
    pub step: u32,
    /// The output's position among the step's outputs.
    pub ordinal: u32,
    /// What has to be done with the output.
    pub kind: OutputKind,
}

/// What an output asks for.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// To a client: the answer to its request for a session.
    Opened {
        /// The nonce in the client's request.
        token: Nonce,
        /// The session's id, or why none was opened.
        result: Result<SessionId, Refusal>,
    },
    /// To a client: the answer to a request.
    Reply {
        /// The session of the request.
        session: SessionId,
        /// The nonce with which the session was opened, or that of the request where the session
        /// is unknown.
        token: Nonce,
        /// The request's number.
        number: RequestNumber,
        /// The service's answer, or why the request did not take effect.
        result: Result<Bytes, Refusal>,
    },
    /// To a redirected device.
    Device {
        /// The device that the output is for.
        device: DeviceId,
        /// The place at which the output is carried out.
        carrier: Carrier,
        /// The output, in the device's own encoding.
        bytes: Bytes,
    },
}

/// Why a request, or a request for a session, did not take effect. Decided by the log, so the
/// same on both CoServers.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session is closed, has expired, or never was.
    #[error("the session is unknown or has expired: open a new one")]
    UnknownSession,
    /// A request came before its predecessors.
    #[error("request {expected} of the session has to come first")]
    Gap {
        /// The number that is next.
        expected: RequestNumber,
    },
    /// The client said before that it no longer wants the answer to this request.
    #[error("the request was answered and its answer given up")]
    Forgotten,
    /// The bound on open sessions is reached.
    #[error("too many sessions are open: close some or wait until idle ones expire")]
    TooManySessions,
    /// The session keeps more unanswered replies than its bound allows.
    #[error("too many replies of the session are waiting: raise `lowest` first")]
    TooManyReplies,
    /// The service's answer is larger than a frame carries.
    #[error("the service's answer is too large for a frame")]
    ReplyTooLarge,
    /// The client's key may make only requests that change nothing, and this is none.
    #[error("the client's key may only read, and this request may change something")]
    ReadOnly,
}

impl Refusal {
    fn code(self) -> (u8, u64) {
        match self {
            Self::UnknownSession => (1, 0),
            Self::Gap { expected } => (2, expected.0),
            Self::Forgotten => (3, 0),
            Self::TooManySessions => (4, 0),
            Self::TooManyReplies => (5, 0),
            Self::ReplyTooLarge => (6, 0),
            Self::ReadOnly => (7, 0),
        }
    }
}

impl Output {
    /// What the output costs towards a bound.
    pub fn weight(&self) -> usize {
        self.payload().len() + core::mem::size_of::<Self>()
    }

    /// The digest of this output alone.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::after(Digest::ZERO);
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The bytes that the output brings to its target; none if there are none.
    pub(crate) fn payload(&self) -> &[u8] {
        match &self.kind {
            OutputKind::Opened { .. } => &[],
            OutputKind::Reply { result, .. } => result.as_ref().map_or(&[], |bytes| bytes),
            OutputKind::Device { bytes, .. } => bytes,
        }
    }

    fn hash(&self, hasher: &mut Hasher) {
        hasher.number(self.step.into()).number(self.ordinal.into());
        match &self.kind {
            OutputKind::Opened { token, result } => {
                hasher.byte(1).number(token.0);
                match result {
                    Ok(session) => hasher.byte(0).number(session.0),
                    Err(refusal) => hash_refusal(*refusal, hasher),
                };
            }
            OutputKind::Reply { session, token, number, result } => {
                hasher.byte(2).number(session.0).number(token.0).number(number.0);
                match result {
                    Ok(bytes) => hasher.byte(0).bytes(bytes),
                    Err(refusal) => hash_refusal(*refusal, hasher),
                };
            }
            OutputKind::Device { device, carrier, bytes } => {
                hasher.byte(3).number(device.0.into());
                match carrier {
                    Carrier::Replica(place) => hasher.byte(0).byte(place.slot() as u8),
                    Carrier::Sequencer => hasher.byte(1),
                    Carrier::Both => hasher.byte(2),
                };
                hasher.bytes(bytes);
            }
        }
    }
}

fn hash_refusal(refusal: Refusal, hasher: &mut Hasher) -> &mut Hasher {
    let (code, detail) = refusal.code();
    hasher.byte(code).number(detail)
}

/// What executing one entry came to.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The entry that was executed.
    pub index: Index,
    /// The running digest of the outputs at this entry ([`chain`]).
    pub digest: Digest,
    /// The outputs, in order.
    pub outputs: Vec<Output>,
    /// When the next entry is needed at the latest, by log time: the service wants to be woken,
    /// or a session ends by itself. In the past if there was more to do than one entry carries.
    pub wakeup: Option<LogTime>,
    /// Set if a step panicked: the message. Such a result has no outputs, and nothing after it
    /// is executed.
    pub panic: Option<String>,
    /// What the clients' sessions have, and what was lost of them.
    pub sessions: SessionUse,
}

/// The running digest of the outputs at an entry, given that at the entry before. It covers the
/// next wake-up and a panic too, so that replicas which differ in these differ in the digest.
pub fn chain(
    previous: Digest,
    index: Index,
    outputs: &[Output],
    wakeup: Option<LogTime>,
    panicked: bool,
) -> Digest {
    let mut hasher = Hasher::after(previous);
    hasher.number(index.0).number(outputs.len() as u64);
    for output in outputs {
        output.hash(&mut hasher);
    }
    hasher.byte(u8::from(wakeup.is_some())).number(wakeup.map_or(0, |at| at.0));
    hasher.byte(u8::from(panicked)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(change: impl Fn(&mut u32, &mut u32, &mut DeviceId, &mut Carrier)) -> Output {
        let (mut step, mut ordinal, mut device) = (1, 2, DeviceId(3));
        let mut carrier = Carrier::Replica(ReplicaId::A);
        change(&mut step, &mut ordinal, &mut device, &mut carrier);
        let bytes = Bytes::from_static(b"bytes");
        Output { step, ordinal, kind: OutputKind::Device { device, carrier, bytes } }
    }

    fn reply(session: u64, token: u64, number: u64, result: Result<Bytes, Refusal>) -> Output {
        let (session, token) = (SessionId(session), Nonce(token));
        let kind = OutputKind::Reply { session, token, number: RequestNumber(number), result };
        Output { step: 1, ordinal: 2, kind }
    }

    fn opened(token: u64, result: Result<SessionId, Refusal>) -> Output {
        Output { step: 1, ordinal: 2, kind: OutputKind::Opened { token: Nonce(token), result } }
    }

    fn other_bytes() -> Output {
        let mut output = device(|_, _, _, _| ());
        if let OutputKind::Device { bytes, .. } = &mut output.kind {
            *bytes = Bytes::from_static(b"Bytes");
        }
        output
    }

    /// One output with every field changed in turn, and every kind of answer.
    fn variants() -> Vec<Output> {
        let ok = || Ok(Bytes::from_static(b"ok"));
        let gap = |expected| Refusal::Gap { expected: RequestNumber(expected) };
        let refusals = [
            Refusal::UnknownSession,
            gap(1),
            gap(2),
            Refusal::Forgotten,
            Refusal::TooManySessions,
            Refusal::TooManyReplies,
            Refusal::ReplyTooLarge,
            Refusal::ReadOnly,
        ];
        let mut variants = vec![
            device(|_, _, _, _| ()),
            device(|step, _, _, _| *step = 9),
            device(|_, ordinal, _, _| *ordinal = 9),
            device(|_, _, device, _| *device = DeviceId(9)),
            device(|_, _, _, carrier| *carrier = Carrier::Replica(ReplicaId::B)),
            device(|_, _, _, carrier| *carrier = Carrier::Sequencer),
            device(|_, _, _, carrier| *carrier = Carrier::Both),
            other_bytes(),
            reply(3, 4, 5, ok()),
            reply(9, 4, 5, ok()),
            reply(3, 9, 5, ok()),
            reply(3, 4, 9, ok()),
            reply(3, 4, 5, Ok(Bytes::from_static(b"OK"))),
            opened(4, Ok(SessionId(3))),
            opened(9, Ok(SessionId(3))),
            opened(4, Ok(SessionId(9))),
        ];
        variants.extend(refusals.map(|refusal| reply(3, 4, 5, Err(refusal))));
        variants.extend(refusals.map(|refusal| opened(4, Err(refusal))));
        variants
    }

    #[test]
    fn changing_any_one_field_of_an_output_changes_the_digest() {
        let at = |outputs: &[Output]| chain(Digest::ZERO, Index(7), outputs, None, false);
        let mut digests: Vec<Digest> =
            variants().iter().map(|one| at(core::slice::from_ref(one))).collect();
        let count = digests.len();
        digests.sort_unstable_by_key(|digest| digest.0);
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn the_digest_covers_what_came_before_and_everything_else_that_a_step_comes_to() {
        let [one, other] = [0, 1].map(|at| variants()[at].clone());
        let one_then = |outputs: &[Output]| chain(Digest::ZERO, Index(7), outputs, None, false);
        let mut digests = vec![
            one_then(&[]),
            one_then(core::slice::from_ref(&one)),
            one_then(&[one.clone(), other.clone()]),
            one_then(&[other, one]),
            chain(Digest::of(b"another past"), Index(7), &[], None, false),
            chain(Digest::ZERO, Index(8), &[], None, false),
            chain(Digest::ZERO, Index(7), &[], Some(LogTime(0)), false),
            chain(Digest::ZERO, Index(7), &[], Some(LogTime(1)), false),
            chain(Digest::ZERO, Index(7), &[], None, true),
        ];
        let count = digests.len();
        digests.sort_unstable_by_key(|digest| digest.0);
        digests.dedup();
        assert_eq!(digests.len(), count);
    }
}
