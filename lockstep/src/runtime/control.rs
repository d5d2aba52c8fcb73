//! A process's own directory and the control socket in it.
//!
//! [`DataDirectory`] makes sure that one process at a time uses a directory. In it the process
//! listens on `control.sock`, a Unix socket that only its own user may use (mode 0600, in a
//! directory of mode 0700). [`serve`] answers there, and [`ask`] asks. The protocol is lines: a
//! command, and for every command one line of JSON. An error is
//! `{"error":{"code":"...","message":"..."}}`.

mod ask;
mod directory;
mod memory;
mod report;
mod serve;
mod sessions;

pub use ask::{AskError, ask, stop};
pub use directory::{DataDirectory, DirectoryError};
pub use memory::{MemoryReport, MemoryTermReport};
pub use report::{
    CoServerControl, CoServerReport, LinkReport, MetricsReport, PeerKeys, Percentiles,
};
pub use serve::{Answer, Refusal, serve};
pub use sessions::SessionsReport;

/// The socket's name in its directory.
pub const SOCKET: &str = "control.sock";

#[cfg(test)]
mod tests;
