//! Outputs: what the service wants done outside.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::ids::{DeviceId, Index, LogTime, Nonce, Place, RequestNumber, SessionId};

/// On which CoServer a device's output is carried out.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The CoServer at this place: where the input came from, say. Dropped if it is no member.
    Place(Place),
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
    /// Its position among the step's outputs.
    pub ordinal: u32,
    /// What is to be done.
    pub kind: OutputKind,
}

/// What an output asks for.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// To a client: the answer to its request for a session.
    Opened {
        /// The mark in its request.
        token: Nonce,
        /// The session, or why there is none.
        result: Result<SessionId, Refusal>,
    },
    /// To a client: the answer to a request.
    Reply {
        /// Its session.
        session: SessionId,
        /// The mark with which it was opened (of the request, where the session is unknown).
        token: Nonce,
        /// The request's number.
        number: RequestNumber,
        /// The service's answer, or why the request did not take effect.
        result: Result<Bytes, Refusal>,
    },
    /// To a redirected device.
    Device {
        /// Which.
        device: DeviceId,
        /// Where it is carried out.
        carrier: Carrier,
        /// What, in the device's own words.
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
        }
    }
}

impl Output {
    /// What the output costs towards a bound.
    pub fn weight(&self) -> usize {
        let payload = match &self.kind {
            OutputKind::Opened { .. } => 0,
            OutputKind::Reply { result, .. } => result.as_ref().map_or(0, Bytes::len),
            OutputKind::Device { bytes, .. } => bytes.len(),
        };
        payload + core::mem::size_of::<Self>()
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
                    Carrier::Place(place) => hasher.byte(0).byte(place.slot() as u8),
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
    /// The entry.
    pub index: Index,
    /// The running digest of the outputs at this entry ([`chain`]).
    pub digest: Digest,
    /// The outputs, in order.
    pub outputs: Vec<Output>,
    /// When the next entry is needed at the latest, by log time: the service wants to be woken,
    /// or an idle session ends. In the past if there was more to do than one entry carries.
    pub wakeup: Option<LogTime>,
    /// Set if a step panicked: the message. Such a result has no outputs, and nothing after it
    /// is executed.
    pub panic: Option<String>,
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
