//! What a CoServer says about itself. Field names are stable; fields may be added.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::memory::MemoryReport;
use super::sessions::SessionsReport;
use super::{Answer, Refusal};
use crate::event::Wait;
use crate::ids::{Epoch, ReplicaId};
use crate::proto::io::LinkStatus;
use crate::proto::{Command, Removals, Standing, Status};
use crate::runtime::config::replace_peer;
use crate::runtime::coserver::{ClientMetrics, Counters, Handle, MetricsSnapshot, StorageMetrics};
use crate::runtime::keys::{PublicKey, Role};
use crate::runtime::link::ListenStats;
use crate::runtime::tls::Credentials;
use crate::store::replica::Durability;

const COMMANDS: &str = "status, metrics, hand-over, readmit, replace-peer KEY, stop";

/// Answers at a CoServer's control socket.
#[derive(Debug, Clone)]
pub struct CoServerControl {
    handle: Handle,
    service: String,
    /// What a new key of the other CoServer goes into.
    keys: Option<PeerKeys>,
}

/// Where a CoServer keeps the other one's key.
#[derive(Debug, Clone)]
pub struct PeerKeys {
    /// The process's configuration file.
    pub file: PathBuf,
    /// The credentials of its ports.
    pub credentials: Credentials,
    /// The other's place.
    pub place: ReplicaId,
}

impl PeerKeys {
    /// First the file, so that what counts from now on does so after a restart too.
    fn replace(&self, key: &str) -> Result<(), Refusal> {
        let key: PublicKey = key.parse().map_err(|error| Refusal::not_done(&error))?;
        let role = Role::CoServer(self.place);
        let old: Vec<_> = self.credentials.roster().keys_of(role).copied().collect();
        let refused = |error| Refusal::not_done(&error);
        self.credentials.check_replacement(role, &old, key).map_err(refused)?;
        replace_peer(&self.file, key)?;
        self.credentials.replace(role, &old, key).map_err(refused)?;
        tracing::warn!(event = "key_replaced", place = %self.place, %key);
        Ok(())
    }
}

impl CoServerControl {
    /// For this CoServer, which runs the service of this name.
    pub fn new(handle: Handle, service: impl Into<String>) -> Self {
        Self { handle, service: service.into(), keys: None }
    }

    /// The same, and it replaces the other's key when it is told to.
    #[must_use]
    pub fn with_keys(self, keys: PeerKeys) -> Self {
        Self { keys: Some(keys), ..self }
    }

    fn replace_peer(&self, key: &str) -> Result<serde_json::Value, Refusal> {
        let keys = self.keys.as_ref().ok_or_else(|| Refusal::unknown("replace-peer", COMMANDS))?;
        keys.replace(key)?;
        self.handle.repinned().map_err(|_| Refusal::ending())?;
        Ok(serde_json::json!({ "replaced": key.trim() }))
    }

    async fn status(&self) -> Result<serde_json::Value, Refusal> {
        let status = self.handle.status().await.map_err(|_| Refusal::ending())?;
        let metrics = self.handle.metrics().await.map_err(|_| Refusal::ending())?;
        Ok(json(&CoServerReport::new(&self.service, &status, &metrics)))
    }

    async fn metrics(&self) -> Result<serde_json::Value, Refusal> {
        let metrics = self.handle.metrics().await.map_err(|_| Refusal::ending())?;
        Ok(json(&MetricsReport::new(&metrics)))
    }

    async fn hand_over(&self) -> Result<serde_json::Value, Refusal> {
        let done = self.handle.hand_over().await.map_err(|_| Refusal::ending())?;
        done.map_err(|refused| Refusal::not_now(&refused))?;
        Ok(serde_json::json!({ "taken": "hand-over", "done_with": "event handed_over" }))
    }

    async fn readmit(&self) -> Result<serde_json::Value, Refusal> {
        let done = self.handle.readmit().await.map_err(|_| Refusal::ending())?;
        let divergences = done.map_err(|refused| Refusal::not_now(&refused))?;
        Ok(serde_json::json!({ "readmitted": { "divergences": divergences } }))
    }

    /// Taken, and under way: what comes of it is in the log.
    fn command(&self, command: Command, said: &str) -> Result<serde_json::Value, Refusal> {
        self.handle.command(command).map_err(|_| Refusal::ending())?;
        Ok(serde_json::json!({ "taken": said }))
    }
}

impl Answer for CoServerControl {
    async fn answer(&self, command: &str) -> Result<serde_json::Value, Refusal> {
        match command {
            "status" => self.status().await,
            "metrics" => self.metrics().await,
            "hand-over" => self.hand_over().await,
            "readmit" => self.readmit().await,
            "stop" => self.command(Command::Stop, command),
            other => match other.strip_prefix("replace-peer ") {
                Some(key) => self.replace_peer(key),
                None => Err(Refusal::unknown(other, COMMANDS)),
            },
        }
    }
}

fn json(report: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(report).unwrap_or_else(|error| {
        // Only a map with keys that are no strings would do this.
        serde_json::json!({ "error": { "code": "defect", "message": error.to_string() } })
    })
}

/// A CoServer's state at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct CoServerReport {
    /// Always `coserver`.
    pub kind: &'static str,
    /// The service's name.
    pub service: String,
    /// The process id.
    pub pid: u32,
    /// `a` or `b`.
    pub place: String,
    /// `sequencer`, `follower`, or `none` while it is no member.
    pub role: &'static str,
    /// `starting`, `joining`, `duplex`, `simplex`, `holding` or `out`.
    pub mode: &'static str,
    /// The epoch; 0 while it is no member.
    pub epoch: u64,
    /// The lineage; 0 while it is no member.
    pub lineage: u32,
    /// The place of the sequencer; `null` while it is unknown.
    pub sequencer: Option<String>,
    /// This process's incarnation, in hexadecimal.
    pub incarnation: String,
    /// What the CoServer waits for; `null` if it goes on as it should.
    pub waits_for: Option<WaitReport>,
    /// The last entry that the CoServer holds.
    pub held: u64,
    /// The last entry that it has executed.
    pub executed: u64,
    /// The last entry on which both agree, or that the CoServer may release alone.
    pub agreed: u64,
    /// The last entry whose outputs it has released.
    pub released: u64,
    /// How many inputs were taken here and not yet seen ordered.
    pub kept: usize,
    /// The other CoServer, as this one sees it.
    pub peer: PeerReport,
    /// The links to the other CoServer.
    pub links: Vec<LinkReport>,
    /// Whether the witness in use is connected.
    pub witness: bool,
    /// Slot of the witness in use: 0 for the preferred one, 1 for the alternate.
    pub witness_slot: u8,
    /// How many clients are connected here.
    pub clients: usize,
    /// What the keys with most connections have here.
    pub client_keys: Vec<ClientReport>,
    /// How many further keys have something here.
    pub client_keys_left_out: usize,
    /// The clients' sessions.
    pub sessions: SessionsReport,
    /// What the service's devices count.
    pub devices: Vec<DeviceReport>,
    /// The silence timeout in force, in microseconds.
    pub silence_us: u64,
    /// Log time at the last entry, in nanoseconds since the Unix epoch.
    pub log_time_ns: u64,
    /// File descriptors for the devices' connections, TCP ones among them.
    pub descriptors: DescriptorsReport,
    /// What the settings permit of memory, and what there was at the start.
    pub memory: MemoryReport,
    /// The disk, with its journal and its checkpoints.
    pub storage: StorageReport,
    /// Counters and latencies.
    pub metrics: MetricsReport,
}

/// What a client's key has of this CoServer.
#[derive(Debug, Clone, Serialize)]
pub struct ClientReport {
    /// The key's name in the configuration; without one, the beginning of the key.
    pub client: String,
    /// The key in its text form.
    pub key: String,
    /// How many connections the key has here.
    pub connections: usize,
    /// Most connections that the key may have; `null` if the configuration sets no limit.
    pub connections_most: Option<usize>,
    /// Connections turned away since the start.
    pub refused: u64,
    /// Connections closed since the start to make room for others, or because the key may have
    /// fewer now.
    pub displaced: u64,
    /// Connections closed since the start because too many answers waited for the client.
    pub unread: u64,
    /// `all`, or `read`: only requests that change nothing.
    pub rights: &'static str,
    /// Requests refused since the start because the key may only read.
    pub requests_refused: u64,
}

impl ClientReport {
    fn new(client: &ClientMetrics) -> Self {
        let ClientMetrics { key, terms, counts } = client;
        Self {
            client: terms.name.as_ref().map_or_else(|| key.short(), ToString::to_string),
            key: key.to_string(),
            connections: counts.connections,
            connections_most: terms.connections,
            refused: counts.refused,
            displaced: counts.displaced,
            unread: counts.unread,
            rights: terms.rights.as_str(),
            requests_refused: counts.requests_refused,
        }
    }
}

/// File descriptors: each connection of a device takes one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DescriptorsReport {
    /// For how many connections there are some.
    pub total: u32,
    /// How many are taken.
    pub taken: u32,
    /// Errors of this process for want of a descriptor, of memory, or of space.
    pub exhausted: u64,
}

/// The state of a CoServer's disk.
#[derive(Debug, Clone, Serialize)]
pub struct StorageReport {
    /// `journal` or `memory`.
    pub durability: &'static str,
    /// Whether the disk has failed, so that nothing more is done on it.
    pub failed: bool,
    /// The last entry written, and synced unless `durability` is `memory`.
    pub persisted: u64,
    /// Everything after this entry is in the journal.
    pub journal_base: u64,
    /// Bytes of the journal's files, spare ones aside.
    pub journal_bytes: u64,
    /// The entry of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Bytes of its file.
    pub checkpoint_bytes: Option<u64>,
    /// The last entry replayed, while the state is being restored.
    pub replayed: Option<u64>,
    /// The checkpoint that is being received.
    pub joining: Option<JoiningReport>,
}

/// What one device counts.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// The device's name in the service's table.
    pub name: String,
    /// The device's counts, by names of its own.
    pub counts: BTreeMap<&'static str, u64>,
}

impl DeviceReport {
    fn new((name, counts): &(String, Vec<(&'static str, u64)>)) -> Self {
        Self { name: name.clone(), counts: counts.iter().copied().collect() }
    }
}

/// What a CoServer waits for.
#[derive(Debug, Clone, Serialize)]
pub struct WaitReport {
    /// The stable name of what is waited for, as in the event `waits_for`.
    pub reason: &'static str,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// For people: what is missing.
    pub why: String,
    /// For people: what to do about it.
    pub todo: String,
}

impl WaitReport {
    fn new(wait: Wait, span: Duration) -> Self {
        let for_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            reason: wait.name(),
            for_ms,
            why: wait.to_string(),
            todo: wait.remedy().into_owned(),
        }
    }
}

/// A checkpoint on its way here.
#[derive(Debug, Clone, Serialize)]
pub struct JoiningReport {
    /// The entry of the checkpoint.
    pub checkpoint: u64,
    /// Bytes of the checkpoint that are on disk.
    pub have: u64,
    /// Length of the checkpoint in bytes.
    pub of: u64,
}

impl StorageReport {
    fn new(storage: &StorageMetrics) -> Self {
        let gauges = &storage.gauges;
        Self {
            durability: match storage.durability {
                Durability::Journal => "journal",
                Durability::Memory => "memory",
            },
            failed: storage.failed,
            persisted: gauges.persisted.0,
            journal_base: gauges.journal_base.0,
            journal_bytes: gauges.journal_bytes,
            checkpoint: gauges.checkpoint.map(|newest| newest.index.0),
            checkpoint_bytes: gauges.checkpoint.map(|newest| newest.len),
            replayed: storage.replayed.map(|index| index.0),
            joining: storage.joining.map(|joining| JoiningReport {
                checkpoint: joining.checkpoint.0,
                have: joining.have,
                of: joining.of,
            }),
        }
    }
}

/// What is known of the other CoServer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerReport {
    /// Incarnation of the other CoServer's process, in hexadecimal; `null` until the two have met.
    pub incarnation: Option<String>,
    /// The last entry that it is known to hold.
    pub held: u64,
    /// The last that it is known to have executed.
    pub executed: u64,
    /// Whether the other CoServer computed something else too often, and is not taken in before the
    /// command `readmit`.
    pub held_for_repair: bool,
}

/// The state of one link.
#[derive(Debug, Clone, Serialize)]
pub struct LinkReport {
    /// The link's position in the configuration.
    pub link: u8,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether heartbeats come back.
    pub up: bool,
    /// Smoothed round trip of heartbeats, in microseconds; `null` until one came back.
    pub round_trip_us: Option<u64>,
}

impl CoServerReport {
    /// Puts it together.
    #[expect(clippy::disallowed_methods, reason = "tells an operator which process this is")]
    pub fn new(service: &str, status: &Status, metrics: &MetricsSnapshot) -> Self {
        let (mode, sequencer) = mode(status);
        let record = status.record;
        Self {
            kind: "coserver",
            service: service.into(),
            pid: std::process::id(),
            place: status.place.to_string(),
            role: match (mode, status.is_sequencer) {
                ("starting" | "joining" | "out", _) => "none",
                (_, true) => "sequencer",
                (_, false) => "follower",
            },
            mode,
            epoch: record.map_or(Epoch(0), |record| record.epoch).0,
            lineage: record.map_or(0, |record| record.lineage.0),
            sequencer: sequencer.map(|place| place.to_string()),
            incarnation: status.incarnation.to_string(),
            waits_for: status.wait.map(|(wait, span)| WaitReport::new(wait, span)),
            held: status.last_index.0,
            executed: status.executed.0,
            agreed: status.agreed.0,
            released: status.released.0,
            kept: status.pending,
            peer: PeerReport {
                incarnation: status.peer.map(|peer| peer.to_string()),
                held: status.peer_held.0,
                executed: status.peer_executed.0,
                held_for_repair: status.held_for_repair,
            },
            links: status.links.iter().map(LinkReport::new).collect(),
            witness: status.witness_up,
            witness_slot: status.witness_slot,
            clients: metrics.clients,
            client_keys: metrics.clients_by_key.shown.iter().map(ClientReport::new).collect(),
            client_keys_left_out: metrics.clients_by_key.left_out,
            sessions: SessionsReport::new(&status.sessions),
            devices: metrics.devices.iter().map(DeviceReport::new).collect(),
            silence_us: micros(status.silence),
            log_time_ns: status.time.0,
            descriptors: DescriptorsReport {
                total: metrics.descriptors.total,
                taken: metrics.descriptors.taken,
                exhausted: metrics.descriptors.exhausted,
            },
            memory: MemoryReport::new(&metrics.memory),
            storage: StorageReport::new(&metrics.storage),
            metrics: MetricsReport::new(metrics),
        }
    }
}

fn mode(status: &Status) -> (&'static str, Option<ReplicaId>) {
    match status.standing {
        Standing::Starting => ("starting", None),
        Standing::Joining => ("joining", None),
        Standing::Serving { duplex: true, sequencer, .. } => ("duplex", Some(sequencer)),
        Standing::Serving { sequencer, .. } => ("simplex", Some(sequencer)),
        Standing::Holding => ("holding", None),
        Standing::Out => ("out", None),
    }
}

impl LinkReport {
    fn new(status: &LinkStatus) -> Self {
        Self {
            link: status.link.0,
            connected: status.connected,
            up: status.up,
            round_trip_us: status.round_trip.map(micros),
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Counters since the start, and latencies.
#[derive(Debug, Clone, Serialize)]
pub struct MetricsReport {
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
    /// Frames dropped because a link's queue was full; sent again later.
    pub frames_dropped: u64,
    /// Frames refused because they were not valid.
    pub frames_invalid: u64,
    /// Clients turned away.
    pub clients_refused: u64,
    /// Attempts of clients to connect, up to their greeting.
    pub handshakes: HandshakesReport,
    /// How often this CoServer went on without the other one, by cause.
    pub removals: RemovalsReport,
    /// Time from an entry's being appended here to the release of its outputs here.
    pub commit: Percentiles,
    /// Time of a step of the service; empty where the service has its own thread.
    pub step: Percentiles,
    /// Time to write a batch of entries to the journal and sync it.
    pub sync: Percentiles,
    /// Time to freeze the state for a checkpoint; empty where the service has its own thread.
    pub freeze: Percentiles,
}

impl MetricsReport {
    /// Puts it together.
    pub fn new(metrics: &MetricsSnapshot) -> Self {
        let Counters {
            entries,
            released,
            answers,
            frames_sent,
            bytes_sent,
            frames_received,
            bytes_received,
            frames_dropped,
            frames_invalid,
            clients_refused,
        } = metrics.counters;
        Self {
            entries,
            released,
            answers,
            frames_sent,
            bytes_sent,
            frames_received,
            bytes_received,
            frames_dropped,
            frames_invalid,
            clients_refused,
            handshakes: HandshakesReport::new(metrics.handshakes),
            removals: RemovalsReport::new(metrics.removals),
            commit: Percentiles::of(&metrics.commit),
            step: Percentiles::of(&metrics.step),
            sync: Percentiles::of(&metrics.storage.commit),
            freeze: Percentiles::of(&metrics.storage.freeze),
        }
    }
}

/// What became of attempts to connect to the clients' port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HandshakesReport {
    /// Handshakes that were begun.
    pub begun: u64,
    /// Handshakes that ended in a connection.
    pub completed: u64,
    /// Attempts that had to prove their address first.
    pub retried: u64,
    /// Attempts that got no answer, since all places were taken.
    pub ignored: u64,
    /// Handshakes ended because their places were the share of others.
    pub displaced: u64,
    /// Packets of strangers that were dropped unread, since their senders had used up their share.
    pub dropped: u64,
}

impl HandshakesReport {
    fn new(stats: ListenStats) -> Self {
        let ListenStats { begun, completed, retried, ignored, displaced, dropped, .. } = stats;
        Self { begun, completed, retried, ignored, displaced, dropped }
    }
}

/// How often a CoServer went on without the other, as a member or as a joiner, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RemovalsReport {
    /// Times that no link to the other was up.
    pub silent: u64,
    /// Times that the other left, or another process came in its place.
    pub dead: u64,
    /// Times that the other did not keep up.
    pub slow: u64,
    /// Times that the other computed something else.
    pub diverged: u64,
}

impl RemovalsReport {
    fn new(removals: Removals) -> Self {
        let Removals { silent, dead, slow, diverged } = removals;
        Self { silent, dead, slow, diverged }
    }
}

/// A latency, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many values were measured.
    pub count: u64,
    /// The median: half took no longer.
    pub p50_ns: u64,
    /// 90 of 100 took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// 999 of 1000 took no longer.
    pub p999_ns: u64,
    /// The longest that was measured.
    pub max_ns: u64,
}

impl Percentiles {
    /// The percentiles of a histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}
