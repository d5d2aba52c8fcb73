//! The first thing in which two runs of a service differ.

use core::fmt;

use bytes::Bytes;

use super::second::Condition;
use crate::entry::{Entry, EntryKind, InputKind};
use crate::ids::{Index, LogTime};
use crate::output::{Executed, Output, OutputKind};

/// Bytes shown around the first one that differs.
const SHOWN: usize = 24;

/// A service did not do the same in two runs over the same inputs: on a pair, its replicas
/// would diverge. Or it panicked, or could not be restored.
#[derive(Debug)]
pub struct Difference {
    /// The run that differs from the one that went straight through.
    pub run: Run,
    /// The entry after which the state was last restored; `None` in a run without a restore.
    pub restored: Option<Index>,
    /// The entry that was being executed, or was executed last.
    pub input: Option<Box<Entry>>,
    /// The first thing that differs.
    pub what: Box<Mismatch>,
}

/// How a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// From the first entry to the last on one thread.
    Straight,
    /// On other threads, cut into batches.
    Batches,
    /// The same, with a view taken after each batch and written out after the next.
    Views,
    /// The same, with the state frozen and restored into a fresh instance after each batch.
    Restores,
    /// From the first entry to the last, in a second process of the test.
    SecondProcess {
        /// The difference is there also where nothing but this is another: what to look for.
        only: Option<Condition>,
    },
}

/// A place in a frozen state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which of the service's records, from 0; none for the engine's own part of the state.
    pub record: Option<usize>,
    /// The first byte in it that differs; its length if one record is the other's beginning.
    pub byte: usize,
}

/// What differs between two runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Mismatch {
    /// An output. The first that differs.
    Output {
        /// What the straight run made, if it did.
        straight: Option<Output>,
        /// What the other run made, if it did.
        other: Option<Output>,
        /// The first byte that differs, where both are the same but for their bytes.
        byte: Option<usize>,
    },
    /// When the service wants to be woken next, or the first session ends.
    Wakeup {
        /// In the straight run.
        straight: Option<LogTime>,
        /// In the other.
        other: Option<LogTime>,
    },
    /// A step panicked in one run, or in both: then the pair would hold.
    Panic {
        /// The message in the straight run.
        straight: Option<String>,
        /// In the other.
        other: Option<String>,
    },
    /// The states after the last entry.
    FinalState(Spot),
    /// A state that was frozen, restored and frozen again.
    Restored(Spot),
    /// A frozen view, written at once and written after the service had gone on.
    View(Spot),
    /// A view could not be taken or written.
    Freeze(String),
    /// A state could not be restored.
    Restore(String),
    /// The second process of the test did not come to the check, or not to its end.
    Process(String),
}

impl core::error::Error for Difference {}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.input {
            Some(entry) => write!(f, "entry {} ({})", entry.index, Described(&entry.kind))?,
            None => f.write_str("before the first entry")?,
        }
        match (self.run, self.restored) {
            (Run::Straight, _) => f.write_str(", in a straight run: ")?,
            (Run::Batches, _) => f.write_str(", run on other threads: ")?,
            (Run::Views, _) => f.write_str(", with views taken on the way: ")?,
            (Run::SecondProcess { only: Some(only) }, _) => {
                write!(f, ", in a second process, which differs by {only}: ")?;
            }
            (Run::SecondProcess { only: None }, _) => f.write_str(
                ", in a second process, with another clock, time zone, locale, environment, \
                 working directory, hash seeds and addresses: ",
            )?,
            (Run::Restores, None) => f.write_str(", before any restore: ")?,
            (Run::Restores, Some(at)) => write!(f, ", state restored after entry {at}: ")?,
        }
        self.what.fmt(f)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { straight, other, byte } => {
                if let Some(output) = straight.as_ref().or(other.as_ref()) {
                    write!(f, "output {} of step {} differs", output.ordinal, output.step)?;
                }
                if let Some(byte) = byte {
                    write!(f, " at byte {byte}")?;
                }
                write!(f, ": {}", Made(straight.as_ref(), *byte))?;
                write!(f, " in the straight run, {} in this one", Made(other.as_ref(), *byte))
            }
            Self::Wakeup { straight, other } => write!(
                f,
                "the next wake-up differs: {} in the straight run, {} in this one",
                At(*straight),
                At(*other)
            ),
            Self::Panic { straight: Some(message), other: Some(_) } => {
                write!(f, "the service panics in every run, so the pair would hold: {message}")
            }
            Self::Panic { straight, other } => {
                let only = if straight.is_some() { "the straight run" } else { "this run" };
                let message = straight.as_ref().or(other.as_ref()).map_or("", String::as_str);
                write!(f, "the service panics in {only} only: {message}")
            }
            Self::FinalState(spot) => {
                write!(f, "the outputs are the same so far, but the final states differ in {spot}")
            }
            Self::Restored(spot) => write!(
                f,
                "a state that was restored and frozen again differs from itself in {spot}: is \
                 something frozen and not restored, or written in no fixed order?"
            ),
            Self::View(spot) => write!(
                f,
                "a frozen view changed in {spot} while the service went on: what does it share \
                 with the live state?"
            ),
            Self::Freeze(why) => write!(f, "the state could not be frozen: {why}"),
            Self::Process(why) => write!(
                f,
                "it has to do the same up to the end of this check, whatever its clock, \
                 environment and working directory (else: `Check::in_one_process`), but {why}"
            ),
            Self::Restore(why) => write!(f, "the state could not be restored: {why}"),
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            Some(record) => write!(f, "byte {} of the service's record {record}", self.byte),
            None => write!(f, "byte {} of the engine's own part", self.byte),
        }
    }
}

/// An entry's content in a few words.
struct Described<'a>(&'a EntryKind);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EntryKind::Inputs(inputs) => match &**inputs {
                [input] => DescribedInput(input).fmt(f),
                inputs => write!(f, "{} inputs together", inputs.len()),
            },
            EntryKind::Tick => f.write_str("time passes"),
            EntryKind::Witness { .. } => f.write_str("the pair is enrolled with a witness"),
            EntryKind::Checkpoint => f.write_str("a checkpoint is taken"),
            EntryKind::Genesis { .. } => f.write_str("the start"),
            EntryKind::Membership { .. } => f.write_str("the members change"),
            EntryKind::Resume { .. } => f.write_str("all end, one is started again"),
            EntryKind::Ready => f.write_str("the devices stand"),
            EntryKind::Gap => f.write_str("nothing was ordered for a while"),
            EntryKind::HandOver { to } => write!(f, "the sequencer role goes to {to}"),
        }
    }
}

/// An input in a few words.
struct DescribedInput<'a>(&'a InputKind);

impl fmt::Display for DescribedInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            InputKind::SessionRequest { session, number, body, .. } => {
                write!(f, "request {number} of session {session}: {}", Excerpt(body, 0))
            }
            InputKind::SessionRefused { session, number, .. } => {
                write!(f, "request {number} of session {session} is refused: its key may only read")
            }
            InputKind::Device { device, bytes } => {
                write!(f, "event of device {device}: {}", Excerpt(bytes, 0))
            }
            InputKind::SessionOpen { .. } | InputKind::SessionOpenFor { .. } => {
                f.write_str("a session is opened")
            }
            InputKind::SessionClose { session, .. } => write!(f, "session {session} is closed"),
        }
    }
}

/// An output, or none.
struct Made<'a>(Option<&'a Output>, Option<usize>);

impl fmt::Display for Made<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let near = self.1.unwrap_or(0);
        match self.0.map(|output| &output.kind) {
            None => f.write_str("nothing"),
            Some(OutputKind::Opened { result, .. }) => write!(f, "opened {result:?}"),
            Some(OutputKind::Reply { result: Err(refusal), .. }) => {
                write!(f, "refusal `{refusal}`")
            }
            Some(OutputKind::Reply { result: Ok(bytes), .. }) => {
                write!(f, "reply {}", Excerpt(bytes, near))
            }
            Some(OutputKind::Device { device, carrier, bytes }) => {
                write!(f, "for device {device} ({carrier:?}) {}", Excerpt(bytes, near))
            }
        }
    }
}

struct At(Option<LogTime>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "at {at} ns"),
            None => f.write_str("never"),
        }
    }
}

/// Some bytes from shortly before a position on.
struct Excerpt<'a>(&'a [u8], usize);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.1.saturating_sub(SHOWN / 3).min(self.0.len());
        let to = self.0.len().min(from + SHOWN);
        let before = if from > 0 { ".." } else { "" };
        let after = if to < self.0.len() { ".." } else { "" };
        write!(f, "\"{before}{}{after}\"", self.0[from..to].escape_ascii())
    }
}

/// Compares what an entry came to in two runs.
pub(super) fn compare(straight: &Executed, other: &Executed) -> Option<Mismatch> {
    if straight.panic.is_some() || other.panic.is_some() {
        let (straight, other) = (straight.panic.clone(), other.panic.clone());
        return Some(Mismatch::Panic { straight, other });
    }
    if straight.outputs != other.outputs {
        return first_output(&straight.outputs, &other.outputs);
    }
    (straight.wakeup != other.wakeup)
        .then_some(Mismatch::Wakeup { straight: straight.wakeup, other: other.wakeup })
}

fn first_output(straight: &[Output], other: &[Output]) -> Option<Mismatch> {
    let most = straight.len().max(other.len());
    let at = (0..most).find(|&at| straight.get(at) != other.get(at))?;
    let (straight, other) = (straight.get(at).cloned(), other.get(at).cloned());
    let bytes = |output: &Option<Output>| output.as_ref().and_then(payload);
    let byte = match (bytes(&straight), bytes(&other)) {
        (Some(ours), Some(theirs)) if ours != theirs => Some(first_byte(&ours, &theirs)),
        _ => None,
    };
    Some(Mismatch::Output { straight, other, byte })
}

fn payload(output: &Output) -> Option<Bytes> {
    match &output.kind {
        OutputKind::Reply { result, .. } => result.clone().ok(),
        OutputKind::Device { bytes, .. } => Some(bytes.clone()),
        OutputKind::Opened { .. } => None,
    }
}

/// Where two byte strings part.
pub(super) fn first_byte(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
