//! What a witness says about itself. Field names are stable; fields may be added.

use std::collections::{BTreeMap, BTreeSet};

use std::path::PathBuf;

use serde::Serialize;
use tracing::field::display;

use super::WitnessHandle;
use super::troubles::TroubleReport;
use crate::ids::{PairId, ReplicaId};
use crate::record::Record;
use crate::runtime::config::replace_pair_key;
use crate::runtime::control::{Answer, Refusal};
use crate::runtime::keys::{PublicKey, Role, RosterError};
use crate::runtime::tls::Credentials;
use crate::witness::{StoreError, Told, Witness};

const COMMANDS: &str = "status, replace-key PAIR PLACE KEY, stop";

/// Answers at a witness's control socket.
#[derive(Debug, Clone)]
pub struct WitnessControl {
    handle: WitnessHandle,
    keys: Option<PairKeys>,
}

/// Where a witness keeps the CoServers' keys.
#[derive(Debug, Clone)]
pub struct PairKeys {
    /// Its configuration file.
    pub file: PathBuf,
    /// The credentials of its port.
    pub credentials: Credentials,
}

impl PairKeys {
    /// First the file, so that what counts from now on does so after a restart too.
    async fn replace(&self, handle: &WitnessHandle, arguments: &str) -> Result<(), Refusal> {
        let form = || Refusal::unknown("replace-key", COMMANDS);
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let [pair, place, key] = words[..] else { return Err(form()) };
        let pair: PairId = pair.parse().map_err(|_| form())?;
        let place =
            ReplicaId::BOTH.into_iter().find(|at| at.to_string() == place).ok_or_else(form)?;
        let key: PublicKey = key.parse().map_err(|error| Refusal::not_done(&error))?;
        let old = handle.keys(pair, place).await.ok_or_else(Refusal::ending)?;
        let old = old.ok_or_else(|| Refusal::not_done(&StoreError::Unknown { pair }))?;
        let role = Role::CoServer(place);
        let known = self.credentials.roster().role_of(&key).is_some() && !old.contains(&key);
        if known {
            // A key speaks for one place of one pair.
            let held = self.credentials.roster().role_of(&key).unwrap_or(role);
            let error = RosterError::TwoRoles { key, held, wanted: role };
            return Err(Refusal::not_done(&error));
        }
        let refused = |error| Refusal::not_done(&error);
        self.credentials.check_replacement(role, &old, key).map_err(refused)?;
        replace_pair_key(&self.file, pair, place, key)?;
        self.credentials.replace(role, &old, key).map_err(refused)?;
        tracing::warn!(event = "key_replaced", %pair, %place, %key);
        handle.replaced(pair, place, key).await.ok_or_else(Refusal::ending)
    }
}

impl WitnessControl {
    /// For this witness.
    pub fn new(handle: WitnessHandle) -> Self {
        Self { handle, keys: None }
    }

    /// The same, and it replaces a CoServer's key when it is told to.
    #[must_use]
    pub fn with_keys(self, keys: PairKeys) -> Self {
        Self { keys: Some(keys), ..self }
    }
}

impl Answer for WitnessControl {
    async fn answer(&self, command: &str) -> Result<serde_json::Value, Refusal> {
        match command {
            "status" => {
                let report = self.handle.status().await.ok_or_else(Refusal::ending)?;
                serde_json::to_value(report).map_err(|_| Refusal::ending())
            }
            "stop" if self.handle.stop() => Ok(serde_json::json!({ "taken": command })),
            "stop" => Err(Refusal::ending()),
            other => match (other.strip_prefix("replace-key "), &self.keys) {
                (Some(arguments), Some(keys)) => {
                    keys.replace(&self.handle, arguments).await?;
                    Ok(serde_json::json!({ "replaced": arguments.trim() }))
                }
                _ => Err(Refusal::unknown(other, COMMANDS)),
            },
        }
    }
}

/// A record was granted.
pub(super) fn say_granted(record: &Record) {
    let member = |place| record.members.at(place).map(display);
    tracing::info!(
        event = "granted",
        pair = %record.pair,
        lineage = record.lineage.0,
        epoch = record.epoch.0,
        origin = record.origin.name(),
        a = member(ReplicaId::A),
        b = member(ReplicaId::B),
        asker = %record.asker
    );
}

/// A CoServer knows of a later epoch than the record here.
pub(super) fn say_behind(pair: PairId, ours: Told, told: Told) {
    tracing::error!(
        event = "behind",
        %pair,
        lineage = ours.lineage.0,
        epoch = ours.epoch.0,
        told_lineage = told.lineage.0,
        told_epoch = told.epoch.0
    );
}

/// A witness's state at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct WitnessReport {
    /// Always `witness`.
    pub kind: &'static str,
    /// The process id.
    pub pid: u32,
    /// How many connections CoServers have here.
    pub connections: usize,
    /// The pairs that it serves, in the order of their ids.
    pub pairs: Vec<PairReport>,
}

/// What a witness knows of one pair.
#[derive(Debug, Clone, Serialize)]
pub struct PairReport {
    /// The pair's id.
    pub pair: String,
    /// How many connections the pair's place `a` and its place `b` have.
    pub connections: [usize; 2],
    /// The pair's record. It is `null` if the pair is refused: its record cannot be read or
    /// written, or its members know of a later one.
    pub record: Option<RecordReport>,
    /// What the witness waits for before it can give or write a record.
    pub waits_for: Option<TroubleReport>,
}

/// A pair's record.
#[derive(Debug, Clone, Serialize)]
pub struct RecordReport {
    /// The record's lineage.
    pub lineage: u32,
    /// The number of the epoch.
    pub epoch: u64,
    /// How it came about: `vacant`, `formed`, `alone`, `restarted`, `joined`, `left`, `adopted` or
    /// `renewal`.
    pub origin: &'static str,
    /// Incarnation of the member at place `a`, in hexadecimal; `null` if there is none.
    pub a: Option<String>,
    /// Incarnation of the member at place `b`, in hexadecimal; `null` if there is none.
    pub b: Option<String>,
    /// The place that asked for the record.
    pub asker: String,
}

impl WitnessReport {
    #[expect(clippy::disallowed_methods, reason = "tells an operator which process this is")]
    pub(super) fn new(
        core: &Witness,
        pairs: &BTreeSet<PairId>,
        askers: impl Iterator<Item = (PairId, ReplicaId)>,
        trouble: impl Fn(PairId) -> Option<TroubleReport>,
    ) -> Self {
        let mut connections: BTreeMap<PairId, [usize; 2]> = BTreeMap::new();
        for (pair, place) in askers {
            connections.entry(pair).or_default()[place.slot()] += 1;
        }
        let report = |pair: &PairId| PairReport {
            pair: pair.to_string(),
            connections: connections.get(pair).copied().unwrap_or_default(),
            record: core.present(*pair).map(RecordReport::new),
            waits_for: trouble(*pair),
        };
        Self {
            kind: "witness",
            pid: std::process::id(),
            connections: connections.values().flatten().sum(),
            pairs: pairs.iter().map(report).collect(),
        }
    }
}

impl RecordReport {
    fn new(record: &Record) -> Self {
        let member = |place| record.members.at(place).map(|member| member.to_string());
        Self {
            lineage: record.lineage.0,
            epoch: record.epoch.0,
            origin: record.origin.name(),
            a: member(ReplicaId::A),
            b: member(ReplicaId::B),
            asker: record.asker.to_string(),
        }
    }
}
