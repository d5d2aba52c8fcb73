//! The last rung: whether a frame that can be read keeps to the limits.
//!
//! Only what a frame alone can show is checked here. Whether it fits the epoch, the log or the
//! session is the cores' business.

use crate::entry::{Entry, EntryKind, InputKind};
use crate::ids::{Incarnation, Index, Nonce, OriginNumber, RequestNumber, SessionId};
use crate::limits;
use crate::outline::Outline;
use crate::record::{Members, Origin, Record};
use crate::wire::error::FrameError;
use crate::wire::frames::{
    ClientAnswer, ClientCall, DeathNotice, Environment, Forward, Hello, PeerFrame, Versions,
    WitnessAnswer, WitnessCall,
};
use crate::wire::header::Kind;

type Checks = Result<(), FrameError>;

/// A kind of frame, and what must hold of each.
pub(super) trait Checked {
    const KIND: Kind;

    fn check(&self) -> Checks;

    /// About how many bytes its archive takes; a little too much is better than too little.
    fn size_hint(&self) -> usize {
        512
    }
}

/// What shares a frame with its like: what a client says, and what it is told.
pub(crate) trait Packed {
    const KIND: Kind;

    /// Bytes of its payload.
    fn payload_len(&self) -> usize;

    fn check(&self) -> Checks;
}

impl Checked for PeerFrame {
    const KIND: Kind = Kind::Peer;

    fn check(&self) -> Checks {
        match self {
            Self::Hello(hello) => check_hello(hello),
            Self::Refuse { reason } | Self::Leave { reason, .. } => {
                within("a reason", reason.len(), limits::REASON_BYTES)
            }
            Self::Ping { .. } | Self::Pong { .. } => Ok(()),
            Self::Batch { entries, forwards, .. } => {
                check_entries(entries)?;
                check_forwards(forwards)
            }
            Self::Epoch { record } => check_record(record),
            Self::Asked { request } => check_record(&request.next),
            Self::Digests { from, outputs, .. } => {
                within("a list of digests", outputs.len(), limits::DIGESTS)?;
                that(from.0 > 0, "digests from before the first entry")
            }
            Self::Join { points, .. } => within("a list of points", points.len(), limits::POINTS),
            Self::Offer { record, from, checkpoint, .. } => {
                check_record(record)?;
                let same = checkpoint.is_none_or(|file| file.index == from.index);
                that(same, "an offer begins elsewhere than its checkpoint")
            }
            Self::Entries { after, entries, .. } => {
                check_entries(entries)?;
                let expected = (1..).map(|step| after.0.checked_add(step));
                let follow = entries.iter().zip(expected).all(|(e, at)| Some(e.index.0) == at);
                that(follow, "entries that do not follow one another")
            }
            Self::Chunk { bytes, .. } => {
                within("a piece of a checkpoint", bytes.len(), limits::CHUNK_BYTES)
            }
            Self::Admit { record, .. } => check_record(record),
            Self::Outline(outline) => check_outline(outline),
            Self::Fetch(_)
            | Self::Unavailable
            | Self::Admitted { .. }
            | Self::Checkpoint { .. } => Ok(()),
        }
    }

    fn size_hint(&self) -> usize {
        match self {
            Self::Batch { entries, forwards, .. } => {
                let entries: usize = entries.iter().map(Entry::weight).sum();
                let forwards: usize = forwards.iter().map(|f| f.kind.payload_len() + 128).sum();
                512 + entries + forwards
            }
            Self::Digests { outputs, .. } => 512 + 16 * outputs.len(),
            Self::Join { points, .. } => 512 + 24 * points.len(),
            Self::Entries { entries, .. } => 512 + entries.iter().map(Entry::weight).sum::<usize>(),
            Self::Chunk { bytes, .. } => 512 + bytes.len(),
            Self::Outline(outline) => {
                512 + outline.outputs.iter().map(|output| 80 + output.head.len()).sum::<usize>()
            }
            _ => 512 + limits::REASON_BYTES,
        }
    }
}

impl Checked for WitnessCall {
    const KIND: Kind = Kind::WitnessCall;

    fn check(&self) -> Checks {
        match self {
            Self::Hello { incarnation, protocol, .. } => {
                check_incarnation(*incarnation)?;
                check_versions(*protocol)
            }
            Self::Query { known } => known.as_ref().map_or(Ok(()), check_record),
            Self::CompareAndSwap { request } => check_record(&request.next),
            Self::Enrol { record } => {
                that(record.members != Members::NONE, "a pair without members is enrolled")?;
                check_record(record)
            }
        }
    }
}

impl Checked for WitnessAnswer {
    const KIND: Kind = Kind::WitnessAnswer;

    fn check(&self) -> Checks {
        match self {
            Self::Present { record } => check_record(record),
            Self::Refused { .. } => Ok(()),
        }
    }
}

impl Checked for DeathNotice {
    const KIND: Kind = Kind::DeathNotice;

    fn check(&self) -> Checks {
        check_incarnation(self.incarnation)
    }
}

impl<T: Packed> Checked for Vec<T> {
    const KIND: Kind = T::KIND;

    fn check(&self) -> Checks {
        that(!self.is_empty(), "a frame says nothing")?;
        within("what shares a frame", self.len(), limits::PACK)?;
        let payload = self.iter().map(T::payload_len).sum();
        // Small, so that nobody behind it waits for long.
        that(limits::may_share(self.len(), payload), "what shares a frame is bulk")?;
        self.iter().try_for_each(T::check)
    }

    fn size_hint(&self) -> usize {
        self.iter().map(|item| 128 + item.payload_len()).sum()
    }
}

impl Packed for ClientCall {
    const KIND: Kind = Kind::ClientCall;

    fn payload_len(&self) -> usize {
        match self {
            Self::Request { body, .. } => body.len(),
            _ => 0,
        }
    }

    fn check(&self) -> Checks {
        match self {
            Self::Hello { protocol, .. } => check_versions(*protocol),
            Self::Open { token, .. } => check_token(*token),
            Self::Request { session, token, number, lowest, body, .. } => {
                check_request(*session, *token, *number, *lowest, body.len())
            }
            Self::Close { session, token } => check_session(*session, *token),
            Self::Probe => Ok(()),
        }
    }
}

impl Packed for ClientAnswer {
    const KIND: Kind = Kind::ClientAnswer;

    fn payload_len(&self) -> usize {
        match self {
            Self::Reply { result: Ok(bytes), .. } => bytes.len(),
            _ => 0,
        }
    }

    fn check(&self) -> Checks {
        match self {
            Self::Welcome { incarnation, .. }
            | Self::NotYet { incarnation, .. }
            | Self::PeerBack { incarnation, .. } => check_incarnation(*incarnation),
            Self::Refused { .. } => Ok(()),
            Self::Opened { token, .. } => check_token(*token),
            Self::Reply { number, result, .. } => {
                that(number.0 > 0, "a request number is zero")?;
                let len = result.as_ref().map_or(0, bytes::Bytes::len);
                within("a reply", len, limits::REPLY_BYTES)
            }
        }
    }
}

fn check_hello(hello: &Hello) -> Checks {
    check_incarnation(hello.incarnation)?;
    let Environment { service, protocol, .. } = &hello.environment;
    within("a service's name", service.len(), limits::NAME_BYTES)?;
    check_versions(*protocol)?;
    hello.record.as_ref().map_or(Ok(()), check_record)
}

fn check_versions(versions: Versions) -> Checks {
    that(versions.oldest <= versions.newest, "the oldest version is newer than the newest")
}

/// What any record says about itself: who can be a member of an epoch that came about this way.
fn check_record(record: &Record) -> Checks {
    let members = [record.members.a, record.members.b];
    let present = members.iter().flatten().count();
    that(members.iter().flatten().all(|member| member.0 != 0), "a member's incarnation is zero")?;
    that(present < 2 || members[0] != members[1], "a process is a member at both places")?;
    let expected = match record.origin {
        Origin::Vacant => 0,
        Origin::Alone | Origin::Restarted | Origin::Left(_) | Origin::Adopted => 1,
        Origin::Renewal(_) => present.max(1),
        Origin::Formed | Origin::Joined => 2,
    };
    that(present == expected, "a record has more or fewer members than its origin allows")
}

fn check_outline(outline: &Outline) -> Checks {
    let Outline { index, count, outputs, .. } = outline;
    that(index.0 > 0, "an outline from before the first entry")?;
    within("an outline's outputs", outputs.len(), limits::OUTLINE_OUTPUTS)?;
    let heads = outputs.iter().map(|output| output.head.len()).sum();
    within("an outline's bytes", heads, limits::OUTLINE_BYTES)?;
    that(outputs.len() as u64 <= *count, "an outline of more outputs than there are")?;
    let fits = outputs.iter().all(|output| output.head.len() as u64 <= output.len);
    that(fits, "an outline of more bytes than an output has")
}

fn check_entries(entries: &[Entry]) -> Checks {
    within("a batch of entries", entries.len(), limits::BATCH_ENTRIES)?;
    let mut last = Index(0);
    for entry in entries {
        that(entry.index > last, "entries out of order")?;
        last = entry.index;
        check_entry(entry)?;
    }
    Ok(())
}

/// What holds of every entry, on a connection and on disk.
pub(crate) fn check_entry(entry: &Entry) -> Checks {
    check_incarnation(entry.origin.incarnation)?;
    check_kind(&entry.kind)
}

fn check_forwards(forwards: &[Forward]) -> Checks {
    within("a batch of inputs", forwards.len(), limits::BATCH_ENTRIES)?;
    let mut last = OriginNumber(0);
    for forward in forwards {
        that(forward.number > last, "inputs out of order")?;
        last = forward.number;
        check_input(&forward.kind)?;
    }
    Ok(())
}

fn check_kind(kind: &EntryKind) -> Checks {
    match kind {
        EntryKind::Genesis { .. }
        | EntryKind::HandOver { .. }
        | EntryKind::Tick
        | EntryKind::Checkpoint
        | EntryKind::Ready
        | EntryKind::Gap => Ok(()),
        EntryKind::Witness { slot, record } => {
            that(*slot < 2, "there is no such witness")?;
            check_record(record)
        }
        EntryKind::Membership { record } | EntryKind::Resume { record } => check_record(record),
        EntryKind::Inputs(inputs) => {
            that(!inputs.is_empty(), "an entry of inputs has none")?;
            within("an entry's inputs", inputs.len(), limits::ENTRY_INPUTS)?;
            let small = limits::may_share(inputs.len(), inputs.payload_len());
            that(small, "an entry of several inputs is bulk")?;
            inputs.iter().try_for_each(check_input)
        }
    }
}

fn check_input(input: &InputKind) -> Checks {
    match input {
        InputKind::Device { bytes, .. } => {
            within("a device's input", bytes.len(), limits::INPUT_BYTES)
        }
        InputKind::SessionOpen { token } | InputKind::SessionOpenFor { token, .. } => {
            check_token(*token)
        }
        InputKind::SessionRequest { session, token, number, lowest, body } => {
            check_request(*session, *token, *number, *lowest, body.len())
        }
        InputKind::SessionRefused { session, token, number, lowest } => {
            check_request(*session, *token, *number, *lowest, 0)
        }
        InputKind::SessionClose { session, token } => check_session(*session, *token),
    }
}

fn check_request(
    session: SessionId,
    token: Nonce,
    number: RequestNumber,
    lowest: RequestNumber,
    len: usize,
) -> Checks {
    check_session(session, token)?;
    that(number.0 > 0, "a request number is zero")?;
    that(lowest <= number, "a request below the lowest that its client wants answered")?;
    within("a request", len, limits::INPUT_BYTES)
}

fn check_session(session: SessionId, token: Nonce) -> Checks {
    that(session.0 > 0, "a session's id is zero")?;
    check_token(token)
}

fn check_incarnation(incarnation: Incarnation) -> Checks {
    that(incarnation.0 != 0, "an incarnation is zero")
}

fn check_token(token: Nonce) -> Checks {
    that(token.0 != 0, "a session's mark is zero")
}

fn within(what: &'static str, len: usize, limit: usize) -> Checks {
    if len > limit { Err(FrameError::Limit { what, len, limit }) } else { Ok(()) }
}

fn that(holds: bool, what: &'static str) -> Checks {
    if holds { Ok(()) } else { Err(FrameError::Contradiction { what }) }
}
