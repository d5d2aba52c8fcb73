//! The store on its thread.

use std::io;

use crossbeam::channel::{self, Receiver, Sender};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::ids::PairId;
use crate::record::Record;
use crate::witness::{RecordStore, StoreError, Told};

enum Job {
    Replace { present: Digest, record: Box<Record> },
    Adopt(Box<Record>),
    Distrust { pair: PairId, told: Told },
}

/// The store behind a bounded queue each way. The core has one record under way for each pair,
/// so that one place in the queue for each pair is enough; as many again are for notes of
/// distrust, and one too many of those is dropped, since the core remembers it.
pub(super) struct StoreThread {
    jobs: Sender<Job>,
    done: mpsc::Receiver<(PairId, bool)>,
    pairs: usize,
}

impl StoreThread {
    pub(super) fn start<R>(mut store: R, pairs: usize) -> io::Result<Self>
    where
        R: RecordStore + Send + 'static,
    {
        let (jobs, inbox) = channel::bounded(2 * pairs + 1);
        let (outbox, done) = mpsc::channel(pairs + 1);
        let work = move || {
            carry_out(&mut store, &inbox, &outbox);
            // Let go of before the end is seen, so that whoever waited for it finds it free.
            drop(store);
            drop(outbox);
        };
        std::thread::Builder::new().name("witness-store".into()).spawn(work)?;
        Ok(Self { jobs, done, pairs })
    }

    /// Waits until everything is written and the store is let go of.
    pub(super) async fn end(self) {
        let Self { jobs, mut done, .. } = self;
        drop(jobs);
        while done.recv().await.is_some() {}
    }

    /// Has the record replaced; the result comes by [`done`](Self::done).
    pub(super) fn replace(&self, present: Digest, record: Record) -> bool {
        self.jobs.try_send(Job::Replace { present, record: Box::new(record) }).is_ok()
    }

    /// Has the record kept whatever there is; the result comes by [`done`](Self::done).
    pub(super) fn adopt(&self, record: Record) -> bool {
        self.jobs.try_send(Job::Adopt(Box::new(record))).is_ok()
    }

    pub(super) fn distrust(&self, pair: PairId, told: Told) {
        if self.jobs.len() > self.pairs || self.jobs.try_send(Job::Distrust { pair, told }).is_err()
        {
            tracing::warn!(event = "distrust_not_written", %pair, "too much waits for the store");
        }
    }

    /// The next result. `None` if the thread is gone.
    pub(super) async fn done(&mut self) -> Option<(PairId, bool)> {
        self.done.recv().await
    }
}

fn carry_out<R: RecordStore>(
    store: &mut R,
    jobs: &Receiver<Job>,
    done: &mpsc::Sender<(PairId, bool)>,
) {
    for job in jobs {
        match job {
            Job::Replace { present, record } => {
                if !tell(record.pair, store.replace(present, &record), done) {
                    return;
                }
            }
            Job::Adopt(record) => {
                if !tell(record.pair, store.adopt(&record), done) {
                    return;
                }
            }
            Job::Distrust { pair, told } => {
                if let Err(error) = store.distrust(pair, told) {
                    tracing::error!(event = "store_failed", %pair, %error);
                }
            }
        }
    }
}

/// Tells whether the pair's record is there; `false` if nobody listens any more.
fn tell(pair: PairId, kept: Result<(), StoreError>, done: &mpsc::Sender<(PairId, bool)>) -> bool {
    if let Err(error) = &kept {
        tracing::error!(event = "store_failed", %pair, %error);
    }
    done.blocking_send((pair, kept.is_ok())).is_ok()
}
