//! The boundary of the witness's core: its configuration, and closed enums in and out.

use core::time::Duration;

use crate::digest::Digest;
use crate::ids::{ConnId, PairId, ReplicaId};
use crate::record::Record;
use crate::wire::frames::{Versions, WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::rules::{Asker, Denial};
use crate::witness::store::{Held, Stored, Told};

/// The versions of the witness protocol that this witness speaks.
pub const PROTOCOL: Versions = Versions::SPOKEN;

/// How a witness behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The witness grants nothing for this long after its start, so that members can first tell it
    /// of an epoch later than its own. A few round trips and a reconnection's back-off suffice,
    /// such as 2 s.
    pub grace: Duration,
}

/// What a witness is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A frame came from a CoServer.
    Call {
        /// The connection on which the frame came. The first call on a connection makes it known.
        conn: ConnId,
        /// The pair of the key that the connection authenticated with.
        pair: PairId,
        /// The place of that key.
        place: ReplicaId,
        /// The checked frame.
        call: WitnessCall,
    },
    /// A connection ended.
    Closed {
        /// The connection that ended.
        conn: ConnId,
    },
    /// The record of the last [`Output::Store`] or [`Output::Adopt`] for the pair is on disk, or
    /// writing it failed.
    Stored {
        /// The pair whose record was to be written.
        pair: PairId,
        /// Whether the record is on disk.
        stored: Stored,
    },
    /// An operator enrolled the pair or began a new lineage, and this is on disk.
    Enrolled(Held),
}

/// What a witness wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame to a CoServer.
    Answer {
        /// The connection to send on.
        conn: ConnId,
        /// The frame to send.
        answer: WitnessAnswer,
    },
    /// End this connection, after what was sent on it.
    Close {
        /// The connection to end.
        conn: ConnId,
    },
    /// Replace the record; then say [`Input::Stored`].
    Store {
        /// Digest of the record that it replaces.
        present: Digest,
        /// The record to write.
        record: Record,
    },
    /// Keep this record, whatever was kept for its pair; then say [`Input::Stored`].
    Adopt {
        /// The record to keep.
        record: Record,
    },
    /// Note that the pair's record is not to be trusted. Nothing is to be said about the result:
    /// this process does not forget it.
    Distrust {
        /// The pair whose record is not to be trusted.
        pair: PairId,
        /// The later epoch that a member named.
        told: Told,
    },
    /// Record this event.
    Event(Event),
}

/// What happened at a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A record replaced the previous one.
    Granted {
        /// The new record.
        record: Record,
    },
    /// A request was not granted.
    Denied {
        /// The process that asked.
        asker: Asker,
        /// Why the witness did not grant the request.
        why: Denial,
    },
    /// A call was refused.
    Refused {
        /// The pair of the caller's key.
        pair: PairId,
        /// The place of the caller's key.
        place: ReplicaId,
        /// The reason that the caller was given.
        reason: WitnessRefusal,
    },
    /// A member named an epoch that the record here cannot explain: this directory was wiped, or
    /// restored from a copy. The pair is refused until an operator acts.
    Behind {
        /// The pair that is refused.
        pair: PairId,
        /// The epoch of the record here.
        ours: Told,
        /// The epoch that the member named.
        told: Told,
    },
    /// A record was certainly not written: the previous one stands, and the next request makes
    /// another attempt.
    NotStored {
        /// The pair whose record was to be written.
        pair: PairId,
    },
    /// Whether a record was written is unknown. The pair is refused until the witness is restarted.
    StorageFailed {
        /// The pair that is refused.
        pair: PairId,
    },
    /// A call was dropped because too many wait for a record to be written.
    Dropped {
        /// The pair of the call.
        pair: PairId,
    },
}
