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
    /// For this long after its start it grants nothing, so that members with a later epoch than
    /// its own can tell it first. Some round trips and a reconnection's back-off; 2 s, say.
    pub grace: Duration,
}

/// What a witness is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A CoServer said something.
    Call {
        /// On which connection. The first call makes it known.
        conn: ConnId,
        /// Whose it is, by its key.
        pair: PairId,
        /// Its place, by its key.
        place: ReplicaId,
        /// What.
        call: WitnessCall,
    },
    /// A connection ended.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The record of the last [`Output::Store`] or [`Output::Adopt`] for the pair is on disk, or
    /// writing it failed.
    Stored {
        /// The pair.
        pair: PairId,
        /// Whether it is there.
        stored: Stored,
    },
    /// An operator enrolled the pair or began a new lineage, and this is on disk.
    Enrolled(Held),
}

/// What a witness wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Answer {
        /// On which connection.
        conn: ConnId,
        /// What.
        answer: WitnessAnswer,
    },
    /// End this connection, after what was sent on it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Replace the record; then say [`Input::Stored`].
    Store {
        /// Digest of the record that it replaces.
        present: Digest,
        /// The record.
        record: Record,
    },
    /// Keep this record, whatever was kept for its pair; then say [`Input::Stored`].
    Adopt {
        /// The record.
        record: Record,
    },
    /// Note that the pair's record is not to be trusted. Nothing is to be said about the result:
    /// this process does not forget it.
    Distrust {
        /// The pair.
        pair: PairId,
        /// The later epoch of which a member told.
        told: Told,
    },
    /// Something worth recording happened.
    Event(Event),
}

/// What happened at a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A record replaced the one before.
    Granted {
        /// The record.
        record: Record,
    },
    /// A request was not granted.
    Denied {
        /// Who asked.
        asker: Asker,
        /// Why not.
        why: Denial,
    },
    /// A call was refused.
    Refused {
        /// Whose call.
        pair: PairId,
        /// From which place.
        place: ReplicaId,
        /// Why.
        reason: WitnessRefusal,
    },
    /// A member told of an epoch that the record here cannot explain: this directory was wiped,
    /// or restored from a copy. The pair is refused until an operator acts.
    Behind {
        /// The pair.
        pair: PairId,
        /// The record's epoch here.
        ours: Told,
        /// The member's.
        told: Told,
    },
    /// A record was certainly not written: the one before stands, and whoever asks again has the
    /// next attempt made.
    NotStored {
        /// The pair.
        pair: PairId,
    },
    /// Nobody knows whether a record was written. The pair is refused until the witness is
    /// restarted.
    StorageFailed {
        /// The pair.
        pair: PairId,
    },
    /// A call was dropped because too many wait for a record to be written.
    Dropped {
        /// The pair.
        pair: PairId,
    },
}
