//! What is done on the disk, step by step, by the one that may wait for it.

use bytes::Bytes;

use super::failure::Failure;
use super::recovery::{Plan, Start};
use super::settings::StorageSettings;
use super::{Service, Who, aside, reset};
use crate::causes::chain;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::history::History;
use crate::ids::{Index, Lineage};
use crate::limits;
use crate::proto::io::Membership;
use crate::proto::{CommonPrefix, StorageResponse};
use crate::store::checkpoint::{
    self, Incoming, IncomingError, Outgoing, Stamp, Summary, file_name,
};
use crate::store::files::Directory;
use crate::store::home::{Home, HomeError};
use crate::store::journal::{Journal, JournalError, Mark};
use crate::store::membership::MembershipStore;
use crate::wire::frames::{CheckpointFile, LogPosition};

/// How the disk stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The newest checkpoint.
    pub checkpoint: Option<Stamp>,
    /// Bytes of the journal's files, spare ones aside.
    pub journal_bytes: u64,
    /// Everything after this entry is in the journal.
    pub journal_base: Index,
    /// The last entry that was written, and synced unless durability is `memory`.
    pub persisted: Index,
}

/// Journal, checkpoints and membership of one CoServer.
pub(crate) struct ReplicaStore {
    pub(super) directory: Box<dyn Directory>,
    pub(super) who: Who,
    /// What computed the log: something else than what runs here only where an operator adopts the
    /// log, and until that is done.
    pub(super) computed_by: Service,
    /// The lineage of the log at the start.
    pub(super) lineage: Lineage,
    pub(super) settings: StorageSettings,
    pub(super) seed: u64,
    pub(super) journal: Journal,
    pub(super) membership: MembershipStore,
    /// Checkpoints that a replay may begin with, the oldest first.
    pub(super) checkpoints: Vec<Summary>,
    pub(super) outgoing: Option<Outgoing>,
    pub(super) incoming: Option<Incoming>,
    /// What a joiner needs is kept from here on.
    pub(super) retain: Option<Index>,
    /// Something was set aside to be discarded, until this CoServer is a member.
    pub(super) discarding: bool,
    /// This process found its log lost, or set it aside.
    pub(super) is_log_lost: bool,
}

impl ReplicaStore {
    /// The last entry that was appended.
    pub(crate) fn held(&self) -> Index {
        self.journal.held().0
    }

    /// Makes the next step towards a spare segment of the journal; whether all are there.
    pub(crate) fn prepare(&mut self) -> Result<bool, JournalError> {
        self.journal.prepare()
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            checkpoint: self.checkpoints.last().map(|newest| newest.stamp),
            journal_bytes: self.journal.size(),
            journal_base: self.journal.base().0,
            persisted: self.journal.committed(),
        }
    }

    /// Adds entries to the batch. If it is full in between, that part of it is committed.
    pub(crate) fn append(&mut self, entries: &[Entry], mark: Mark) -> Result<(), Failure> {
        for entry in entries {
            match self.journal.append(entry) {
                Err(JournalError::BatchFull) => {
                    self.commit(mark)?;
                    self.journal.append(entry)?;
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Makes durable what was appended; the last entry that is.
    pub(crate) fn commit(&mut self, mark: Mark) -> Result<Index, Failure> {
        Ok(self.journal.commit(mark)?)
    }

    pub(super) fn save(&mut self, membership: &Membership) -> Result<(), Failure> {
        if self.computed_by != self.who.service && self.is_later_member(membership) {
            // With what was computed here, or by the other.
            let before = core::mem::replace(&mut self.computed_by, self.who.service.clone());
            self.write_home().map_err(|error| {
                self.computed_by = before;
                Failure::of(&error)
            })?;
        }
        if membership.record.is_some() && !self.is_log_lost {
            // A member whose first entry never became durable lacks nothing (rule J1), and must
            // not be taken for one whose journal is gone.
            self.journal.establish()?;
        }
        let saved = self.membership.save(membership);
        saved.map_err(|error| Failure::of(&error))?;
        self.settle_discarded(membership);
        Ok(())
    }

    /// That it cannot be removed is no reason not to serve; the next start tries again.
    fn settle_discarded(&mut self, membership: &Membership) {
        if self.discarding && membership.record.is_some() {
            self.discarding = false;
            if let Err(error) = reset::settle(&*self.directory, membership) {
                tracing::warn!(event = "retention_failed", why = %error);
            }
        }
    }

    /// Whether this is a member of a lineage that began after what the disk had at the start.
    fn is_later_member(&self, membership: &Membership) -> bool {
        membership.record.is_some_and(|record| {
            record.lineage > self.lineage && record.members.at(self.who.place).is_some()
        })
    }

    /// Drops what comes after this entry.
    pub(super) fn truncate(&mut self, after: Index) -> Result<(), Failure> {
        if after == Index(0) && self.journal.base().0 > Index(0) {
            self.journal.restart_at(Index(0), Digest::ZERO, Mark::default())?;
        } else {
            self.journal.truncate_after(after)?;
        }
        self.remove_checkpoints(|index| index > after)
    }

    fn remove_checkpoints(&mut self, which: impl Fn(Index) -> bool) -> Result<(), Failure> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.checkpoints.drain(..).partition(|summary| which(summary.stamp.index));
        self.checkpoints = kept;
        for summary in &gone {
            let name = file_name(summary.stamp.index);
            let removed = self.directory.remove(&name);
            removed.map_err(|error| {
                Failure::said(&format!("cannot remove {name}: {error}"), &error)
            })?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        let synced = self.directory.sync();
        synced
            .map_err(|error| Failure::said(&format!("cannot sync the directory: {error}"), &error))
    }

    /// The oldest entry at which a state can be had, if there is one.
    pub(super) fn oldest_start(&self) -> Option<Index> {
        let base = self.journal.base().0;
        match self.checkpoints.first() {
            _ if base == Index(0) => Some(Index(0)),
            first => first.map(|summary| summary.stamp.index),
        }
    }

    /// How to get to the state at an entry, or at the last one that was surely released.
    pub(crate) fn plan(&mut self, to: Option<Index>, tail: usize) -> Result<Plan, Failure> {
        if let Some(to) = to {
            self.truncate(to)?;
        }
        let mark = self.journal.mark();
        let held = self.journal.held().0;
        let oldest = self.oldest_start().unwrap_or(held);
        let target = to.unwrap_or(mark.index.clamp(oldest, held));
        let lost_outputs = (to.is_none() && target > mark.index).then(|| {
            format!(
                "outputs were surely released up to entry {}, and the oldest state is that of entry \
                 {target}: those in between would be lost; let this CoServer join the other, or begin \
                 a new lineage with `--adopt`",
                mark.index
            )
        });
        let base = self.journal.base().0;
        let newest_first = self.checkpoints.iter().rev().map(|summary| summary.stamp.index);
        let fitting = newest_first.filter(|index| (base..=target).contains(index)).map(Some);
        let first = (base == Index(0)).then_some(None);
        let mut starts = Vec::new();
        for checkpoint in fitting.chain(first) {
            let replay = self.journal.replay(checkpoint.unwrap_or(Index(0)).next())?;
            starts.push(Start { checkpoint, replay });
        }
        let otherwise = (self.computed_by != self.who.service).then(|| {
            let Service { name, version, .. } = &self.computed_by;
            format!("the log was computed by `{name}` of version {version} with other settings")
        });
        let directory = self.directory.share();
        Ok(Plan { directory, starts, target, mark, tail, adopt: false, lost_outputs, otherwise })
    }

    /// The log is not to be used any more: its files are kept aside, and there is none.
    pub(crate) fn set_aside(&mut self) -> Result<(), Failure> {
        (self.outgoing, self.incoming) = (None, None);
        self.is_log_lost = true;
        let moved = aside::log(&*self.directory);
        moved.map_err(|error| {
            Failure::said(&format!("the log cannot be set aside: {error}"), &error)
        })?;
        self.checkpoints.clear();
        let options = self.settings.journal_options(self.seed);
        let identity = self.who.journal_identity();
        self.journal = Journal::open(self.directory.share(), identity, options)?.0;
        Ok(())
    }

    /// A checkpoint is not what was written.
    pub(crate) fn set_checkpoint_aside(&mut self, index: Index) -> Result<(), Failure> {
        self.checkpoints.retain(|summary| summary.stamp.index != index);
        let moved = aside::one(&*self.directory, &file_name(index));
        moved.map_err(|error| {
            Failure::said(&format!("checkpoint {index} cannot be set aside: {error}"), &error)
        })
    }

    pub(super) fn find_common_prefix(
        &mut self,
        points: &[LogPosition],
    ) -> Result<CommonPrefix, Failure> {
        let mut common = None;
        for point in points {
            if self.journal.log_digest_at(point.index)? == Some(point.log_digest) {
                common = Some(*point);
                break;
            }
        }
        let base = self.journal.base().0;
        let newest = self.checkpoints.last().filter(|summary| summary.stamp.index >= base);
        Ok(CommonPrefix {
            common,
            bytes: common.map_or(0, |point| self.journal.bytes_since(point.index)),
            checkpoint: newest
                .map(|summary| (summary.stamp.into(), summary.header.history.log_digest)),
        })
    }

    /// Entries after this one; `None` if they are not kept.
    pub(super) fn read(&mut self, after: Index) -> Result<Option<Vec<Entry>>, Failure> {
        let read = self.journal.read(after.next(), limits::CHUNK_BYTES)?;
        Ok(read.map(|mut entries| {
            entries.truncate(limits::BATCH_ENTRIES);
            entries
        }))
    }

    /// A piece of a checkpoint; `None` if it is not there any more.
    pub(super) fn read_chunk(&mut self, index: Index, offset: u64) -> Option<Bytes> {
        let open = self.outgoing.as_ref().is_some_and(|out| out.stamp().index == index);
        if !open {
            self.outgoing = None;
            if !self.checkpoints.iter().any(|summary| summary.stamp.index == index) {
                return None;
            }
            let opened = Outgoing::open(&*self.directory, index);
            self.outgoing = opened.inspect_err(|error| unread(&chain(error))).ok();
        }
        let read = self.outgoing.as_ref()?.read(offset, limits::CHUNK_BYTES);
        read.inspect_err(|error| unread(&chain(error))).ok().map(Bytes::from)
    }

    /// Keeps what a joiner needs from here on; nothing more for it.
    pub(super) fn retain(&mut self, from: Option<Index>) {
        self.retain = from;
        if from.is_none() {
            self.outgoing = None;
        }
    }

    pub(super) fn begin_chunks(
        &mut self,
        file: CheckpointFile,
    ) -> Result<StorageResponse, Failure> {
        self.incoming = None;
        checkpoint::tidy(&*self.directory, Some(file.index))?;
        let incoming = Incoming::open(&*self.directory, file.into())?;
        let have = incoming.received();
        self.incoming = Some(incoming);
        Ok(StorageResponse::ChunksWritten { checkpoint: file.index, have })
    }

    pub(super) fn write_chunk(
        &mut self,
        checkpoint: Index,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Option<StorageResponse>, Failure> {
        let Some(incoming) = &mut self.incoming else { return Ok(None) };
        let wanted = incoming.wanted();
        if wanted.index != checkpoint {
            return Ok(None);
        }
        match incoming.chunk(&wanted, offset, bytes) {
            // A chunk that does not belong here is answered with the offset of the next one that
            // does.
            Ok(_)
            | Err(
                IncomingError::Foreign { .. }
                | IncomingError::Offset { .. }
                | IncomingError::Length { .. },
            ) => {}
            Err(error) => return Err(Failure::of(&error)),
        }
        Ok(Some(StorageResponse::ChunksWritten { checkpoint, have: incoming.received() }))
    }

    /// Checks what has come; the log begins with it. The inner error is for the other CoServer's
    /// file, the outer one for this disk.
    pub(super) fn install(
        &mut self,
        file: CheckpointFile,
        chained: Digest,
    ) -> Result<Result<(), String>, Failure> {
        let Some(incoming) = self.incoming.take() else {
            return Ok(Err("no checkpoint was being received".into()));
        };
        let summary = match incoming.install() {
            Ok(summary) => summary,
            Err(IncomingError::Checkpoint(error)) if !error.is_damage() => return Err(error.into()),
            Err(error) => return Ok(Err(chain(&error))),
        };
        let header = &summary.header;
        let ours = header.pair == self.who.pair && header.service.name == self.who.service.name;
        if !ours || header.history.log_digest != chained || summary.stamp != file.into() {
            return Ok(Err(format!("checkpoint {} is not the one that was offered", file.index)));
        }
        let mark = Mark { index: file.index, outputs: header.outputs };
        // A checkpoint of its own at this entry has been replaced by what came.
        self.remove_checkpoints(|index| index != file.index)?;
        self.journal.restart_at(file.index, chained, mark)?;
        self.checkpoints = vec![summary];
        Ok(Ok(()))
    }

    /// A checkpoint was written: it is one to begin with, and older ones may go.
    pub(crate) fn checkpoint_written(&mut self) -> Result<(), Failure> {
        let listing = checkpoint::list(&*self.directory)?;
        let known = core::mem::take(&mut self.checkpoints);
        for summary in listing.whole {
            // The log may have been cut, or given up, since the view was frozen.
            let History { index, log_digest, .. } = summary.header.history;
            let is_ours = known.iter().any(|known| known.stamp == summary.stamp)
                || matches!(self.journal.log_digest_at(index), Ok(Some(ours)) if ours == log_digest);
            if is_ours {
                self.checkpoints.push(summary);
            }
        }
        self.drop_old()?;
        self.renew_home();
        Ok(())
    }

    /// Without it an older copy that is copied over the directory may not be told; that is no
    /// reason to stop.
    pub(super) fn renew_home(&self) {
        if let Err(error) = self.write_home() {
            tracing::warn!(event = "home_not_renewed", why = chain(&error));
        }
    }

    pub(super) fn write_home(&self) -> Result<(), HomeError> {
        let Who { pair, place, .. } = self.who;
        Home::renew(&*self.directory, pair, place, &self.computed_by, self.settings.kept())
            .map(drop)
    }

    /// Drops old checkpoints and journal. Kept are as many of the newest as the settings say, the
    /// newest at or before the last released entry (rule R5), and the one that a joiner is sent.
    /// While none is at or before that entry the journal stays whole.
    fn drop_old(&mut self) -> Result<(), Failure> {
        let mark = self.journal.mark().index;
        let indices = self.checkpoints.iter().map(|summary| summary.stamp.index);
        let restorable = indices.filter(|index| *index <= mark).max();
        let sending = self.outgoing.as_ref().filter(|_| self.retain.is_some());
        let pinned: Vec<Index> =
            sending.map(|out| out.stamp().index).into_iter().chain(restorable).collect();
        let kept =
            checkpoint::keep(&*self.directory, self.settings.checkpoints_kept, &pinned)?.kept;
        self.checkpoints.retain(|summary| kept.contains(&summary.stamp.index));
        let oldest = self.checkpoints.first().map(|summary| summary.stamp.index);
        let Some(oldest) = oldest.filter(|oldest| *oldest <= mark) else {
            return Ok(());
        };
        let mut from = oldest.min(self.with_bytes_after(self.settings.journal_keep_bytes));
        if let Some(needed) = self.retain {
            if self.journal.bytes_since(needed) <= self.settings.retain_limit_bytes {
                from = from.min(needed);
            } else {
                tracing::warn!(
                    event = "retain_limit",
                    from = needed.0,
                    limit = self.settings.retain_limit_bytes,
                    "a joiner is so far behind that what it needs is no longer kept"
                );
            }
        }
        Ok(self.journal.release_before(from.next())?)
    }

    /// The last entry after which at least so many bytes are there; the base if there are fewer.
    fn with_bytes_after(&self, bytes: u64) -> Index {
        let (mut low, mut high) = (self.journal.base().0, self.journal.held().0);
        while low < high {
            let middle = Index(low.0 + (high.0 - low.0).div_ceil(2));
            if self.journal.bytes_since(middle) >= bytes {
                low = middle;
            } else {
                high = middle.prev();
            }
        }
        low
    }
}

/// A joiner asks again, and is served otherwise.
pub(super) fn unread(why: &str) {
    tracing::warn!(event = "storage_unreadable", why, "what a joiner asked for cannot be read");
}
