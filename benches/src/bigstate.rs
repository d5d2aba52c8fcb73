//! A service with a large state, kept in one of two ways. It shows what a checkpoint or a rejoin of
//! so much costs, and what the way of keeping it has to do with that.
//!
//! Both ways do and write exactly the same, so a state that one wrote the other can restore. They
//! differ in what a view of the state costs ([`StateMachine::freeze`]): a pointer with
//! [`Keeping::Shared`], a copy of everything with [`Keeping::Copied`].

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes};
use imbl::OrdMap;
use lockstep::client::session::Session;
use lockstep::digest::Digest;
use lockstep::limits::RECORD_BYTES;
use lockstep::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::realpair::AnyError;

/// Bytes of a value that [`Request::Fill`] makes. A page, as of a database.
pub const FILL_BYTES: usize = 4 << 10;

/// Most MiB of one [`Request::Fill`]: a longer step would hold up heartbeats.
pub const FILL_MIB: u32 = 64;

/// Most bytes of a value.
pub const VALUE_BYTES: usize = 64 << 10;

/// Most bytes of all values together. At one more, `put` and `fill` are refused.
pub const STATE_BYTES: u64 = 16 << 30;

/// Bytes of a record of the frozen state, about; see [`VALUE_BYTES`].
const CHUNK_BYTES: usize = 256 << 10;

const _: () = assert!(CHUNK_BYTES + VALUE_BYTES + 64 < RECORD_BYTES);

const VERSION: u8 = 1;

/// How the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In a persistent map: a view shares everything with it that does not change afterwards.
    Shared,
    /// In a map of the standard library, copied whole for each view.
    Copied,
}

impl FromStr for Keeping {
    type Err = UnknownKeeping;

    fn from_str(text: &str) -> Result<Self, UnknownKeeping> {
        match text {
            "shared" => Ok(Self::Shared),
            "copied" => Ok(Self::Copied),
            _ => Err(UnknownKeeping(text.into())),
        }
    }
}

/// The text names no way of keeping a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way of keeping a state: write `shared` or `copied`")]
pub struct UnknownKeeping(String);

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Fills the state with this many MiB more, in values of [`FILL_BYTES`] that no compression
    /// makes smaller, under the keys after the last one that was filled.
    Fill(u32),
    /// This value under this key.
    Put(u64, Bytes),
    /// The value under this key.
    Get(u64),
    /// How much there is.
    Size,
}

/// Size of each fill: a longer step would hold up heartbeats.
const STEP_MIB: u32 = 8;

/// Gives the state so many MiB. Returns how many keys these are.
///
/// # Errors
/// If the pair does not answer.
pub async fn fill(session: &Session, mib: u32) -> Result<u64, AnyError> {
    let mut left = mib;
    while left > 0 {
        let step = left.min(STEP_MIB);
        session.request(Request::Fill(step).encode()).await?;
        left -= step;
    }
    Ok((u64::from(mib) << 20) / FILL_BYTES as u64)
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or how much there is: values, and bytes of all of them.
    Size(u64, u64),
    /// The value, if there is one.
    Value(Option<Bytes>),
    /// The request was not done: it is none, or over a bound.
    Refused,
}

impl Request {
    /// The request's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Fill(mib) => {
                out.put_u8(0);
                out.put_u32_le(*mib);
            }
            Self::Put(key, value) => {
                out.put_u8(1);
                out.put_u64_le(*key);
                out.put_slice(value);
            }
            Self::Get(key) => {
                out.put_u8(2);
                out.put_u64_le(*key);
            }
            Self::Size => out.put_u8(3),
        }
        out.into()
    }

    fn decode(mut body: &[u8]) -> Option<Self> {
        let request = match body.try_get_u8().ok()? {
            0 => Self::Fill(body.try_get_u32_le().ok()?),
            1 => {
                let key = body.try_get_u64_le().ok()?;
                return Some(Self::Put(key, Bytes::copy_from_slice(body)));
            }
            2 => Self::Get(body.try_get_u64_le().ok()?),
            3 => Self::Size,
            _ => return None,
        };
        body.is_empty().then_some(request)
    }
}

impl Answer {
    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Size(values, bytes) => {
                out.put_u8(0);
                out.put_u64_le(*values);
                out.put_u64_le(*bytes);
            }
            Self::Value(None) => out.put_u8(1),
            Self::Value(Some(value)) => {
                out.put_u8(2);
                out.put_slice(value);
            }
            Self::Refused => out.put_u8(3),
        }
        out.into()
    }

    /// Reads an answer; `None` if it is none.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            0 if bytes.len() == 16 => Some(Self::Size(bytes.get_u64_le(), bytes.get_u64_le())),
            1 if bytes.is_empty() => Some(Self::Value(None)),
            2 => Some(Self::Value(Some(Bytes::copy_from_slice(bytes)))),
            3 if bytes.is_empty() => Some(Self::Refused),
            _ => None,
        }
    }
}

/// Values by key, kept in one way or the other.
#[derive(Clone, Debug)]
enum Values {
    Shared(OrdMap<u64, Bytes>),
    Copied(BTreeMap<u64, Vec<u8>>),
}

impl Values {
    fn new(keeping: Keeping) -> Self {
        match keeping {
            Keeping::Shared => Self::Shared(OrdMap::new()),
            Keeping::Copied => Self::Copied(BTreeMap::new()),
        }
    }

    fn keeping(&self) -> Keeping {
        match self {
            Self::Shared(_) => Keeping::Shared,
            Self::Copied(_) => Keeping::Copied,
        }
    }

    /// Bytes of the value that was there before.
    fn insert(&mut self, key: u64, value: Vec<u8>) -> usize {
        match self {
            Self::Shared(map) => map.insert(key, value.into()).map_or(0, |old| old.len()),
            Self::Copied(map) => map.insert(key, value).map_or(0, |old| old.len()),
        }
    }

    fn get(&self, key: u64) -> Option<&[u8]> {
        match self {
            Self::Shared(map) => map.get(&key).map(|value| &value[..]),
            Self::Copied(map) => map.get(&key).map(|value| &value[..]),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Shared(map) => map.len() as u64,
            Self::Copied(map) => map.len() as u64,
        }
    }

    fn try_for_each<E>(&self, mut act: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Shared(map) => map.iter().try_for_each(|(key, value)| act(*key, value)),
            Self::Copied(map) => map.iter().try_for_each(|(key, value)| act(*key, value)),
        }
    }
}

/// The service; its view is a copy of itself, cheap or dear.
#[derive(Clone, Debug)]
pub struct BigState {
    values: Values,
    /// Bytes of all values.
    bytes: u64,
    /// The next key to be filled.
    next: u64,
}

impl BigState {
    /// Without any value.
    pub fn new(keeping: Keeping) -> Self {
        Self { values: Values::new(keeping), bytes: 0, next: 0 }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Fill(mib) if mib <= FILL_MIB => self.fill(mib),
            Request::Put(key, value) if value.len() <= VALUE_BYTES => self.put(key, value.into()),
            Request::Get(key) => Answer::Value(self.values.get(key).map(Bytes::copy_from_slice)),
            Request::Size => self.size(),
            Request::Fill(_) | Request::Put(..) => Answer::Refused,
        }
    }

    fn size(&self) -> Answer {
        Answer::Size(self.values.len(), self.bytes)
    }

    fn put(&mut self, key: u64, value: Vec<u8>) -> Answer {
        if self.bytes + value.len() as u64 > STATE_BYTES {
            return Answer::Refused;
        }
        self.bytes += value.len() as u64;
        self.bytes -= self.values.insert(key, value) as u64;
        self.size()
    }

    fn fill(&mut self, mib: u32) -> Answer {
        let values = (u64::from(mib) << 20) / FILL_BYTES as u64;
        for key in self.next..self.next.saturating_add(values) {
            let mut value = vec![0; FILL_BYTES];
            ChaCha8Rng::seed_from_u64(key).fill_bytes(&mut value);
            if self.put(key, value) == Answer::Refused {
                return Answer::Refused;
            }
            self.next = key + 1;
        }
        self.size()
    }
}

impl StateMachine for BigState {
    type Frozen = Self;

    fn identity(&self) -> Identity {
        Identity { name: "bigstate".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let Step::Request { body, .. } = step else { return Bytes::new() };
        Request::decode(body).map_or(Answer::Refused, |request| self.answer(request)).encode()
    }

    fn freeze(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let header = records.record()?.ok_or(RestoreError::Missing { missing: "header" })?;
        let (values, next) = read_header(&header).ok_or_else(|| invalid("header"))?;
        let mut state = Self { next, ..Self::new(self.values.keeping()) };
        while let Some(record) = records.record()? {
            read_chunk(&mut state, &record).ok_or_else(|| invalid("values"))?;
        }
        if state.values.len() != values {
            return Err(RestoreError::Missing { missing: "values" });
        }
        *self = state;
        Ok(())
    }
}

impl Freeze for BigState {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        let mut header = vec![VERSION];
        header.put_u64_le(self.values.len());
        header.put_u64_le(self.next);
        sink.record(&header)?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + VALUE_BYTES);
        self.values.try_for_each(|key, value| {
            chunk.put_u64_le(key);
            chunk.put_u32_le(value.len() as u32);
            chunk.put_slice(value);
            if chunk.len() < CHUNK_BYTES {
                return Ok(());
            }
            let written = sink.record(&chunk);
            chunk.clear();
            written
        })?;
        if chunk.is_empty() { Ok(()) } else { sink.record(&chunk) }
    }
}

fn invalid(record: &'static str) -> RestoreError {
    RestoreError::Invalid { record, why: "it is cut off or of another version".into() }
}

fn read_header(mut record: &[u8]) -> Option<(u64, u64)> {
    let version = record.try_get_u8().ok()?;
    (version == VERSION && record.len() == 16).then(|| (record.get_u64_le(), record.get_u64_le()))
}

fn read_chunk(state: &mut BigState, mut record: &[u8]) -> Option<()> {
    while !record.is_empty() {
        let key = record.try_get_u64_le().ok()?;
        let len = usize::try_from(record.try_get_u32_le().ok()?).ok()?;
        let value = record.get(..len).filter(|value| value.len() <= VALUE_BYTES)?;
        if state.put(key, value.to_vec()) == Answer::Refused {
            return None;
        }
        record.advance(len);
    }
    Some(())
}

#[cfg(test)]
mod tests;
