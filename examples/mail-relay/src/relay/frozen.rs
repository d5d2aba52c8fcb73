//! The relay's whole state as records. One says of which version they are, one has its numbers, and
//! a few follow for each mail and each connection. Of blocks of addresses and of addresses each
//! record has some, so that none grows with the queue.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use imbl::OrdMap;
use io_redirect::TimerId;
use io_redirect::snapshot::{Readable, Snapshot, Writable};
use io_redirect::tcp::ConnId;
use lockstep::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError};
use lockstep::shares::AddressBlock;
use rkyv::{Archive, Deserialize, Serialize};

use super::Relay;
use super::hop::HopAddresses;
use super::inbound::Inbound;
use super::memory::Memory;
use super::outbound::Outbound;
use super::rates::{self, Block, Host, Rates};
use super::scarce::Said;
use super::shared::{Counters, Shared};
use super::timeouts::Timeouts;
use crate::queue::{Mails, Queue, QueueHead, QueueId, QueuedMail, QueuedMailV4};

/// A consistent view of a relay. Taking it copies a few numbers: mails and sessions are shared
/// with the live relay, which copies one of them when it first changes it afterwards. The dearest
/// such copy is that of a mail that is half received.
#[derive(Debug)]
pub struct Frozen {
    head: Snapshot<Head>,
    mails: Mails,
    inbound: Rows<Inbound>,
    outbound: Rows<Outbound>,
    rates: Snapshot<rates::Head>,
    blocks: OrdMap<AddressBlock, Block>,
    hosts: OrdMap<IpAddr, Host>,
}

/// The first record: version 3 had none.
const VERSION_5: &[u8] = b"mail-relay 5";
const VERSION_4: &[u8] = b"mail-relay 4";

/// Blocks of addresses in one record, and addresses.
const ROWS_PER_RECORD: usize = 1024;

/// What belongs to connections, as cheap to copy as the mails.
pub(super) type Rows<T> = OrdMap<ConnId, Arc<T>>;

/// Changes every row.
pub(super) fn change_each<T: Clone>(rows: &mut Rows<T>, mut change: impl FnMut(ConnId, &mut T)) {
    for conn in rows.keys().copied().collect::<Vec<_>>() {
        if let Some(row) = rows.get_mut(&conn) {
            change(conn, Arc::make_mut(row));
        }
    }
}

#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
struct Head {
    mails: u64,
    inbound: u64,
    outbound: u64,
    queue: QueueHead,
    counters: Counters,
    hop: HopAddresses,
    timer: Option<TimerId>,
}

impl Frozen {
    pub(super) fn of(relay: &Relay) -> Frozen {
        let queue = &relay.post.queue;
        Frozen {
            head: Snapshot(Head {
                mails: queue.len() as u64,
                inbound: relay.inbound.len() as u64,
                outbound: relay.outbound.len() as u64,
                queue: queue.head(),
                counters: relay.post.counters,
                hop: relay.post.hop.clone(),
                timer: relay.timeouts.armed(),
            }),
            mails: queue.mails(),
            inbound: relay.inbound.clone(),
            outbound: relay.outbound.clone(),
            rates: Snapshot(relay.post.rates.head()),
            blocks: relay.post.rates.blocks(),
            hosts: relay.post.rates.hosts(),
        }
    }
}

impl Freeze for Frozen {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(VERSION_5)?;
        self.head.write(sink)?;
        write_all(&self.mails, sink)?;
        write_all(&self.inbound, sink)?;
        write_all(&self.outbound, sink)?;
        self.rates.write(sink)?;
        write_chunks(&self.blocks, sink)?;
        write_chunks(&self.hosts, sink)
    }
}

/// For small rows: many to a record.
fn write_chunks<K, V>(rows: &OrdMap<K, V>, sink: &mut dyn RecordSink) -> Result<(), SinkError>
where
    K: Ord + Copy + Send + 'static,
    V: Copy + Send + 'static,
    Vec<(K, V)>: Writable,
{
    let rows: Vec<(K, V)> = rows.iter().map(|(key, row)| (*key, *row)).collect();
    let mut chunks = rows.chunks(ROWS_PER_RECORD);
    chunks.try_for_each(|chunk| Snapshot(chunk.to_vec()).write(sink))
}

/// One row at a time, so that writing takes the memory of one.
fn write_all<K, V>(rows: &OrdMap<K, Arc<V>>, sink: &mut dyn RecordSink) -> Result<(), SinkError>
where
    K: Ord + Copy + Send + 'static,
    V: Clone + Send + 'static,
    (K, V): Writable,
{
    rows.iter().try_for_each(|(key, row)| Snapshot((*key, V::clone(row))).write(sink))
}

fn read_all<T: Readable>(
    count: u64,
    records: &mut dyn RecordSource,
) -> Result<Vec<T>, RestoreError> {
    (0..count).map(|_| Snapshot::read(records)).collect()
}

fn shared<T>(rows: Vec<(ConnId, T)>) -> Rows<T> {
    rows.into_iter().map(|(conn, row)| (conn, Arc::new(row))).collect()
}

fn read_chunks<T>(count: u64, records: &mut dyn RecordSource) -> Result<Vec<T>, RestoreError>
where
    Vec<T>: Readable,
{
    let mut rows: Vec<T> = Vec::new();
    while (rows.len() as u64) < count {
        let chunk: Vec<T> = Snapshot::read(records)?;
        if chunk.is_empty() {
            return Err(RestoreError::Missing { missing: "blocks of addresses, or addresses" });
        }
        rows.extend(chunk);
    }
    Ok(rows)
}

/// Records of which the first was looked at.
struct LookedAt<'a> {
    first: Option<Bytes>,
    rest: &'a mut dyn RecordSource,
}

impl RecordSource for LookedAt<'_> {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        self.first.take().map_or_else(|| self.rest.record(), |first| Ok(Some(first)))
    }
}

/// Passes over what [`Snapshot`] wrote, whatever it is.
fn skip(records: &mut dyn RecordSource) -> Result<(), RestoreError> {
    const MISSING: RestoreError = RestoreError::Missing { missing: "a client of an older version" };
    let mut head = records.record()?.filter(|head| head.len() == 9).ok_or(MISSING)?;
    head.advance(1);
    let mut left = head.get_u64_le();
    while left > 0 {
        let chunk = records.record()?.filter(|chunk| !chunk.is_empty()).ok_or(MISSING)?;
        left = left.saturating_sub(chunk.len() as u64);
    }
    Ok(())
}

/// Which version of the relay wrote the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Three,
    Four,
    Five,
}

impl Version {
    fn of(first: Option<&[u8]>) -> Version {
        match first {
            Some(VERSION_5) => Version::Five,
            Some(VERSION_4) => Version::Four,
            _ => Version::Three,
        }
    }

    fn read_mails(
        self,
        count: u64,
        records: &mut dyn RecordSource,
    ) -> Result<Vec<(QueueId, QueuedMail)>, RestoreError> {
        if self == Version::Five {
            return read_all(count, records);
        }
        let mails: Vec<(QueueId, QueuedMailV4)> = read_all(count, records)?;
        Ok(mails.into_iter().map(|(id, mail)| (id, mail.into())).collect())
    }

    /// Sessions of older versions are passed over: their connections ended with the processes that
    /// ran those.
    fn read_inbound(
        self,
        count: u64,
        records: &mut dyn RecordSource,
    ) -> Result<Rows<Inbound>, RestoreError> {
        if self == Version::Five {
            return read_all(count, records).map(shared);
        }
        (0..count).try_for_each(|_| skip(records)).map(|()| Rows::new())
    }

    fn read_rates(self, records: &mut dyn RecordSource) -> Result<Rates, RestoreError> {
        let head: rates::Head = match self {
            Version::Three => return Ok(Rates::default()),
            Version::Four => Snapshot::<rates::HeadV4>::read(records)?.into(),
            Version::Five => Snapshot::read(records)?,
        };
        let blocks = read_chunks(head.blocks, records)?;
        Ok(Rates::from_parts(head, blocks, read_chunks(head.hosts, records)?))
    }
}

impl Relay {
    /// Of versions 3 and 4 everything but the sessions with clients is taken over, and of version
    /// 3 no rates, which it did not have. Their mails count for the blocks of addresses that their
    /// trace fields name.
    pub(super) fn thaw(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let first = records.record()?;
        let version = Version::of(first.as_deref());
        let is_named = version != Version::Three;
        let records = &mut LookedAt { first: first.filter(|_| !is_named), rest: records };
        let head: Head = Snapshot::read(records)?;
        let mails = version.read_mails(head.mails, records)?;
        self.inbound = version.read_inbound(head.inbound, records)?;
        self.outbound = shared(read_all(head.outbound, records)?);
        let rates = version.read_rates(records)?;
        let queue = Queue::from_parts(head.queue, mails);
        let mut memory = Memory::default();
        for (conn, row) in &self.inbound {
            memory.change(*conn, row.session.peer(), 0, row.counted);
        }
        let (counters, hop, said) = (head.counters, head.hop, Said::default());
        self.post = Shared { queue, memory, counters, hop, rates, said };
        self.timeouts = Timeouts::restored(head.timer);
        self.inbound.iter().for_each(|(conn, row)| self.timeouts.enter(*conn, row.alarm));
        self.outbound.iter().for_each(|(conn, row)| self.timeouts.enter(*conn, row.alarm));
        Ok(())
    }
}
