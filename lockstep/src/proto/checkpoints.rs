//! Checkpoints (section K of `docs/protocol.md`).
//!
//! - K1: both take one at the same entry, which the sequencer orders.
//! - K2: the follower writes its own first and says its digest; then the sequencer writes.
//! - K3: it holds everything that is replicated (the unit and the log see to that).

use core::time::Duration;

use super::io::Output;
use super::replica::Replica;
use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::event::{Event, Ignored};
use crate::history::History;
use crate::ids::{Index, MonotonicTime};
use crate::wire::frames::{CheckpointFile, PeerFrame};

/// The sequencer waits no longer than this for the follower to be done with its checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);

/// The checkpoint under way, and the last ones that are done.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Weight of the log at the last one ordered.
    weight: u64,
    /// Weight of what was replayed to get to where the log begins here: since a checkpoint that an
    /// earlier process took.
    carried: u64,
    /// The log at the one that is to be written, and since when.
    pending: Option<(History, MonotonicTime)>,
    writing: bool,
    /// This one's last, until it is compared.
    own: Option<(Index, Digest)>,
    /// The latest that the peer told of.
    peers: Option<(Index, Digest)>,
}

impl Replica {
    /// An entry was appended at which both take a checkpoint. A replica that is not done with the
    /// last checkpoint takes none (rule K1).
    pub(super) fn on_checkpoint_ordered(&mut self) {
        let history = self.log.history().clone();
        self.checkpoints.weight = self.log.weight_at(history.index);
        self.checkpoints.carried = 0;
        if !self.checkpoints.writing {
            self.checkpoints.pending = Some((history, self.now.mono));
        }
    }

    /// As sequencer: orders a checkpoint if enough has happened since the last.
    pub(super) fn on_checkpoint_due(&mut self) {
        let since =
            self.log.weight_at(self.log.last_index()).saturating_sub(self.checkpoints.weight);
        if since.saturating_add(self.checkpoints.carried) >= self.config.checkpoint_bytes.max(1) {
            self.order_checkpoint();
        }
        self.write_checkpoint();
    }

    /// Orders one, unless the last is not done.
    pub(super) fn order_checkpoint(&mut self) {
        let busy = self.checkpoints.writing || self.checkpoints.pending.is_some();
        let calm = self.suspicion.is_none() && self.divergence.is_none();
        if self.is_sequencer() && !busy && calm && self.has_room() && !self.log.panicked() {
            self.order_own(EntryKind::Checkpoint);
        }
    }

    /// Never both at once, by choice: the sequencer lets the follower be done first (rule K2).
    fn write_checkpoint(&mut self) {
        let Some((history, since)) = &self.checkpoints.pending else { return };
        let (at, late) = (history.index, self.now.mono.since(*since) >= PATIENCE);
        let executed = self.log.executed() >= at && !self.log.panicked();
        let first = !self.is_duplex() || !self.is_sequencer();
        let told = self.checkpoints.peers.is_some_and(|(index, _)| index >= at);
        if !executed || self.checkpoints.writing || !(first || told || late) {
            return;
        }
        if let Some((history, _)) = self.checkpoints.pending.take() {
            self.checkpoints.writing = true;
            self.outputs.push_back(Output::WriteCheckpoint { history });
        }
    }

    pub(super) fn on_checkpoint_written(
        &mut self,
        index: Index,
        result: Result<CheckpointFile, String>,
    ) {
        self.checkpoints.writing = false;
        match result {
            Ok(CheckpointFile { hash, len, .. }) => {
                self.event(Event::Checkpoint { index, len, hash });
                self.checkpoints.own = Some((index, hash));
                if self.is_duplex() {
                    self.send_everywhere(PeerFrame::Checkpoint { index, hash });
                }
                self.compare_checkpoints();
            }
            // A joiner that waits for it goes on waiting.
            Err(why) => return self.event(Event::NoCheckpoint { index, why }),
        }
        self.on_checkpoint_for_joiner();
    }

    pub(super) fn on_peers_checkpoint(&mut self, index: Index, hash: Digest) {
        // The report comes on every link, and may be late on one.
        let new = self.checkpoints.peers.is_none_or(|(latest, _)| index >= latest);
        if index > self.log.last_index() {
            return self.ignore(Ignored::ProtocolViolation);
        }
        if self.is_duplex() && new {
            self.checkpoints.peers = Some((index, hash));
            self.compare_checkpoints();
        }
    }

    /// Once for each checkpoint, whichever of the two is there first (rule K2).
    fn compare_checkpoints(&mut self) {
        let (Some((index, ours)), Some((at, theirs))) =
            (self.checkpoints.own, self.checkpoints.peers)
        else {
            return;
        };
        if index != at {
            return;
        }
        self.checkpoints.own = None;
        if ours != theirs {
            self.event(Event::StatesDiffer { index, ours, theirs });
        }
    }

    /// The weights of a log that was restored begin at zero. What had to be replayed counts on, or
    /// a process that is started again and again would never take one, and replay ever more.
    pub(super) fn restart_checkpoints(&mut self, replayed: u64) {
        self.checkpoints = Checkpoints { carried: replayed, ..Checkpoints::default() };
    }
}
