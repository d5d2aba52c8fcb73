//! What the witness records: which replicas are the members of an epoch.

use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::ids::{Epoch, Incarnation, Lineage, Nonce, PairId, ReplicaId};

/// The members of an epoch: at each place the incarnation that is one, if any is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The member at place `a`.
    pub a: Option<Incarnation>,
    /// The member at place `b`.
    pub b: Option<Incarnation>,
}

impl Members {
    /// No member: the pair has not been formed yet.
    pub const NONE: Self = Self { a: None, b: None };

    /// The member at this place.
    pub fn at(&self, place: ReplicaId) -> Option<Incarnation> {
        match place {
            ReplicaId::A => self.a,
            ReplicaId::B => self.b,
        }
    }

    /// One replica is the only member.
    pub fn alone(place: ReplicaId, incarnation: Incarnation) -> Self {
        match place {
            ReplicaId::A => Self { a: Some(incarnation), b: None },
            ReplicaId::B => Self { a: None, b: Some(incarnation) },
        }
    }

    /// Both replicas are members.
    pub fn both(a: Incarnation, b: Incarnation) -> Self {
        Self { a: Some(a), b: Some(b) }
    }

    /// Whether exactly this incarnation is the member at this place.
    pub fn has(&self, place: ReplicaId, incarnation: Incarnation) -> bool {
        self.at(place) == Some(incarnation)
    }

    /// Whether both places have a member.
    pub fn is_duplex(&self) -> bool {
        self.a.is_some() && self.b.is_some()
    }
}

/// How a record came about; says who may move to it by itself.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No process is a member: the pair, or a new lineage of it, waits to be formed.
    Vacant,
    /// Two fresh replicas formed the pair.
    Formed,
    /// One member of the previous record goes on alone.
    Alone,
    /// A process that was started anew at a member's place, with everything that the member had
    /// on disk, goes on alone in its place.
    Restarted,
    /// The other place of a sole member has a process again, which is brought up to date behind it.
    /// The joiner acts as a member only once the sole member says so.
    Joined,
    /// The asker left in good order: the other member of the record with this digest, which this
    /// one directly replaces, goes on alone.
    Left(Digest),
    /// An operator had one process begin a lineage, alone, with what its disk held.
    Adopted,
    /// The same two members as in the record with this digest, which this one directly
    /// replaces: sequencer and log are kept, and open requests against it are void.
    Renewal(Digest),
}

impl Origin {
    /// Its number in files and digests, and the record that it names, if it names one.
    pub(crate) fn code(self) -> (u8, Option<Digest>) {
        match self {
            Self::Vacant => (0, None),
            Self::Formed => (1, None),
            Self::Alone => (2, None),
            Self::Renewal(of) => (3, Some(of)),
            Self::Restarted => (4, None),
            Self::Joined => (5, None),
            Self::Left(of) => (6, Some(of)),
            Self::Adopted => (7, None),
        }
    }

    /// Its name in reports; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vacant => "vacant",
            Self::Formed => "formed",
            Self::Alone => "alone",
            Self::Renewal(_) => "renewal",
            Self::Restarted => "restarted",
            Self::Joined => "joined",
            Self::Left(_) => "left",
            Self::Adopted => "adopted",
        }
    }
}

/// One configuration of the pair, as the witness holds it.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The pair that the record is of.
    pub pair: PairId,
    /// The lineage that the record belongs to.
    pub lineage: Lineage,
    /// The record's number; a later record has a higher one.
    pub epoch: Epoch,
    /// The members in this epoch.
    pub members: Members,
    /// The place that asked for the record.
    pub asker: ReplicaId,
    /// The nonce that the asker gave its request.
    pub nonce: Nonce,
    /// Why the record was made.
    pub origin: Origin,
}

impl Record {
    /// The record of a pair that is not formed yet.
    pub fn vacant(pair: PairId, lineage: Lineage, epoch: Epoch) -> Self {
        Self {
            pair,
            lineage,
            epoch,
            members: Members::NONE,
            asker: ReplicaId::A,
            nonce: Nonce(0),
            origin: Origin::Vacant,
        }
    }

    /// Names the record exactly: two records with one digest are one record.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::after(Digest::ZERO);
        hasher.bytes(&self.pair.0).number(self.lineage.0.into()).number(self.epoch.0);
        for place in ReplicaId::BOTH {
            hasher.number(self.members.at(place).map_or(0, |incarnation| incarnation.0));
        }
        hasher.byte(self.asker.slot() as u8).number(self.nonce.0);
        let (code, of) = self.origin.code();
        hasher.byte(code);
        if let Some(of) = of {
            hasher.bytes(&of.0);
        }
        hasher.finish()
    }

    /// Who orders in the epoch that this record begins (rule O8): who asked for it, unless that
    /// one left.
    pub fn sequencer(&self) -> ReplicaId {
        match self.origin {
            Origin::Left(_) => self.asker.other(),
            _ => self.asker,
        }
    }

    /// Whether it was made directly from `from` by the other member's leaving, so that the one
    /// that stays may move to it by itself (rule E7).
    pub fn leaves(&self, from: &Self) -> bool {
        let stays = self.asker.other();
        self.origin == Origin::Left(from.digest())
            && from.members.at(stays).is_some_and(|who| self.members == Members::alone(stays, who))
            && (self.pair, self.lineage) == (from.pair, from.lineage)
            && self.epoch > from.epoch
    }

    /// Whether a member of `from` may move to this record by itself: it is a renewal made
    /// directly from that record (rule E7).
    pub fn renews(&self, from: &Self) -> bool {
        self.origin == Origin::Renewal(from.digest())
            && self.members == from.members
            && (self.pair, self.lineage) == (from.pair, from.lineage)
            && self.epoch > from.epoch
    }
}

/// What a replica asks of the witness: to replace the record that it names by another.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Digest of the record that is to be replaced; it must be the present one.
    pub present: Digest,
    /// The record that is to take its place.
    pub next: Record,
}
