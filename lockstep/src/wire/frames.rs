//! The frames on the connections: between the CoServers, with the witness, with clients.
//!
//! `docs/wire.md` describes the layout; [`super::codec`] turns frames into bytes and back.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::{Entry, InputKind};
use crate::ids::{
    Epoch, Incarnation, Index, Lineage, LogTime, Nonce, OriginNumber, PairId, ReplicaId,
    RequestNumber, SessionId,
};
use crate::outline::Outline;
use crate::output::Refusal;
use crate::record::{Record, Request};
use crate::wire::header;

/// The versions of a protocol that a process can speak, inclusive.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Oldest version that the process speaks.
    pub oldest: u16,
    /// Newest version that the process speaks.
    pub newest: u16,
}

impl Versions {
    /// The versions that this program speaks: of each protocol the one that goes with its format.
    pub const SPOKEN: Self = Self { oldest: header::VERSION, newest: header::VERSION };
}

/// What a replica runs; both must run the same (rule E2).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The service's name.
    pub service: String,
    /// The version that the service gives itself.
    pub service_version: u32,
    /// Digest of everything configured that both must agree on: the service's own
    /// configuration, the device table, the engine's shared limits.
    pub configuration: Digest,
    /// Versions of the protocol between the CoServers.
    pub protocol: Versions,
}

/// The first frame on a link, in both directions.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The pair that the sender belongs to.
    pub pair: PairId,
    /// The sender's place.
    pub place: ReplicaId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// What the sender runs.
    pub environment: Environment,
    /// The record of the sender's epoch; `None` unless it is a member.
    pub record: Option<Record>,
    /// Whether the sender has had the receiver's hello on this link.
    pub heard: bool,
    /// What the sender may claim, if it is a process that was started anew with its
    /// predecessor's journal (rule J2).
    pub claim: Option<Claim>,
    /// Digest of the record with which the pair was last enrolled with a witness, as far as the
    /// sender has the entry that says so on disk (rule W2).
    pub enrolled: Option<Digest>,
    /// What the sender's wall clock says (rule O13).
    pub wall: LogTime,
}

/// How far the log of a restarted process goes; the greater of two claims first (rule J2).
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default,
)]
pub struct Claim {
    /// The lineage of its epoch.
    pub lineage: Lineage,
    /// The last epoch that its disk knows of.
    pub epoch: Epoch,
    /// The last entry on its disk.
    pub last_index: Index,
}

/// An entry, named by the running digest of the entries there.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    pub index: Index,
    /// The running digest of the entries at `index`.
    pub log_digest: Digest,
}

/// A checkpoint's file, the same on every CoServer that took it.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The entry at which it was taken.
    pub index: Index,
    /// Its length in bytes.
    pub len: u64,
    /// The digest of the state that it holds.
    pub hash: Digest,
}

/// What a joiner asks for next (rule J4).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Consecutive entries, as many as the sender chooses.
    Entries {
        /// The first entry that is asked for.
        from: Index,
    },
    /// A piece of a checkpoint.
    Chunk {
        /// The entry of the checkpoint.
        checkpoint: Index,
        /// Offset of the piece in the checkpoint's file.
        offset: u64,
    },
}

/// How far a replica is, with both running digests (rule O3).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The sender holds every entry up to this one.
    pub last_index: Index,
    /// The running digest of the entries at `last_index`.
    pub entries: Digest,
    /// The sender has persisted every entry up to this one; under `memory` the same as
    /// `last_index`.
    pub persisted: Index,
    /// The sender has executed every entry up to this one.
    pub executed: Index,
    /// The running digest of the outputs at `executed`.
    pub outputs: Digest,
    /// Whether the sender's service panicked at `executed`, so that it executes no further.
    pub halted: bool,
    /// The highest number of the receiver's forwarded inputs that the sender has ordered or, as
    /// follower, seen ordered.
    pub ordered: OriginNumber,
}

/// An input on its way to the sequencer.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The input's number among the sender's inputs.
    pub number: OriginNumber,
    /// The input itself.
    pub kind: InputKind,
}

/// Frames between the CoServers.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum PeerFrame {
    /// First on every link.
    Hello(Hello),
    /// The sender will not run with the receiver; the link is closed.
    Refuse {
        /// Why, in words for the operator.
        reason: String,
    },
    /// A heartbeat, on every link for itself; answered at once, on the same link. Repeats the
    /// sender's progress, so that a lost report is made good.
    Ping {
        /// The sender's number for this heartbeat, which the answer returns.
        sequence: u64,
        /// The sender's lineage.
        lineage: Lineage,
        /// The sender's epoch; 0 while it is no member.
        epoch: Epoch,
        /// The sender's progress in that epoch.
        progress: Progress,
    },
    /// The answer to a heartbeat.
    Pong {
        /// The number in the heartbeat.
        sequence: u64,
    },
    /// Entries, inputs and progress of an epoch.
    Batch {
        /// The epoch's lineage.
        lineage: Lineage,
        /// The epoch; a receiver in another one ignores the rest.
        epoch: Epoch,
        /// The sender's progress.
        progress: Progress,
        /// Entries in index order, possibly with gaps where a bulk entry goes by another link.
        entries: Vec<Entry>,
        /// Inputs for the sequencer, in number order.
        forwards: Vec<Forward>,
    },
    /// The record that the sender follows, as the witness gave it.
    Epoch { record: Record },
    /// The sender has asked the witness for this and has no answer yet.
    Asked { request: Request },
    /// Digests of the outputs at consecutive entries, to find the first that differs.
    Digests {
        lineage: Lineage,
        /// The epoch in which the outputs were computed.
        epoch: Epoch,
        /// The entry of the first digest.
        from: Index,
        /// The running digests of the outputs, one for each entry from `from` on.
        outputs: Vec<Digest>,
    },
    /// The sender stops being a member of its own accord: it releases nothing from here on.
    Leave {
        /// The epoch that the sender leaves.
        epoch: Epoch,
        /// Why, in words for the operator.
        reason: String,
    },
    /// The sender wants to be brought up to date by the receiver, a sole member (rule J3).
    Join {
        /// Entries that the joiner's disk has, the last one first.
        points: Vec<LogPosition>,
        /// A checkpoint that the joiner got whole and could not use.
        unusable_up_to: Option<Index>,
    },
    /// Where the receiver, a joiner, is to begin.
    Offer {
        /// The record that the sender follows.
        record: Record,
        /// The last entry that both have, or the checkpoint's entry.
        from: LogPosition,
        /// Set if the joiner is to begin with a checkpoint.
        checkpoint: Option<CheckpointFile>,
        /// The last entry that the sender holds.
        last_index: Index,
    },
    /// A joiner asks for a piece of what it lacks.
    Fetch(Fetch),
    /// Entries that were asked for.
    Entries {
        /// The entry before the first.
        after: Index,
        /// Consecutive entries; empty if there is nothing more yet.
        entries: Vec<Entry>,
        /// The last entry that the sender holds.
        last_index: Index,
    },
    /// A piece of a checkpoint that was asked for.
    Chunk {
        /// The entry of the checkpoint.
        checkpoint: Index,
        /// Offset of the piece in the checkpoint's file.
        offset: u64,
        bytes: Bytes,
    },
    /// What was asked for is not kept any more: join anew.
    Unavailable,
    /// The receiver is a member (rule J6).
    Admit {
        /// The record that names both.
        record: Record,
        /// The first entry on which both have to agree before its outputs are released.
        from: Index,
    },
    /// The sender has on its disk that it is a member.
    Admitted {
        /// The epoch of the record that names both.
        epoch: Epoch,
    },
    /// The sender has taken a checkpoint (rule K2).
    Checkpoint {
        /// The entry at which it was taken.
        index: Index,
        /// The digest of the state at that entry.
        hash: Digest,
    },
    /// What the sender came to at an entry at which the two differ (rule D6).
    Outline(Outline),
}

impl PeerFrame {
    /// Whether it tells that the sender is there, and is of no use if it comes late.
    pub const fn is_heartbeat(&self) -> bool {
        matches!(self, Self::Ping { .. } | Self::Pong { .. })
    }
}

/// Frames from a CoServer to the witness. The connection says by its key who asks.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum WitnessCall {
    /// First on every connection.
    Hello {
        /// The pair that the asker belongs to.
        pair: PairId,
        /// The asker's place, which its key must bear out.
        place: ReplicaId,
        /// The asker's incarnation.
        incarnation: Incarnation,
        /// Versions of the witness protocol.
        protocol: Versions,
    },
    /// Asks for the present record, and tells the asker's own.
    Query {
        /// The asker's epoch, if it is a member of one.
        known: Option<Record>,
    },
    /// Asks to replace a record.
    CompareAndSwap { request: Request },
    /// Tells the present record to a witness that does not know it: one that has lost its own,
    /// or that the pair turns to (rule W3).
    Enrol { record: Record },
}

/// Frames from the witness.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// The present record. A request is granted if this is the record that it asked for.
    Present { record: Record },
    /// The witness cannot serve this pair at present, or not this asker.
    Refused { reason: WitnessRefusal },
}

/// What a guardian tells the other CoServer: the process that it watched has ended (rule S7). The
/// connection says by its key whose guardian it is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeathNotice {
    /// The pair of the process.
    pub pair: PairId,
    /// The process that has ended.
    pub incarnation: Incarnation,
    /// How it ended.
    pub how: Death,
}

/// How a process ended.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By a signal, of this number.
    Killed { signal: u8 },
    /// By itself, with this exit code.
    Exited { code: u8 },
    /// It is gone, and how was not seen yet.
    Gone,
}

impl core::fmt::Display for Death {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Killed { signal } => write!(f, "killed by signal {signal}"),
            Self::Exited { code } => write!(f, "ended with exit code {code}"),
            Self::Gone => f.write_str("gone"),
        }
    }
}

/// Why the witness gives no record.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The witness has no record of the pair.
    #[error("the witness does not know this pair: enrol it there first")]
    UnknownPair,
    /// The witness was told of a later epoch than its record's, so its record has been lost
    /// or replaced.
    #[error("the witness has an older record than the pair: its directory was restored or wiped")]
    Behind,
    /// The witness has only just started, and grants nothing for a short while.
    #[error("the witness has just started and grants nothing yet")]
    Starting,
    /// The witness's disk failed.
    #[error("the witness cannot write its record")]
    Storage,
    /// The frames came in the wrong order or for another place than the key's.
    #[error("the asker's hello does not match its key, or is missing")]
    NotYou,
    /// The asker and the witness have no version in common.
    #[error("the witness speaks another version of the protocol")]
    Version,
}

/// What a client says. A frame carries several calls, in the order in which they were made.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ClientCall {
    /// First on every connection.
    Hello {
        /// The pair that it means to reach.
        pair: PairId,
        /// Versions of the client protocol.
        protocol: Versions,
    },
    /// Asks for a session.
    Open {
        /// The client's secret nonce, drawn at random.
        token: Nonce,
        /// Whether the client could send this to one CoServer only.
        alone: bool,
    },
    /// Asks the service, exactly once for each number of the session.
    Request {
        session: SessionId,
        /// The nonce with which the session was opened.
        token: Nonce,
        /// The request's number in its session.
        number: RequestNumber,
        /// The lowest number of the session that is still unanswered.
        lowest: RequestNumber,
        /// Whether the client could send this to one CoServer only, or sends it again.
        alone: bool,
        /// The service's input, as the caller gave it.
        body: Bytes,
    },
    /// The session is not needed any more.
    Close {
        session: SessionId,
        /// The nonce with which the session was opened.
        token: Nonce,
    },
    /// Says nothing. A process that is there acknowledges the packet, whatever its service does.
    /// One that has replaced it at the same address resets the connection.
    Probe,
}

/// What a client is told. A frame carries several answers, in order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ClientAnswer {
    /// The CoServer serves: it is a member.
    Welcome {
        /// The CoServer's place.
        place: ReplicaId,
        /// The CoServer's incarnation.
        incarnation: Incarnation,
        /// The epoch in which the CoServer serves.
        epoch: Epoch,
    },
    /// The CoServer does not serve yet. The CoServer keeps the connection, and sends the welcome as
    /// soon as it serves.
    NotYet {
        /// The CoServer's incarnation.
        incarnation: Incarnation,
        reason: ClientRefusal,
    },
    /// The other CoServer is back: it joins, or is a member. The other CoServer can be dialled now.
    PeerBack {
        /// The other CoServer's place.
        place: ReplicaId,
        /// The incarnation that is back; a connection to any other is dead.
        incarnation: Incarnation,
    },
    /// The answer to a request for a session.
    Opened {
        /// The client's nonce.
        token: Nonce,
        /// The session's id, or why none was opened.
        result: Result<SessionId, Refusal>,
    },
    /// The answer to a request.
    Reply {
        session: SessionId,
        /// The request's number.
        number: RequestNumber,
        /// The service's answer, or why the request did not take effect.
        result: Result<Bytes, Refusal>,
    },
    /// The CoServer does not serve this connection; it says so and closes.
    Refused { reason: ClientRefusal },
}

/// Why a CoServer does not serve a client's connection. Whether an unanswered request on it took
/// effect, the other CoServer will say.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientRefusal {
    /// The CoServer has not met the other one yet, or is being brought up to date by it.
    #[error("this CoServer is starting and no member of the pair yet: wait for it")]
    Starting,
    /// The CoServer was removed from the pair, or leaves it.
    #[error("this CoServer is no member of the pair any more: use the other one")]
    Removed,
    /// The CoServer can neither reach the other one nor be told to go on alone.
    #[error("this CoServer holds: it reaches neither its peer nor the witness")]
    Holding,
    /// The client asks for another pair.
    #[error("this CoServer belongs to another pair")]
    WrongPair,
    /// The client and the CoServer have no version in common.
    #[error("this CoServer speaks another version of the client protocol")]
    Version,
    /// The client sent a frame that makes no sense here, or one over a limit.
    #[error("the client sent a frame that is over a limit or out of order")]
    Protocol,
    /// There are more connections, sessions or requests than the limits allow.
    #[error("this CoServer has more connections, sessions or requests than its limits allow")]
    Busy,
}
