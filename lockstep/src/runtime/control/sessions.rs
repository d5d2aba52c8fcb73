//! What the clients' sessions come to, for the status.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::loss::Loss;
use crate::proto::SessionCounts;

/// The clients' sessions, of the pair.
#[derive(Debug, Clone, Serialize)]
pub struct SessionsReport {
    /// How many are open.
    pub open: usize,
    /// What the replies that are kept for them cost, in bytes.
    pub reply_bytes: usize,
    /// What was lost by the rules of sessions since this process became a member, by its name.
    pub lost: BTreeMap<&'static str, u64>,
}

impl SessionsReport {
    pub(super) fn new(counts: &SessionCounts) -> Self {
        let SessionCounts { open, reply_bytes, lost } = *counts;
        Self { open, reply_bytes, lost: Loss::ALL.map(Loss::name).into_iter().zip(lost).collect() }
    }
}
