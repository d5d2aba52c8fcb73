//! Which record may replace which (rules E3 to E7).
//!
//! ```text
//! present      next              asked for by
//! vacant       {A,B} formed      either of the two
//! {A,B}        {A} or {B} alone  the one that goes on
//! {A,B}        {A,B} renewal     either of the two
//! {A} or {B}   nothing: bringing a CoServer up to date comes with a later version
//! ```
//!
//! Always the next number, in the same lineage, and only from the record that is present.

use crate::ids::{Epoch, Incarnation, Nonce, PairId, Place};
use crate::record::{Members, Origin, Record, Request};

/// Who asks, as its key and its hello say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its pair, by its key.
    pub pair: PairId,
    /// Its place, by its key.
    pub place: Place,
    /// Its process, by its hello.
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
    deny_unless(Some(next.epoch) == number, Denial::Number)?;
    deny_unless(next.nonce != Nonce(0), Denial::Unmarked)?;
    judge_members(present, asker, next)
}

fn judge_members(present: &Record, asker: Asker, next: &Record) -> Result<(), Denial> {
    let Asker { place, incarnation, .. } = asker;
    deny_unless(incarnation != Incarnation(0), Denial::NotAMember)?;
    let vacant = present.origin == Origin::Vacant && present.members == Members::NONE;
    if !vacant {
        deny_unless(present.members.has(place, incarnation), Denial::NotAMember)?;
    }
    let real = next.members.a != Some(Incarnation(0)) && next.members.b != Some(Incarnation(0));
    let allowed = match next.origin {
        Origin::Vacant => false,
        Origin::Formed => {
            vacant && next.members.is_duplex() && next.members.has(place, incarnation)
        }
        Origin::Alone => {
            present.members.is_duplex() && next.members == Members::alone(place, incarnation)
        }
        Origin::Renewal(_) => present.members.is_duplex() && next.renews(present),
    };
    deny_unless(allowed && real, Denial::Transition)
}

fn deny_unless(holds: bool, denial: Denial) -> Result<(), Denial> {
    if holds { Ok(()) } else { Err(denial) }
}
