//! Frozen states as records.
//!
//! [`Snapshot`] serves a service whose state is one value that rkyv can archive. The wrapper writes
//! its own part in front of the service's. It begins with a hand-laid header with a version and the
//! number of rows of each table. The tables follow, a bounded number of rows to a record.

use bytes::{Buf, Bytes};
use lockstep::limits::RECORD_BYTES;
use lockstep::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::io::Inside;
use crate::limits::ITEMS_PER_RECORD;
use crate::random::{RngState, ServiceRng};
use crate::tcp::{self, TcpTable, before};
use crate::timers::{TimerId, TimerTable, Token};

/// What can be written with rkyv.
pub trait Writable: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>> {}

impl<T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>> Writable for T {}

/// What can be read back from bytes that are not trusted.
pub trait Readable:
    Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, Error>>
                      + Deserialize<Self, HighDeserializer<Error>>,
    > + Sized
{
}

impl<T> Readable for T
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
}

/// A frozen view that is a value of its own: the service's state, cloned. Enough for a service
/// whose state clones quickly; one with a large state keeps it in parts that can be shared.
#[derive(Clone, Debug)]
pub struct Snapshot<T>(pub T);

const SNAPSHOT: u8 = 1;

impl<T: Writable + Send + 'static> Freeze for Snapshot<T> {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        let bytes = to_bytes(&self.0)?;
        let mut head = vec![SNAPSHOT];
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        sink.record(&head)?;
        bytes.chunks(RECORD_BYTES).try_for_each(|chunk| sink.record(chunk))
    }
}

impl<T: Readable> Snapshot<T> {
    /// Reads a value back that [`Snapshot`] has written.
    ///
    /// # Errors
    /// If the records are not such a value.
    pub fn read(records: &mut dyn RecordSource) -> Result<T, RestoreError> {
        let mut head = next(records, "snapshot's header")?;
        if head.len() != 9 || head.get_u8() != SNAPSHOT {
            return Err(invalid("snapshot's header", "it is of another version"));
        }
        let len = head.get_u64_le();
        let mut bytes = AlignedVec::<16>::new();
        while (bytes.len() as u64) < len {
            let chunk = next(records, "snapshot's value")?;
            if chunk.is_empty() || (bytes.len() + chunk.len()) as u64 > len {
                return Err(invalid("snapshot's value", "it is longer or shorter than it says"));
            }
            bytes.extend_from_slice(&chunk);
        }
        from_aligned(&bytes, "snapshot's value")
    }
}

/// A frozen view of a wrapper and its service.
#[derive(Debug)]
pub struct FrozenWrapper<F> {
    timers_set: u64,
    rng: RngState,
    timers: Vec<(TimerId, Token)>,
    tcp: tcp::Frozen,
    service: F,
}

/// Tells the header of the wrapper's records from anything else.
const MAGIC: &[u8; 8] = b"lockstIO";
/// The version of what follows; raised with every change of it.
pub(crate) const VERSION: u16 = 5;
/// The oldest version that is still read.
const OLDEST: u16 = 3;
const HEADER_BYTES: usize = 8 + 2 + 8 + 8 + 8 + 8;

impl<F> FrozenWrapper<F> {
    pub(crate) fn new(inside: &Inside, service: F) -> Self {
        Self {
            timers_set: inside.timers.counter(),
            rng: inside.rng.state(),
            timers: inside.timers.rows(),
            tcp: inside.tcp.freeze(),
            service,
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.timers_set.to_le_bytes());
        header.extend_from_slice(&(self.timers.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.tcp.dialling.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.tcp.conns.len() as u64).to_le_bytes());
        header
    }
}

impl<F: Freeze> Freeze for FrozenWrapper<F> {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(&self.header())?;
        sink.record(&to_bytes(&self.rng)?)?;
        sink.record(&to_bytes(&self.tcp)?)?;
        write_rows(sink, &self.timers)?;
        write_rows(sink, &self.tcp.dialling)?;
        write_rows(sink, &self.tcp.conns)?;
        self.service.write(sink)
    }
}

/// Replaces the inside halves by those that were frozen; the device table and the bounds stay.
pub(crate) fn restore(
    inside: &mut Inside,
    records: &mut dyn RecordSource,
) -> Result<(), RestoreError> {
    let mut header = next(records, "devices' header")?;
    if header.len() != HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(invalid("devices' header", "it is not one"));
    }
    header.advance(MAGIC.len());
    let version = header.get_u16_le();
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(invalid("devices' header", &format!("its version is {version}")));
    }
    let timers_set = header.get_u64_le();
    let [timers, dialling, conns] = core::array::from_fn(|_| header.get_u64_le());
    let rng: RngState = from_bytes(&next(records, "random state")?, "random state")?;
    let listeners = next(records, "listeners")?;
    let mut frozen: tcp::Frozen = match version {
        3 => from_bytes::<before::v3::Frozen>(&listeners, "listeners")?.into(),
        _ => from_bytes(&listeners, "listeners")?,
    };
    let timers = read_rows(records, timers, "timers")?;
    frozen.dialling = read_rows(records, dialling, "connections being made")?;
    frozen.conns = match version {
        3 => before::conns::<before::v3::Conn>(read_rows(records, conns, "connections")?),
        4 => before::conns::<before::v4::Conn>(read_rows(records, conns, "connections")?),
        _ => read_rows(records, conns, "connections")?,
    };
    inside.rng = ServiceRng::from_state(rng);
    inside.timers = TimerTable::from_rows(timers_set, timers)
        .ok_or_else(|| invalid("timers", "they contradict each other"))?;
    inside.tcp = TcpTable::restore(inside.tcp.device, inside.tcp.limits, frozen)
        .ok_or_else(|| invalid("connections", "they contradict each other"))?;
    Ok(())
}

fn write_rows<T: Writable + Clone>(sink: &mut dyn RecordSink, rows: &[T]) -> Result<(), SinkError>
where
    Vec<T>: Writable,
{
    rows.chunks(ITEMS_PER_RECORD).try_for_each(|chunk| sink.record(&to_bytes(&chunk.to_vec())?))
}

fn read_rows<T>(
    records: &mut dyn RecordSource,
    count: u64,
    what: &'static str,
) -> Result<Vec<T>, RestoreError>
where
    Vec<T>: Readable,
{
    let mut rows = Vec::new();
    while (rows.len() as u64) < count {
        let chunk: Vec<T> = from_bytes(&next(records, what)?, what)?;
        if chunk.is_empty() || (rows.len() + chunk.len()) as u64 > count {
            return Err(invalid(what, "there are more or fewer than the header says"));
        }
        rows.extend(chunk);
    }
    Ok(rows)
}

fn next(records: &mut dyn RecordSource, missing: &'static str) -> Result<Bytes, RestoreError> {
    records.record()?.ok_or(RestoreError::Missing { missing })
}

fn invalid(record: &'static str, why: &str) -> RestoreError {
    RestoreError::Invalid { record, why: why.into() }
}

fn to_bytes(value: &impl Writable) -> Result<AlignedVec, SinkError> {
    rkyv::to_bytes::<Error>(value).map_err(|error| SinkError::Io(std::io::Error::other(error)))
}

/// rkyv reads in place and wants its bytes aligned; a record may lie anywhere.
fn from_bytes<T: Readable>(bytes: &[u8], what: &'static str) -> Result<T, RestoreError> {
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    from_aligned(&aligned, what)
}

fn from_aligned<T: Readable>(
    bytes: &AlignedVec<16>,
    what: &'static str,
) -> Result<T, RestoreError> {
    rkyv::from_bytes::<T, Error>(bytes).map_err(|error| invalid(what, &error.to_string()))
}
