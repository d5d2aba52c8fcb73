//! The relay's whole state as records: one for its numbers, then a few for each mail and each
//! connection, so that none grows with the queue.

use io_redirect::TimerId;
use io_redirect::snapshot::{Readable, Snapshot, Writable};
use io_redirect::tcp::ConnId;
use lockstep::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError};
use rkyv::{Archive, Deserialize, Serialize};

use super::Relay;
use super::alarms::Alarms;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::post::{Counters, Post};
use crate::queue::{Queue, QueueHead, QueueId, QueuedMail};

/// A consistent view of a relay. Texts of mails are shared with the live one, not copied.
#[derive(Debug)]
pub struct Frozen {
    head: Snapshot<Head>,
    mails: Vec<Snapshot<(QueueId, QueuedMail)>>,
    inbound: Vec<Snapshot<(ConnId, Inbound)>>,
    outbound: Vec<Snapshot<(ConnId, Outbound)>>,
}

#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
struct Head {
    mails: u64,
    inbound: u64,
    outbound: u64,
    queue: QueueHead,
    counters: Counters,
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
                timer: relay.alarms.armed(),
            }),
            mails: rows(queue.iter()),
            inbound: rows(&relay.inbound),
            outbound: rows(&relay.outbound),
        }
    }
}

fn rows<'a, K, V>(rows: impl IntoIterator<Item = (&'a K, &'a V)>) -> Vec<Snapshot<(K, V)>>
where
    K: Copy + 'a,
    V: Clone + 'a,
{
    rows.into_iter().map(|(key, value)| Snapshot((*key, value.clone()))).collect()
}

impl Freeze for Frozen {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        self.head.write(sink)?;
        write_all(&self.mails, sink)?;
        write_all(&self.inbound, sink)?;
        write_all(&self.outbound, sink)
    }
}

fn write_all<T>(rows: &[Snapshot<T>], sink: &mut dyn RecordSink) -> Result<(), SinkError>
where
    T: Writable + Send + 'static,
{
    rows.iter().try_for_each(|row| row.write(sink))
}

fn read_all<T: Readable>(
    count: u64,
    records: &mut dyn RecordSource,
) -> Result<Vec<T>, RestoreError> {
    (0..count).map(|_| Snapshot::read(records)).collect()
}

impl Relay {
    pub(super) fn thaw(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let head: Head = Snapshot::read(records)?;
        let mails: Vec<(QueueId, QueuedMail)> = read_all(head.mails, records)?;
        self.inbound = read_all(head.inbound, records)?.into_iter().collect();
        self.outbound = read_all(head.outbound, records)?.into_iter().collect();
        let queue = Queue::from_parts(head.queue, mails);
        let held = self.inbound.values().map(|row| row.counted).sum();
        self.post = Post { queue, held, counters: head.counters };
        self.alarms = Alarms::restored(head.timer);
        self.inbound.iter().for_each(|(conn, row)| self.alarms.enter(*conn, row.alarm));
        self.outbound.iter().for_each(|(conn, row)| self.alarms.enter(*conn, row.alarm));
        Ok(())
    }
}
