//! Entries as version 1 of the format has them: each input has an entry of its own.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use bytes::Bytes;
use rkyv::{Archive, Deserialize};

use crate::entry::{self, EntryKind, InputKind, Origin};
use crate::ids::{
    DeviceId, Epoch, Index, LogTime, Nonce, OwnerId, ReplicaId, RequestNumber, SessionId,
};
use crate::record::Record;

/// An entry of version 1.
#[derive(Archive, Deserialize, Debug)]
pub(super) struct Entry {
    index: Index,
    epoch: Epoch,
    time: LogTime,
    origin: Origin,
    kind: Kind,
}

/// The content of one, in the order in which the kinds were added.
#[derive(Archive, Deserialize, Debug)]
enum Kind {
    Genesis {
        seed: [u8; 32],
    },
    Membership {
        record: Record,
    },
    HandOver {
        to: ReplicaId,
    },
    Tick,
    Device {
        device: DeviceId,
        bytes: Bytes,
    },
    SessionOpen {
        token: Nonce,
    },
    SessionRequest {
        session: SessionId,
        token: Nonce,
        number: RequestNumber,
        lowest: RequestNumber,
        body: Bytes,
    },
    SessionClose {
        session: SessionId,
        token: Nonce,
    },
    Checkpoint,
    Witness {
        slot: u8,
        record: Record,
    },
    Resume {
        record: Record,
    },
    Ready,
    SessionOpenFor {
        owner: OwnerId,
        token: Nonce,
    },
    SessionRefused {
        session: SessionId,
        token: Nonce,
        number: RequestNumber,
        lowest: RequestNumber,
    },
    Gap,
}

impl From<Entry> for entry::Entry {
    fn from(Entry { index, epoch, time, origin, kind }: Entry) -> Self {
        Self { index, epoch, time, origin, kind: kind.into() }
    }
}

impl From<Kind> for EntryKind {
    fn from(kind: Kind) -> Self {
        let input = match kind {
            Kind::Genesis { seed } => return Self::Genesis { seed },
            Kind::Membership { record } => return Self::Membership { record },
            Kind::HandOver { to } => return Self::HandOver { to },
            Kind::Tick => return Self::Tick,
            Kind::Checkpoint => return Self::Checkpoint,
            Kind::Witness { slot, record } => return Self::Witness { slot, record },
            Kind::Resume { record } => return Self::Resume { record },
            Kind::Ready => return Self::Ready,
            Kind::Gap => return Self::Gap,
            Kind::Device { device, bytes } => InputKind::Device { device, bytes },
            Kind::SessionOpen { token } => InputKind::SessionOpen { token },
            Kind::SessionOpenFor { owner, token } => InputKind::SessionOpenFor { owner, token },
            Kind::SessionClose { session, token } => InputKind::SessionClose { session, token },
            Kind::SessionRequest { session, token, number, lowest, body } => {
                InputKind::SessionRequest { session, token, number, lowest, body }
            }
            Kind::SessionRefused { session, token, number, lowest } => {
                InputKind::SessionRefused { session, token, number, lowest }
            }
        };
        Self::Inputs(input.into())
    }
}
