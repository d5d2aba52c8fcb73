//! Counters and latencies of a running CoServer.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::clients::ClientsMetrics;
use crate::device::Descriptors;
use crate::exhaustion;
use crate::ids::{Index, MonotonicTime};
use crate::proto::{Removals, StorageResponse};
use crate::runtime::link::ListenStats;
use crate::runtime::memory::Memory;
use crate::store::replica::{Durability, Gauges};

/// Longest latency that is told apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Latencies under way that are measured; beyond, entries go unmeasured.
const UNDER_WAY: usize = 64 << 10;

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries appended to the log.
    pub entries: u64,
    /// Outputs handed to devices.
    pub released: u64,
    /// Answers sent to clients.
    pub answers: u64,
    /// Frames to the peer, counted once for each link.
    pub frames_sent: u64,
    /// Bytes of the frames sent to the peer.
    pub bytes_sent: u64,
    /// Frames from the peer.
    pub frames_received: u64,
    /// Bytes of the frames received from the peer.
    pub bytes_received: u64,
    /// Frames for the peer dropped because a link's queue was full; sent again later.
    pub frames_dropped: u64,
    /// Frames refused because they were not valid.
    pub frames_invalid: u64,
    /// Clients turned away.
    pub clients_refused: u64,
}

/// What a CoServer has counted and measured.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// Counters since the start.
    pub counters: Counters,
    /// Time in nanoseconds from an entry's being appended here to the release of its outputs here:
    /// what the pair adds to the service's own time.
    pub commit: Histogram<u64>,
    /// Time in nanoseconds of a step of the service inside the loop. Empty where the service has
    /// its own thread.
    pub step: Histogram<u64>,
    /// How many clients are connected at present.
    pub clients: usize,
    /// What the key of each client has.
    pub clients_by_key: ClientsMetrics,
    /// Attempts to connect to the clients' port.
    pub handshakes: ListenStats,
    /// How often this CoServer went on without the other, by cause.
    pub removals: Removals,
    /// What the disk has written and synced.
    pub storage: StorageMetrics,
    /// What each device counts, by the device's name.
    pub devices: Vec<(String, Vec<(&'static str, u64)>)>,
    /// What the devices have of file descriptors for their connections.
    pub descriptors: DescriptorMetrics,
    /// What the settings permit of memory, and what there was at the start.
    pub memory: Memory,
}

/// The file descriptors of the devices, and errors for want of some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorMetrics {
    /// How many connections may have together.
    pub total: u32,
    /// How many have one.
    pub taken: u32,
    /// Errors of this process for want of a descriptor, of memory, or of space.
    pub exhausted: u64,
}

/// What is on the disk, and what the disk costs.
#[derive(Clone, Debug)]
pub struct StorageMetrics {
    /// When an entry counts as held.
    pub durability: Durability,
    /// How the disk stands.
    pub gauges: Gauges,
    /// Whether the disk has failed, so that nothing more is done on it.
    pub failed: bool,
    /// The last entry replayed, while the state is being restored.
    pub replayed: Option<Index>,
    /// The checkpoint that is being received.
    pub joining: Option<Joining>,
    /// Writing a batch of entries and syncing it, in nanoseconds.
    pub commit: Histogram<u64>,
    /// Executing a checkpoint's entry, that is freezing the state, inside the loop, in
    /// nanoseconds: how long a checkpoint holds everything up. Empty where the service has its
    /// own thread.
    pub freeze: Histogram<u64>,
}

/// How much of a checkpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The checkpoint's entry.
    pub checkpoint: Index,
    /// Bytes that are on the disk.
    pub have: u64,
    /// Length of the checkpoint in bytes.
    pub of: u64,
}

/// The loop's own book.
pub(super) struct Metrics {
    pub(super) counters: Counters,
    commit: Histogram<u64>,
    step: Histogram<u64>,
    pub(super) storage: StorageMetrics,
    appended: VecDeque<(Index, MonotonicTime)>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            commit: histogram(),
            step: histogram(),
            storage: StorageMetrics {
                durability: Durability::default(),
                gauges: Gauges::default(),
                failed: false,
                replayed: None,
                joining: None,
                commit: histogram(),
                freeze: histogram(),
            },
            appended: VecDeque::new(),
        }
    }

    pub(super) fn appended(&mut self, index: Index, now: MonotonicTime) {
        self.counters.entries += 1;
        if self.appended.len() < UNDER_WAY {
            self.appended.push_back((index, now));
        }
    }

    pub(super) fn released(&mut self, index: Index, now: MonotonicTime) {
        while let Some(&(first, at)) = self.appended.front()
            && first <= index
        {
            self.appended.pop_front();
            self.commit.saturating_record(nanos(now.since(at)));
        }
    }

    pub(super) fn stepped(&mut self, took: Duration) {
        self.step.saturating_record(nanos(took));
    }

    pub(super) fn froze(&mut self, took: Duration) {
        self.storage.freeze.saturating_record(nanos(took));
    }

    /// The journal wrote a batch.
    pub(super) fn committed(&mut self, took: Duration) {
        self.storage.commit.saturating_record(nanos(took));
    }

    /// Notes how far a checkpoint has come.
    pub(super) fn on_transfer(&mut self, response: &StorageResponse) {
        match response {
            StorageResponse::ChunksWritten { have, .. } => {
                if let Some(joining) = &mut self.storage.joining {
                    joining.have = *have;
                }
            }
            StorageResponse::Installed(_) => self.storage.joining = None,
            _ => {}
        }
    }

    pub(super) fn snapshot(
        &self,
        (clients, handshakes): (usize, ListenStats),
        removals: Removals,
        storage: StorageMetrics,
        descriptors: &Descriptors,
    ) -> MetricsSnapshot {
        MetricsSnapshot {
            counters: self.counters,
            commit: self.commit.clone(),
            step: self.step.clone(),
            clients,
            clients_by_key: ClientsMetrics::default(),
            handshakes,
            removals,
            storage,
            devices: Vec::new(),
            descriptors: DescriptorMetrics {
                total: descriptors.total(),
                taken: descriptors.taken(),
                exhausted: exhaustion::met(),
            },
            memory: Memory::default(),
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order")
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(LONGEST).clamp(1, LONGEST)
}
