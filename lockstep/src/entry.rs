//! Entries: inputs once they are ordered.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::ids::{
    DeviceId, Epoch, Incarnation, Index, LogTime, Nonce, OriginNumber, OwnerId, ReplicaId,
    RequestNumber, SessionId,
};
use crate::record::Record;

/// Who took an input from outside, and its number there: the input's name (rule O5).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The place of the CoServer that took it.
    pub place: ReplicaId,
    /// The process that took it.
    pub incarnation: Incarnation,
    /// The input's number among that process's inputs; 0 for an entry that the sequencer
    /// made itself.
    pub number: OriginNumber,
}

/// An input in its place in the log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's position in the log.
    pub index: Index,
    /// The epoch in which it was ordered.
    pub epoch: Epoch,
    /// Log time of the entry; later than that of every entry before.
    pub time: LogTime,
    /// The input's origin: the incarnation that took it, and its number there.
    pub origin: Origin,
    /// The content of the entry.
    pub kind: EntryKind,
}

/// What an entry says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The first entry of a lineage: the seed of everything random in the service.
    Genesis {
        /// Drawn from the operating system's entropy by the first sequencer.
        seed: [u8; 32],
    },
    /// The first entry of an epoch that is no renewal: who is a member from here on.
    Membership {
        /// The epoch's record.
        record: Record,
    },
    /// From the next entry on the member at this place is the sequencer. Takes effect when
    /// appended, within its epoch and the renewals of that (rule O9).
    HandOver {
        /// The next sequencer.
        to: ReplicaId,
    },
    /// Nothing but the time: a wake-up is due and no input came.
    Tick,
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
    /// Both take a checkpoint of the state at this entry, so that the two can be compared.
    Checkpoint,
    /// Moves the pair to the witness in this slot. Once both have this entry on disk they follow
    /// this record, a renewal, and enrol the pair there with it (rule W2).
    Witness {
        /// 0 for the preferred one, 1 for the alternate.
        slot: u8,
        /// The record that the pair enrols with.
        record: Record,
    },
    /// Like [`Membership`](Self::Membership), of a process that was started anew and takes its
    /// predecessor's log up again. Between this entry and the one before lies the gap, in which no
    /// process ran. From here on wake-ups are held (rule O11).
    Resume {
        /// The epoch's record.
        record: Record,
    },
    /// The devices stand, or were waited for long enough: wake-ups go on (rule O12).
    Ready,
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
    /// The sequencer stood still for a while, or no process could order although a wake-up was due.
    /// Between the entry before and this one lies a gap, of which the service is told (rule O14).
    Gap,
}

impl EntryKind {
    /// The record of the epoch that begins with this entry, if one does.
    pub fn begins(&self) -> Option<&Record> {
        match self {
            Self::Membership { record } | Self::Resume { record } => Some(record),
            _ => None,
        }
    }

    /// Whether the protocol itself made it. Such entries take effect when appended, and every
    /// bound keeps room for them.
    pub fn is_protocol(&self) -> bool {
        matches!(
            self,
            Self::Genesis { .. }
                | Self::Membership { .. }
                | Self::HandOver { .. }
                | Self::Checkpoint
                | Self::Witness { .. }
                | Self::Resume { .. }
                | Self::Ready
                | Self::Gap
        )
    }

    /// Bytes of payload, for bounds.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Device { bytes, .. } => bytes.len(),
            Self::SessionRequest { body, .. } => body.len(),
            _ => 0,
        }
    }

    fn hash(&self, hasher: &mut Hasher) {
        match self {
            Self::Genesis { seed } => hasher.byte(0).bytes(seed),
            Self::Membership { record } => hasher.byte(1).bytes(&record.digest().0),
            Self::HandOver { to } => hasher.byte(2).byte(to.slot() as u8),
            Self::Tick => hasher.byte(3),
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
            Self::Checkpoint => hasher.byte(8),
            Self::Witness { slot, record } => hasher.byte(9).byte(*slot).bytes(&record.digest().0),
            Self::Resume { record } => hasher.byte(10).bytes(&record.digest().0),
            Self::Ready => hasher.byte(11),
            Self::SessionOpenFor { owner, token } => {
                hasher.byte(12).number(owner.0).number(token.0)
            }
            Self::SessionRefused { session, token, number, lowest } => {
                hasher.byte(13).number(session.0).number(token.0).number(number.0).number(lowest.0)
            }
            Self::Gap => hasher.byte(14),
        };
    }
}

impl Entry {
    /// What the entry costs towards a bound: its payload and its bookkeeping.
    pub fn weight(&self) -> usize {
        self.kind.payload_len() + core::mem::size_of::<Self>()
    }

    /// The running digest of the entries at this one, given that of the one before.
    pub fn chain(&self, previous: Digest) -> Digest {
        let mut hasher = Hasher::after(previous);
        hasher
            .number(self.index.0)
            .number(self.epoch.0)
            .number(self.time.0)
            .byte(self.origin.place.slot() as u8)
            .number(self.origin.incarnation.0)
            .number(self.origin.number.0);
        self.kind.hash(&mut hasher);
        hasher.finish()
    }
}
