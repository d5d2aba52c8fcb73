//! What an entry came to, in outline: enough for two that came to different things to find out
//! where they differ, and never more than a frame takes.
//!
//! Each output has its digest, and its first bytes as far as they fit. So the output is found
//! whatever its size, and the byte where it lies within what fits; where it does not,
//! [`compare`] says so.

#![allow(missing_docs, reason = "rkyv's derives make items that cannot be documented")]

use core::fmt;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{DeviceId, Index, LogTime};
use crate::limits;
use crate::output::{Output, OutputKind};

/// The outline of what executing one entry came to.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The entry that was executed.
    pub index: Index,
    /// The running digest of the outputs before it: where two have the same, it is the first
    /// entry at which they can differ.
    pub before: Digest,
    /// How many outputs there are.
    pub count: u64,
    /// The first of them, at most [`limits::OUTLINE_OUTPUTS`].
    pub outputs: Vec<OutputOutline>,
    /// When the next entry is needed at the latest; `None` if no time is set.
    pub wakeup: Option<LogTime>,
    /// Whether a step panicked.
    pub panicked: bool,
}

/// The outline of one output.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OutputOutline {
    /// The client or device that the output is for.
    pub target: Target,
    /// The digest of all of it.
    pub digest: Digest,
    /// The digest of its bytes alone.
    pub payload: Digest,
    /// How many bytes it has.
    pub len: u64,
    /// The first of them.
    pub head: Bytes,
}

/// The target of an output.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A client: the answer to its request for a session.
    Session,
    /// A client: the service's answer to a request.
    Reply,
    /// A client: why a request, or one for a session, did not take effect.
    Refusal,
    /// The output is for a device.
    Device(DeviceId),
}

impl Target {
    /// Its name in logs; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Reply => "reply",
            Self::Refusal => "refusal",
            Self::Device(_) => "device",
        }
    }

    /// The device, if it is one.
    pub fn device(self) -> Option<DeviceId> {
        match self {
            Self::Device(device) => Some(device),
            Self::Session | Self::Reply | Self::Refusal => None,
        }
    }

    fn of(kind: &OutputKind) -> Self {
        match kind {
            OutputKind::Opened { result: Ok(_), .. } => Self::Session,
            OutputKind::Reply { result: Ok(_), .. } => Self::Reply,
            OutputKind::Opened { .. } | OutputKind::Reply { .. } => Self::Refusal,
            OutputKind::Device { device, .. } => Self::Device(*device),
        }
    }
}

impl Outline {
    /// The outline of an entry's outputs. Their first bytes are copied, so that it keeps nothing
    /// else in memory.
    pub fn new(
        index: Index,
        before: Digest,
        outputs: &[Output],
        wakeup: Option<LogTime>,
        panicked: bool,
    ) -> Self {
        let listed = &outputs[..outputs.len().min(limits::OUTLINE_OUTPUTS)];
        let share = limits::OUTLINE_BYTES / listed.len().max(1);
        let outline = |output: &Output| {
            let bytes = output.payload();
            OutputOutline {
                target: Target::of(&output.kind),
                digest: output.digest(),
                payload: Digest::of(bytes),
                len: bytes.len() as u64,
                head: Bytes::copy_from_slice(&bytes[..bytes.len().min(share)]),
            }
        };
        let count = outputs.len() as u64;
        let outputs = listed.iter().map(outline).collect();
        Self { index, before, count, outputs, wakeup, panicked }
    }
}

/// Where two that executed an entry came to different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The part of the outcome that differs.
    pub what: Differs,
    /// How many outputs there are here, and at the peer.
    pub counts: [u64; 2],
    /// The output that differs, if one does.
    pub output: Option<FoundOutput>,
}

/// The first output that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundOutput {
    /// The output's number among the entry's outputs, from 0.
    pub number: u64,
    /// The output's target here, or at the peer if this side has no such output.
    pub target: Target,
    /// The first byte that differs, if that is known.
    pub byte: Option<u64>,
    /// Length in bytes and digest of the output here, if this side has one.
    pub ours: Option<(u64, Digest)>,
    /// Length in bytes and digest of the output at the peer, if the peer has one.
    pub theirs: Option<(u64, Digest)>,
}

/// The part of an entry's outcome that differs between the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// The service panicked on one side.
    Panic {
        /// Whether the service panicked on this side.
        here: bool,
    },
    /// An output has another target.
    Target,
    /// An output has other bytes.
    Bytes,
    /// An output has more bytes on one side; the first of them are the same.
    Length,
    /// An output differs in bytes after those that could be compared.
    Further {
        /// So many are the same.
        same: u64,
    },
    /// An output has the same bytes, and another step, carrier, client or result.
    Fields,
    /// One side has more outputs.
    More {
        /// Whether this side has more.
        here: bool,
    },
    /// An output after those that could be compared.
    Later {
        /// So many are the same.
        same: u64,
    },
    /// The next wake-up is due at another time.
    Wakeup,
    /// Nothing that is held now: an entry differed, or memory was not what was computed.
    Nothing,
}

impl Differs {
    /// Its name in logs; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic { .. } => "panic",
            Self::Target => "target",
            Self::Bytes => "bytes",
            Self::Length => "length",
            Self::Further { .. } => "further",
            Self::Fields => "fields",
            Self::More { .. } => "more",
            Self::Later { .. } => "later",
            Self::Wakeup => "wakeup",
            Self::Nothing => "nothing",
        }
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let where_it_is = |here| if here { "here" } else { "at the other CoServer" };
        match *self {
            Self::Panic { here } => write!(f, "the service panicked only {}", where_it_is(here)),
            Self::Target => f.write_str("the output is for another device or of another kind"),
            Self::Bytes => f.write_str("the output differs from this byte on"),
            Self::Length => f.write_str("the output is longer on one side"),
            Self::Further { same } => write!(
                f,
                "the output's first {same} bytes are the same: it differs further on, and more is not \
                 compared"
            ),
            Self::Fields => f.write_str(
                "the output's bytes are the same, but its step, carrier, client or result differs",
            ),
            Self::More { here } => {
                write!(f, "there are more outputs {}, this is the first", where_it_is(here))
            }
            Self::Later { same } => write!(
                f,
                "the first {same} outputs are the same: a later one differs, and more are not compared"
            ),
            Self::Wakeup => {
                f.write_str("the outputs are the same, but not the next wake-up's time")
            }
            Self::Nothing => f.write_str(
                "the outputs are the same: entries differ, or the memory of one machine was wrong",
            ),
        }
    }
}

/// The first difference between two that came to different things at an entry. `None` if they have
/// not executed the same up to it, so that this is not the first such entry.
pub fn compare(ours: &Outline, theirs: &Outline) -> Option<Found> {
    if (ours.index, ours.before) != (theirs.index, theirs.before) {
        return None;
    }
    let found = |what| Found { what, counts: [ours.count, theirs.count], output: None };
    if ours.panicked != theirs.panicked {
        return Some(found(Differs::Panic { here: ours.panicked }));
    }
    let listed = ours.outputs.len().min(theirs.outputs.len());
    for (number, (one, other)) in (0..).zip(ours.outputs.iter().zip(&theirs.outputs)) {
        if one.digest != other.digest {
            let (what, byte) = compare_outputs(one, other);
            let output = FoundOutput::new(number, Some(one), Some(other), byte);
            return Some(Found { output, ..found(what) });
        }
    }
    let next = [ours, theirs].map(|outline| outline.outputs.get(listed));
    let ended = listed as u64 == ours.count.min(theirs.count);
    Some(match next {
        [one, other] if ended && one.is_some() != other.is_some() => {
            let output = FoundOutput::new(listed as u64, one, other, None);
            Found { output, ..found(Differs::More { here: one.is_some() }) }
        }
        _ if ended && ours.count != theirs.count => {
            found(Differs::More { here: ours.count > theirs.count })
        }
        _ if !ended => found(Differs::Later { same: listed as u64 }),
        _ if ours.wakeup != theirs.wakeup => found(Differs::Wakeup),
        _ => found(Differs::Nothing),
    })
}

impl FoundOutput {
    fn new(
        number: u64,
        ours: Option<&OutputOutline>,
        theirs: Option<&OutputOutline>,
        byte: Option<u64>,
    ) -> Option<Self> {
        let target = ours.or(theirs)?.target;
        let seen = |output: &OutputOutline| (output.len, output.digest);
        Some(Self { number, target, byte, ours: ours.map(seen), theirs: theirs.map(seen) })
    }
}

/// What differs of two outputs, and from which byte on if that is known.
fn compare_outputs(ours: &OutputOutline, theirs: &OutputOutline) -> (Differs, Option<u64>) {
    if ours.target != theirs.target {
        return (Differs::Target, None);
    }
    if ours.payload == theirs.payload {
        return (Differs::Fields, None);
    }
    let same = ours.head.iter().zip(&theirs.head).take_while(|(one, other)| one == other).count();
    let (same, compared) = (same as u64, ours.head.len().min(theirs.head.len()) as u64);
    if same < compared {
        (Differs::Bytes, Some(same))
    } else if compared == ours.len.min(theirs.len) {
        (Differs::Length, Some(same))
    } else {
        (Differs::Further { same }, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Carrier;

    fn output(device: u16, carrier: Carrier, bytes: impl Into<Bytes>) -> Output {
        let kind = OutputKind::Device { device: DeviceId(device), carrier, bytes: bytes.into() };
        Output { step: 0, ordinal: 0, kind }
    }

    fn outputs(texts: &[&'static str]) -> Vec<Output> {
        texts.iter().map(|text| output(1, Carrier::Both, *text)).collect()
    }

    fn outline(outputs: &[Output]) -> Outline {
        Outline::new(Index(7), Digest::ZERO, outputs, None, false)
    }

    /// What was found, with the output's number and the byte.
    fn found(ours: &Outline, theirs: &Outline) -> (Differs, Option<(u64, Option<u64>)>) {
        let found = compare(ours, theirs).expect("the first entry that differs");
        (found.what, found.output.map(|output| (output.number, output.byte)))
    }

    #[test]
    fn the_first_output_that_differs_and_its_first_byte_are_named() {
        let ours = outline(&outputs(&["one", "two and", "three"]));
        let theirs = outline(&outputs(&["one", "two or", "drei"]));
        assert_eq!(found(&ours, &theirs), (Differs::Bytes, Some((1, Some(4)))));
        let theirs = outline(&outputs(&["one", "two and so on", "three"]));
        assert_eq!(found(&ours, &theirs), (Differs::Length, Some((1, Some(7)))));
        let other = [output(2, Carrier::Both, "one")];
        assert_eq!(found(&ours, &outline(&other)), (Differs::Target, Some((0, None))));
        let other = [output(1, Carrier::Sequencer, "one")];
        assert_eq!(found(&ours, &outline(&other)), (Differs::Fields, Some((0, None))));
    }

    #[test]
    fn what_is_said_of_an_output_is_its_digest_and_no_byte_of_it() {
        let [ours, theirs] = ["secret", "secrets"].map(|text| outline(&outputs(&[text])));
        let found = compare(&ours, &theirs).unwrap();
        let output = found.output.clone().unwrap();
        assert_eq!(output.ours, Some((6, ours.outputs[0].digest)));
        assert_eq!(output.theirs, Some((7, theirs.outputs[0].digest)));
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    }

    #[test]
    fn a_panic_an_output_more_and_another_wake_up_are_told_apart() {
        let ours = outline(&outputs(&["one", "two"]));
        let fewer = outline(&outputs(&["one"]));
        assert_eq!(found(&ours, &fewer), (Differs::More { here: true }, Some((1, None))));
        assert_eq!(found(&fewer, &ours), (Differs::More { here: false }, Some((1, None))));
        let panicked = Outline::new(Index(7), Digest::ZERO, &[], None, true);
        assert_eq!(found(&panicked, &ours), (Differs::Panic { here: true }, None));
        assert_eq!(found(&ours, &panicked), (Differs::Panic { here: false }, None));
        let woken = Outline { wakeup: Some(LogTime(5)), ..ours.clone() };
        assert_eq!(found(&ours, &woken), (Differs::Wakeup, None));
        assert_eq!(found(&ours, &ours), (Differs::Nothing, None));
    }

    #[test]
    fn what_comes_after_an_entry_that_differs_is_not_compared() {
        let ours = outline(&outputs(&["one"]));
        let later = Outline { before: Digest::of(b"another past"), ..ours.clone() };
        assert_eq!(compare(&ours, &later), None);
        assert_eq!(compare(&ours, &Outline { index: Index(8), ..ours.clone() }), None);
    }

    #[test]
    fn an_outline_is_bounded_and_what_it_does_not_show_is_not_claimed() {
        let long = |last: u8| {
            let mut bytes = vec![0; limits::OUTLINE_BYTES + 2];
            bytes[limits::OUTLINE_BYTES + 1] = last;
            outline(&[output(1, Carrier::Both, bytes)])
        };
        let same = limits::OUTLINE_BYTES as u64;
        assert_eq!(found(&long(1), &long(2)), (Differs::Further { same }, Some((0, None))));

        let many = |count: usize, last: &'static str| {
            let mut many = vec![output(1, Carrier::Both, "x"); count - 1];
            many.push(output(1, Carrier::Both, last));
            outline(&many)
        };
        let most = limits::OUTLINE_OUTPUTS;
        let (one, other) = (many(most + 1, "x"), many(most + 1, "y"));
        assert_eq!(one.outputs.len(), most);
        assert_eq!(found(&one, &other), (Differs::Later { same: most as u64 }, None));
        let ended = many(most, "x");
        assert_eq!(found(&one, &ended), (Differs::More { here: true }, None));
        let bytes: usize = one.outputs.iter().map(|output| output.head.len()).sum();
        assert!(bytes <= limits::OUTLINE_BYTES);
    }
}
