//! Which record may replace which (rules E3 to E7).
//!
//! ```text
//! present      next                  asked for by
//! vacant       {A,B} formed          either of the two
//! vacant       {A} or {B} adopted    the one that an operator told to
//! {A,B}        {A} or {B} alone      the one that goes on
//! {A,B}        {A} or {B} left       the other one
//! {A,B}, {A}   the same, renewed     any of them
//! {A,B}, {A}   {A} restarted         a new process at A's place
//! {A}          {A,B} joined          A
//! ```
//!
//! The last two with the places exchanged as well. That a new process has what its predecessor had,
//! and that a joiner is brought up to date, is theirs to see to (rules J1 and J6). Here the key
//! only says that the process is of the same place.
//!
//! Always the next number, in the same lineage, and only from the record that is present.

use crate::ids::{Epoch, Incarnation, Nonce, PairId, ReplicaId};
use crate::record::{Members, Origin, Record, Request};

/// Who asks, as its key and its hello say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The asker's pair, by its key.
    pub pair: PairId,
    /// The asker's place, by its key.
    pub place: ReplicaId,
    /// The asker's process, by its hello.
    pub incarnation: Incarnation,
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Denial {
    /// Another record than the present one was to be replaced.
    #[error("the request replaces a record that is not the present one")]
    Stale,
    /// The new record is of another pair or lineage, or asked for in another's name.
    #[error("the record asked for is of another pair, lineage or asker")]
    Foreign,
    /// The new record's number is not the next one.
    #[error("the record asked for does not have the next number")]
    Number,
    /// A mark of zero tells no request apart from another.
    #[error("the request's mark is zero")]
    Unmarked,
    /// The asker is no member of the present record.
    #[error("the asker is no member of the present record")]
    NotAMember,
    /// The present record cannot become the one asked for.
    #[error("the present record cannot become the one asked for")]
    Transition,
}

/// Whether the request may be granted.
///
/// # Errors
/// Why it may not.
pub fn judge(present: &Record, asker: Asker, request: &Request) -> Result<(), Denial> {
    let Request { present: named, next } = request;
    deny_unless(*named == present.digest(), Denial::Stale)?;
    let ours = next.pair == present.pair && next.lineage == present.lineage;
    deny_unless(ours && next.asker == asker.place, Denial::Foreign)?;
    let number = present.epoch.0.checked_add(1).map(Epoch);
    let follows = match next.origin {
        // The disk that is adopted may know of later epochs than this witness does (rule J8).
        Origin::Adopted => number.is_some_and(|number| next.epoch >= number),
        _ => Some(next.epoch) == number,
    };
    deny_unless(follows, Denial::Number)?;
    deny_unless(next.nonce != Nonce(0), Denial::Unmarked)?;
    judge_members(present, asker, next)
}

fn judge_members(present: &Record, asker: Asker, next: &Record) -> Result<(), Denial> {
    let Asker { place, incarnation, .. } = asker;
    deny_unless(incarnation != Incarnation(0), Denial::NotAMember)?;
    let vacant = present.origin == Origin::Vacant && present.members == Members::NONE;
    let member = present.members.has(place, incarnation);
    let successor = !member && present.members.at(place).is_some();
    let may_ask = match next.origin {
        Origin::Restarted => successor,
        _ => vacant || member,
    };
    deny_unless(may_ask, Denial::NotAMember)?;
    let Members { a, b } = next.members;
    let real = a != Some(Incarnation(0)) && b != Some(Incarnation(0)) && a != b;
    let duplex = present.members.is_duplex();
    let alone = next.members == Members::alone(place, incarnation);
    let both = next.members.is_duplex() && next.members.has(place, incarnation);
    let allowed = match next.origin {
        Origin::Vacant => false,
        Origin::Formed => vacant && both,
        Origin::Adopted => vacant && alone,
        Origin::Alone => duplex && alone,
        Origin::Restarted => alone,
        Origin::Joined => !vacant && !duplex && both,
        Origin::Left(_) => next.leaves(present),
        Origin::Renewal(_) => !vacant && next.renews(present),
    };
    deny_unless(allowed && real, Denial::Transition)
}

fn deny_unless(holds: bool, denial: Denial) -> Result<(), Denial> {
    if holds { Ok(()) } else { Err(denial) }
}
