//! How much memory the settings permit in sum, compared at the start with what this process
//! may have.
//!
//! Every pool has a bound of its own ([`limits`]). Together they may be more than a machine or a
//! control group gives. Then the system ends the process just when all of it is used, which is for
//! strangers to decide. So the sum is said beforehand.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::limits;
use crate::runtime::coserver::Settings;
use crate::runtime::quic;
use crate::runtime::tls::Purpose;

pub use available::{Available, BoundBy};
use available::{Present, Sources};

mod available;

/// What journal, checkpoints and what a joiner reads or writes have in hand. The journal has a
/// batch as it is gathered, laid out and written, and one that is read. A checkpoint has a record,
/// a block and its compressed form. The rest are pieces that were asked for on either side.
const DISK_BYTES: usize = 4 * limits::FRAME_BYTES
    + 3 * limits::RECORD_BYTES
    + 8 * limits::CHUNKS_AHEAD * limits::CHUNK_BYTES;

/// How many terms the log names: those that an operator would look at first.
const SAID: usize = 4;

/// What one pool may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The pool, by a stable name.
    pub name: &'static str,
    /// Bytes that it holds at most.
    pub bytes: u64,
    /// The setting that bounds it, where there is one.
    pub setting: Option<&'static str>,
}

/// What the settings permit, and what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The pools, the largest first.
    pub terms: Vec<Term>,
    /// What the process may have, where the system says so.
    pub available: Option<Available>,
}

impl Memory {
    /// Sums up what these settings permit, and looks for what there is. `devices` is what their
    /// inputs may take that wait for the loop, `service` what the service says of itself
    /// ([`StateMachine::memory_bound`](crate::machine::StateMachine::memory_bound)).
    pub(crate) fn look(settings: &Settings, service: u64, devices: u64) -> Self {
        let sources =
            Sources { root: Path::new("/"), address_space: getrlimit(Resource::As).current };
        Self::of(settings, [service, devices], sources.available(), sources.present())
    }

    fn of(
        settings: &Settings,
        own: [u64; 2],
        available: Option<Available>,
        present: Present,
    ) -> Self {
        let mut terms = terms(settings, own);
        let bytes = match available {
            Some(Available { by: BoundBy::AddressSpace, .. }) => present.size,
            _ => present.resident,
        };
        terms.push(Term { name: "present", bytes, setting: None });
        terms.retain(|term| term.bytes > 0);
        terms.sort_by_key(|term| (core::cmp::Reverse(term.bytes), term.name));
        Self { terms, available }
    }

    /// All terms together.
    pub fn permitted(&self) -> u64 {
        self.terms.iter().fold(0, |sum, term| sum.saturating_add(term.bytes))
    }

    /// What there is, if that is less than is permitted.
    pub fn short_of(&self) -> Option<Available> {
        self.available.filter(|available| available.bytes < self.permitted())
    }

    /// The largest terms, in words.
    fn largest(&self) -> String {
        let words = |term: &Term| match term.setting {
            Some(setting) => format!("{} {} ({setting})", term.name, term.bytes),
            None => format!("{} {}", term.name, term.bytes),
        };
        self.terms.iter().take(SAID).map(words).collect::<Vec<_>>().join(", ")
    }

    /// Says so if it is short. The process goes on: what is permitted need never be used. A limit
    /// that an operator has set is a warning. That the machine has no more is none, since the usual
    /// settings permit more than small machines have.
    pub(crate) fn say(&self) {
        let Some(Available { bytes: available, by }) = self.short_of() else { return };
        let (permitted, largest, bound_by) = (self.permitted(), self.largest(), by.as_str());
        let todo = format!(
            "{}, or lower the settings that `largest` names: when all of it is used the system ends \
             the process or refuses it memory",
            by.remedy()
        );
        match by {
            BoundBy::Machine => tracing::info!(
                event = "memory_short",
                permitted,
                available,
                bound_by,
                largest,
                todo,
                "the settings permit more bytes of memory than the machine has"
            ),
            BoundBy::ControlGroup | BoundBy::AddressSpace => tracing::warn!(
                event = "memory_short",
                permitted,
                available,
                bound_by,
                largest,
                todo,
                "the settings permit more bytes of memory than this process may have"
            ),
        }
    }
}

/// What each pool holds at most. Bytes of payload: what tables and the allocator add is
/// not counted.
fn terms(settings: &Settings, [service, devices]: [u64; 2]) -> Vec<Term> {
    let per_connection = |purpose| quic::Settings::of(purpose).bytes_beside_queue();
    let queued = |purpose| {
        let quic::Settings { queue, urgent, .. } = quic::Settings::of(purpose);
        queue + urgent + per_connection(purpose)
    };
    let witnesses = 1 + usize::from(settings.alternate.is_some());
    // Without a port for them there are no clients, no sessions and no replies.
    let clients = usize::from(settings.clients.is_some());
    let connections = clients * settings.client_connections * per_connection(Purpose::Client);
    // A guardian comes to a link's port, and is told nothing.
    let link = queued(Purpose::Link) + per_connection(Purpose::Link);
    let links = settings.links.len() * link + witnesses * queued(Purpose::Witness);
    let term = |name, bytes: usize, setting| Term { name, bytes: bytes as u64, setting };
    vec![
        // The log, and beside it what came early.
        term("window", settings.window_bytes.saturating_mul(2), Some("limits.window_bytes")),
        // Inputs of clients that wait to be ordered, and copies of the other CoServer's.
        term("inputs", 2 * limits::KEPT_BYTES, None),
        Term { name: "devices", bytes: devices, setting: None },
        term("links", links, None),
        term("clients", connections, Some("limits.clients")),
        term("answers", clients * limits::CLIENT_QUEUES_BYTES, None),
        // A checkpoint that is being written keeps those that are given up meanwhile.
        term("replies", 2 * clients * limits::REPLIES_BYTES, None),
        term("disk", DISK_BYTES, None),
        Term { name: "service", bytes: service, setting: None },
    ]
}

#[cfg(test)]
mod tests;
