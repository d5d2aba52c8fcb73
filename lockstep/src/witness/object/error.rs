//! What can be wrong with the objects of a pair.

use crate::ids::PairId;
use crate::wire::frames::WitnessRefusal;

/// The store gives no answer, or one that cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The store cannot be reached, takes too long, or contradicts itself. It is asked again.
    #[error("the store is not reached: see the network, the credentials and the store itself")]
    Unreached,
    /// The pair has no objects.
    #[error(
        "pair {pair} has no record in the store: enrol it there. If it was enrolled before, the \
         store was wiped: enrol it again while its CoServers run, then begin a new lineage"
    )]
    Unenrolled {
        /// The pair without a record.
        pair: PairId,
    },
    /// An object was there a moment ago.
    #[error(
        "object {number} of pair {pair} has vanished or changed: nothing in the store may be \
         deleted, replaced or set back; see who does that, and put it back"
    )]
    Vanished {
        /// The pair that the object belongs to.
        pair: PairId,
        /// The object's number.
        number: u64,
    },
    /// Later objects are there.
    #[error(
        "object {number} of pair {pair} is missing, and later ones are there: somebody deleted \
         it; put it back, or move the pair's objects away, enrol it again while its CoServers \
         run, then begin a new lineage"
    )]
    Gap {
        /// The pair whose objects have a gap.
        pair: PairId,
        /// The lowest number that is missing.
        number: u64,
    },
    /// An object is not what was written.
    #[error(
        "object {number} of pair {pair} is damaged ({why}): move the pair's objects away, enrol \
         it again while its CoServers run, then begin a new lineage"
    )]
    Damaged {
        /// The pair that the object belongs to.
        pair: PairId,
        /// The object's number.
        number: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An object is another pair's.
    #[error(
        "object {number} of pair {pair} is a record of pair {found}: somebody copied it there; \
         move the pair's objects away and see where they belong"
    )]
    Foreign {
        /// The pair under whose name the object lies.
        pair: PairId,
        /// The object's number.
        number: u64,
        /// The pair that the object's record names.
        found: PairId,
    },
    /// An object is of another version.
    #[error(
        "object {number} of pair {pair} is of format version {version}, which this program does \
         not know: run the version that wrote it, on both CoServers"
    )]
    Version {
        /// The pair that the object belongs to.
        pair: PairId,
        /// The object's number.
        number: u64,
        /// The format version that the object names.
        version: u16,
    },
    /// There are more objects than a pair makes in its life.
    #[error("pair {pair} has too many objects: make a configuration with a new pair id")]
    TooMany {
        /// The pair with too many objects.
        pair: PairId,
    },
    /// The pair has a record already.
    #[error(
        "pair {pair} is enrolled already; if both its CoServers have lost their state, begin a \
         new lineage"
    )]
    Enrolled {
        /// The pair that has a record already.
        pair: PairId,
    },
    /// Another CoServer wrote a record at the same time.
    #[error("a CoServer of pair {pair} wrote a record meanwhile: stop both, then try again")]
    Raced {
        /// The pair whose record was written.
        pair: PairId,
    },
}

impl ObjectError {
    /// What an asker is told; `None` if it is as if there were no witness at present.
    pub fn refusal(&self) -> Option<WitnessRefusal> {
        match self {
            Self::Unreached => None,
            Self::Unenrolled { .. } => Some(WitnessRefusal::UnknownPair),
            _ => Some(WitnessRefusal::Storage),
        }
    }
}
