//! The relay's whole state as records: one for its numbers, then a few for each mail and each
//! connection, so that none grows with the queue.

use std::sync::Arc;

use imbl::OrdMap;
use io_redirect::TimerId;
use io_redirect::snapshot::{Readable, Snapshot, Writable};
use io_redirect::tcp::ConnId;
use lockstep::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError};
use rkyv::{Archive, Deserialize, Serialize};

use super::Relay;
use super::alarms::Alarms;
use super::hop::HopAddresses;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::post::{Counters, Post};
use crate::queue::{Mails, Queue, QueueHead, QueueId, QueuedMail};

/// A consistent view of a relay. Taking it copies a few numbers: mails and sessions are shared
/// with the live relay, which copies one of them when it first changes it afterwards. The dearest
/// such copy is that of a mail that is half received.
#[derive(Debug)]
pub struct Frozen {
    head: Snapshot<Head>,
    mails: Mails,
    inbound: Rows<Inbound>,
    outbound: Rows<Outbound>,
}

/// What belongs to connections, as cheap to copy as the mails.
pub(super) type Rows<T> = OrdMap<ConnId, Arc<T>>;

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
                timer: relay.alarms.armed(),
            }),
            mails: queue.mails(),
            inbound: relay.inbound.clone(),
            outbound: relay.outbound.clone(),
        }
    }
}

impl Freeze for Frozen {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        self.head.write(sink)?;
        write_all(&self.mails, sink)?;
        write_all(&self.inbound, sink)?;
        write_all(&self.outbound, sink)
    }
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

impl Relay {
    pub(super) fn thaw(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let head: Head = Snapshot::read(records)?;
        let mails: Vec<(QueueId, QueuedMail)> = read_all(head.mails, records)?;
        self.inbound = shared(read_all(head.inbound, records)?);
        self.outbound = shared(read_all(head.outbound, records)?);
        let queue = Queue::from_parts(head.queue, mails);
        let held = self.inbound.values().map(|row| row.counted).sum();
        self.post = Post { queue, held, counters: head.counters, hop: head.hop };
        self.alarms = Alarms::restored(head.timer);
        self.inbound.iter().for_each(|(conn, row)| self.alarms.enter(*conn, row.alarm));
        self.outbound.iter().for_each(|(conn, row)| self.alarms.enter(*conn, row.alarm));
        Ok(())
    }
}
