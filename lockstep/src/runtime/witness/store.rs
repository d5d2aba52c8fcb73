//! The store on its thread.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::ids::PairId;
use crate::record::Record;
use crate::witness::{RecordStore, StoreError, Stored, Told};

/// What came of writing a pair's record.
pub(super) type Written = Result<(), StoreError>;

/// How long after a note that could not be written it is tried again.
const NOTE_AGAIN: Duration = Duration::from_secs(5);

enum Job {
    Replace { present: Digest, record: Box<Record> },
    Adopt(Box<Record>),
    Distrust { pair: PairId, told: Told },
}

/// The store behind a bounded queue each way. The core has one record under way for each pair, so
/// that one place in the queue for each pair is enough. As many again are for notes of distrust.
/// One too many of those is dropped, since the core remembers it.
pub(super) struct StoreThread {
    jobs: Sender<Job>,
    done: mpsc::Receiver<(PairId, Written)>,
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
    pub(super) async fn done(&mut self) -> Option<(PairId, Written)> {
        self.done.recv().await
    }
}

fn carry_out<R: RecordStore>(
    store: &mut R,
    jobs: &Receiver<Job>,
    done: &mpsc::Sender<(PairId, Written)>,
) {
    let mut notes = Notes::default();
    loop {
        let job = match notes.unwritten.is_empty() {
            true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => jobs.recv_timeout(NOTE_AGAIN),
        };
        let (pair, written) = match job {
            Ok(Job::Replace { present, record }) => (record.pair, store.replace(present, &record)),
            Ok(Job::Adopt(record)) => (record.pair, store.adopt(&record)),
            Ok(Job::Distrust { pair, told }) => {
                notes.write(store, pair, told);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                notes.write_again(store);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return notes.write_again(store),
        };
        if Stored::from(&written) != Stored::NotThere {
            // It was about the record before.
            notes.unwritten.remove(&pair);
        }
        if let Err(error) = &written
            && Stored::from(&written) == Stored::Unknown
        {
            tracing::error!(event = "store_failed", %pair, %error);
        }
        if done.blocking_send((pair, written)).is_err() {
            return;
        }
    }
}

/// Notes of distrust that could not be written yet: one for each pair at most.
#[derive(Default)]
struct Notes {
    unwritten: BTreeMap<PairId, Told>,
}

impl Notes {
    fn write<R: RecordStore>(&mut self, store: &mut R, pair: PairId, told: Told) {
        let told = self.unwritten.remove(&pair).map_or(told, |before| before.max(told));
        let Err(error) = store.distrust(pair, told) else { return };
        tracing::error!(event = "store_failed", %pair, %error);
        if matches!(error, StoreError::Unchanged { .. }) {
            self.unwritten.insert(pair, told);
        }
    }

    fn write_again<R: RecordStore>(&mut self, store: &mut R) {
        self.unwritten.retain(|pair, told| {
            let again = store.distrust(*pair, *told);
            matches!(again, Err(StoreError::Unchanged { .. }))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Lineage};
    use crate::witness::Directory;

    /// A directory in the place of the file that a record is written to first: as good as a disk
    /// without room.
    #[test]
    fn a_note_of_distrust_that_cannot_be_written_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let pair = PairId([1; 16]);
        let told = Told { lineage: Lineage(1), epoch: Epoch(7) };
        let mut store = Directory::open(directory.path()).unwrap();
        store.enrol(pair).unwrap();
        let obstacle = directory.path().join(format!("{pair}.new"));
        std::fs::create_dir(&obstacle).unwrap();
        let mut notes = Notes::default();
        notes.write(&mut store, pair, told);
        notes.write_again(&mut store);
        assert_eq!(store.present(pair).unwrap().behind, None);
        std::fs::remove_dir(&obstacle).unwrap();
        notes.write_again(&mut store);
        assert_eq!(store.present(pair).unwrap().behind, Some(told));
        assert!(notes.unwritten.is_empty());
    }
}
