//! What of a CoServer survives its process: journal, checkpoints, membership.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::digest::{Digest, Hasher};
use lockstep::entry::Entry;
use lockstep::history::History;
use lockstep::ids::{Index, Lineage};
use lockstep::proto::{CommonPrefix, Disk as Found, Membership, Recovered};
use lockstep::unit::records::Reader;
use lockstep::unit::{Unit, UnitConfig};
use lockstep::wire::frames::{CheckpointFile, LogPosition};

use crate::counting_service::CountingService;

/// Bytes of a checkpoint that go in one piece: few, so that there are several.
const PIECE: usize = 40;
/// Entries that are read at once.
const READ: usize = 10;

/// Everything replicated, at one entry.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) history: History,
    pub(super) outputs: Digest,
    /// The unit, as it was frozen; `None` before the first entry.
    pub(super) unit: Option<Bytes>,
}

impl State {
    fn empty() -> Self {
        Self { history: History::default(), outputs: Digest::ZERO, unit: None }
    }

    fn bytes(&self) -> Bytes {
        self.unit.clone().unwrap_or_default()
    }

    pub(super) fn file(&self) -> CheckpointFile {
        let bytes = self.bytes();
        let mut hash = Hasher::after(Digest::ZERO);
        hash.bytes(&bytes);
        let (index, len) = (self.history.index, bytes.len() as u64);
        CheckpointFile { index, len, hash: hash.finish() }
    }

    fn restore(&self) -> Unit<CountingService> {
        let Some(bytes) = &self.unit else { return Unit::new(CountingService::default()) };
        let mut reader = Reader::open(bytes.clone()).expect("as it was frozen");
        Unit::restore(CountingService::default(), UnitConfig::default(), &mut reader)
            .expect("a sound unit")
    }
}

pub(super) struct Disk {
    pub(super) membership: Membership,
    /// From here on there are entries.
    base: State,
    entries: Vec<Entry>,
    /// The log at each of them.
    histories: Vec<History>,
    checkpoints: BTreeMap<Index, State>,
    /// As each batch notes it (rule R5).
    mark: (Index, Digest),
    incoming: Option<(CheckpointFile, Vec<u8>)>,
    /// The log cannot be read, and the next that is written begins anew.
    pub(super) unreadable: bool,
}

impl Disk {
    /// One from the shop.
    pub(super) fn new() -> Self {
        Self {
            membership: Membership::default(),
            base: State::empty(),
            entries: Vec::new(),
            histories: Vec::new(),
            checkpoints: BTreeMap::new(),
            mark: (Index(0), Digest::ZERO),
            incoming: None,
            unreadable: false,
        }
    }

    fn history(&self) -> &History {
        self.histories.last().unwrap_or(&self.base.history)
    }

    pub(super) fn last_index(&self) -> Index {
        self.history().index
    }

    /// The log's digest at this entry, if it is still there.
    pub(super) fn log_digest_at(&self, index: Index) -> Option<Digest> {
        if index == self.base.history.index {
            return Some(self.base.history.log_digest);
        }
        let at = index.0.checked_sub(self.base.history.index.0 + 1)?;
        Some(self.histories.get(usize::try_from(at).ok()?)?.log_digest)
    }

    /// Whether everything up to this entry is there, as it has this digest.
    pub(super) fn has(&self, index: Index, log_digest: Digest) -> bool {
        let is_older = index < self.base.history.index;
        !self.unreadable && (is_older || self.log_digest_at(index) == Some(log_digest))
    }

    /// What a new process finds.
    pub(super) fn found(&self) -> Option<Found> {
        let used = self.last_index() > Index(0) || self.membership != Membership::default();
        used.then(|| Found {
            membership: self.membership.clone(),
            lineage: self.record_lineage(),
            last_index: self.last_index(),
            points: self.points(),
        })
    }

    fn record_lineage(&self) -> Lineage {
        self.history().lineage()
    }

    fn points(&self) -> Vec<LogPosition> {
        let (last_index, base) = (self.last_index().0, self.base.history.index.0);
        let steps = ::core::iter::successors(Some(1u64), |step| Some(step * 2));
        let back = steps.map_while(|step| last_index.checked_sub(step)).take_while(|at| *at > base);
        let mut at: Vec<u64> = [last_index].into_iter().chain(back).chain([base]).collect();
        at.dedup();
        at.into_iter()
            .filter_map(|at| {
                Some(LogPosition { index: Index(at), log_digest: self.log_digest_at(Index(at))? })
            })
            .collect()
    }

    pub(super) fn append(&mut self, entry: Entry, mark: (Index, Digest)) {
        self.begin_anew();
        assert_eq!(entry.index, self.last_index().next(), "the journal has no gaps");
        let mut history = self.history().clone();
        history.append(&entry);
        self.entries.push(entry);
        self.histories.push(history);
        self.mark = mark;
    }

    fn begin_anew(&mut self) {
        if self.unreadable {
            *self = Self { membership: ::core::mem::take(&mut self.membership), ..Self::new() };
        }
    }

    pub(super) fn truncate(&mut self, after: Index) {
        assert!(after >= self.base.history.index, "cut before what is kept");
        self.entries.retain(|entry| entry.index <= after);
        self.histories.retain(|history| history.index <= after);
        self.checkpoints.retain(|index, _| *index <= after);
    }

    /// Restores and replays. A step that panics again is left to be executed once more.
    pub(super) fn recover(
        &mut self,
        to: Option<Index>,
    ) -> Result<(Recovered, Unit<CountingService>), String> {
        if self.unreadable {
            return Err("unreadable".into());
        }
        let target = to.unwrap_or(self.mark.0.min(self.last_index()));
        let checkpoint = self.checkpoints.range(..=target).next_back().map(|(_, state)| state);
        let from = checkpoint.unwrap_or(&self.base);
        if target < from.history.index {
            return Err("no state so far back".into());
        }
        let (mut unit, mut history) = (from.restore(), from.history.clone());
        let (first, mut replayed) = (history.index, 0);
        for entry in self.entries.iter().filter(|at| first < at.index && at.index <= target) {
            let before = unit.freeze();
            if unit.execute(entry).panic.is_some() {
                unit = thawed(&before);
                break;
            }
            history.append(entry);
            replayed += entry.weight() as u64;
        }
        if to.is_none() && history.index == self.mark.0 && unit.digest() != self.mark.1 {
            return Err("contradicts what was released".into());
        }
        if to.is_some() {
            self.truncate(target);
        }
        let after = history.index;
        let tail = self.entries.iter().filter(|entry| entry.index > after).cloned().collect();
        let (outputs, wakeup) = (unit.digest(), unit.wakeup());
        Ok((Recovered { history, outputs, wakeup, replayed, contradicts: None, tail }, unit))
    }

    pub(super) fn find_common_prefix(&self, points: &[LogPosition]) -> CommonPrefix {
        let has = |point: &&LogPosition| self.log_digest_at(point.index) == Some(point.log_digest);
        let common = points.iter().find(has).copied();
        let file = self.checkpoints.values().next_back();
        CommonPrefix {
            common,
            bytes: common.map_or(0, |common| (self.last_index().0 - common.index.0) * 20),
            checkpoint: file.map(|state| (state.file(), state.history.log_digest)),
        }
    }

    pub(super) fn read(&self, after: Index) -> Option<Vec<Entry>> {
        let kept = after >= self.base.history.index;
        let from = self.entries.iter().filter(|entry| entry.index > after);
        kept.then(|| from.take(READ).cloned().collect())
    }

    pub(super) fn read_chunk(&self, checkpoint: Index, offset: u64) -> Option<Bytes> {
        let bytes = self.checkpoints.get(&checkpoint)?.bytes();
        let from = bytes.len().min(usize::try_from(offset).ok()?);
        Some(bytes.slice(from..bytes.len().min(from + PIECE)))
    }

    /// How much of it is there.
    pub(super) fn begin_chunks(&mut self, file: CheckpointFile) -> u64 {
        if self.incoming.as_ref().is_none_or(|(known, _)| *known != file) {
            self.incoming = Some((file, Vec::new()));
        }
        self.incoming.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64)
    }

    pub(super) fn write_chunk(&mut self, offset: u64, piece: &[u8]) -> u64 {
        let (_, bytes) = self.incoming.as_mut().expect("pieces of what was begun");
        if offset == bytes.len() as u64 {
            bytes.extend_from_slice(piece);
        }
        bytes.len() as u64
    }

    /// Takes the place of the journal, if it is what the sender has taken.
    pub(super) fn install(
        &mut self,
        file: CheckpointFile,
        log_digest: Digest,
        taken: &[State],
    ) -> Result<(), String> {
        let (known, bytes) = self.incoming.take().ok_or("nothing was sent")?;
        assert_eq!(known, file, "what was begun is installed");
        let state = taken.iter().find(|state| state.file() == file && state.bytes() == bytes);
        let state = state.ok_or("it is not what was announced")?.clone();
        assert_eq!(
            state.history.log_digest, log_digest,
            "the announced digest is the checkpoint's"
        );
        *self = Self {
            membership: ::core::mem::take(&mut self.membership),
            mark: (file.index, state.outputs),
            checkpoints: [(file.index, state.clone())].into(),
            base: state,
            ..Self::new()
        };
        Ok(())
    }

    /// A state as it was frozen; not one that the journal has not got to.
    pub(super) fn keep_checkpoint(&mut self, state: State) -> Result<CheckpointFile, String> {
        let file = state.file();
        if self.unreadable || self.log_digest_at(file.index) != Some(state.history.log_digest) {
            return Err("the journal is another one now".into());
        }
        self.checkpoints.insert(file.index, state);
        Ok(file)
    }

    /// Nothing is kept from before the newest checkpoint from which the mark can be reached.
    pub(super) fn drop_old(&mut self) {
        let Some((&oldest, state)) = self.checkpoints.range(..=self.mark.0).next_back() else {
            return;
        };
        self.base = state.clone();
        self.entries.retain(|entry| entry.index > oldest);
        self.histories.retain(|history| history.index > oldest);
        self.checkpoints.retain(|index, _| *index >= oldest);
    }
}

/// The unit as it was before a step that panicked.
fn thawed(frozen: &lockstep::unit::FrozenUnit<CountingService>) -> Unit<CountingService> {
    let bytes = frozen.to_bytes().expect("a small state");
    let mut reader = Reader::open(bytes).expect("what was just written");
    Unit::restore(CountingService::default(), UnitConfig::default(), &mut reader).expect("its own")
}
