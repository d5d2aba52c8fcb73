//! What a CoServer's settings permit of memory, in its status.

use serde::Serialize;

use crate::runtime::memory::{Memory, Term};

/// Memory, in sum.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryReport {
    /// Bytes that the settings permit.
    pub permitted: u64,
    /// Bytes that the process may have; `null` where the system does not say.
    pub available: Option<u64>,
    /// What bounds them: `cgroup`, `address_space` or `machine`.
    pub bound_by: Option<&'static str>,
    /// Whether more is permitted than there is.
    pub short: bool,
    /// The terms of that sum, the largest first.
    pub terms: Vec<MemoryTermReport>,
}

/// What one memory pool may take.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryTermReport {
    /// The pool's name.
    pub name: &'static str,
    /// Most bytes that the pool may take.
    pub bytes: u64,
    /// The setting that bounds the pool; `None` if its bound is fixed.
    pub setting: Option<&'static str>,
}

impl MemoryReport {
    pub(super) fn new(memory: &Memory) -> Self {
        let term =
            |&Term { name, bytes, setting }: &Term| MemoryTermReport { name, bytes, setting };
        Self {
            permitted: memory.permitted(),
            available: memory.available.map(|available| available.bytes),
            bound_by: memory.available.map(|available| available.by.as_str()),
            short: memory.short_of().is_some(),
            terms: memory.terms.iter().map(term).collect(),
        }
    }
}
