//! Inputs from outside, and what is ordered of them together.

use core::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use rkyv::rancor::Fallible;
use rkyv::ser::{Allocator, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Deserialize, Place, Serialize};

use crate::digest::Hasher;
use crate::ids::{DeviceId, Nonce, OwnerId, RequestNumber, SessionId};

/// An input: something that came from outside.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Something happened on a redirected device.
    Device {
        /// The device that brought the input.
        device: DeviceId,
        /// The input, in the device's own encoding.
        bytes: Bytes,
    },
    /// A client asked for a session, in a log of a version that did not name the owner.
    SessionOpen {
        /// The client's secret nonce.
        token: Nonce,
    },
    /// A client's request.
    SessionRequest {
        /// The session in which the client asks.
        session: SessionId,
        /// The nonce with which the session was opened.
        token: Nonce,
        /// The request's number in its session; it takes effect only as the next one.
        number: RequestNumber,
        /// The lowest number that the client still wants an answer to: stored replies below
        /// are dropped.
        lowest: RequestNumber,
        /// The request, in the service's own encoding.
        body: Bytes,
    },
    /// A client is done with its session.
    SessionClose {
        /// The session that is closed.
        session: SessionId,
        /// The nonce with which the session was opened.
        token: Nonce,
    },
    /// A client asks for a session.
    SessionOpenFor {
        /// The owner of the session, for its share of what all sessions may cost (rule C9).
        owner: OwnerId,
        /// The client's secret mark: answers find the client by it, requests prove by it that
        /// the session is theirs.
        token: Nonce,
    },
    /// A client asked what its key may not ask. The refusal takes the request's place in the
    /// session, and its number: it is the answer (rule C10).
    SessionRefused {
        /// The session in which the client asks.
        session: SessionId,
        /// The nonce with which the session was opened.
        token: Nonce,
        /// The request's number there.
        number: RequestNumber,
        /// As of [`SessionRequest`](Self::SessionRequest).
        lowest: RequestNumber,
    },
}

impl InputKind {
    /// Bytes of payload, for bounds.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Device { bytes, .. } => bytes.len(),
            Self::SessionRequest { body, .. } => body.len(),
            _ => 0,
        }
    }

    pub(super) fn hash(&self, hasher: &mut Hasher) {
        match self {
            Self::Device { device, bytes } => hasher.byte(4).number(device.0.into()).bytes(bytes),
            Self::SessionOpen { token } => hasher.byte(5).number(token.0),
            Self::SessionRequest { session, token, number, lowest, body } => hasher
                .byte(6)
                .number(session.0)
                .number(token.0)
                .number(number.0)
                .number(lowest.0)
                .bytes(body),
            Self::SessionClose { session, token } => {
                hasher.byte(7).number(session.0).number(token.0)
            }
            Self::SessionOpenFor { owner, token } => {
                hasher.byte(12).number(owner.0).number(token.0)
            }
            Self::SessionRefused { session, token, number, lowest } => {
                hasher.byte(13).number(session.0).number(token.0).number(number.0).number(lowest.0)
            }
        };
    }
}

/// The inputs of an entry, at least one. Copies share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    list: Arc<[InputKind]>,
    payload: usize,
}

impl Inputs {
    /// Bytes of payload of all of them.
    pub fn payload_len(&self) -> usize {
        self.payload
    }
}

impl From<Vec<InputKind>> for Inputs {
    fn from(list: Vec<InputKind>) -> Self {
        let payload = list.iter().map(InputKind::payload_len).sum();
        Self { list: list.into(), payload }
    }
}

impl From<InputKind> for Inputs {
    fn from(input: InputKind) -> Self {
        Self { payload: input.payload_len(), list: [input].into() }
    }
}

impl Deref for Inputs {
    type Target = [InputKind];

    fn deref(&self) -> &[InputKind] {
        &self.list
    }
}

// As a `Vec` is archived.

impl Archive for Inputs {
    type Archived = ArchivedVec<ArchivedInputKind>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(self, resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> Serialize<S> for Inputs
where
    InputKind: Serialize<S>,
{
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        ArchivedVec::serialize_from_slice(self, serializer)
    }
}

impl<D: Fallible + ?Sized> Deserialize<Inputs, D> for ArchivedVec<ArchivedInputKind>
where
    ArchivedInputKind: Deserialize<InputKind, D>,
{
    fn deserialize(&self, deserializer: &mut D) -> Result<Inputs, D::Error> {
        let inputs = self.iter().map(|input| input.deserialize(deserializer));
        Ok(inputs.collect::<Result<Vec<_>, _>>()?.into())
    }
}
