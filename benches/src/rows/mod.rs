//! The rows. Each says which processes it needs; the harness does the rest.
//!
//! To add one: implement [`Row`], put it into [`all`], and its parts into
//! [`play`]. What a round needs on disk (keys, configuration) is made in
//! [`Row::cast`] and kept by [`Cast::keep`].

mod lockstep;
mod quinn;
mod raft;
mod synced;
mod udp;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use ::lockstep::store::replica::Durability;

use crate::harness::{Cast, RunError, Setup};
use crate::part::{self, PartError};
use crate::talk::Go;

/// The row that the others are compared with.
pub const REFERENCE: &str = "quinn";

/// One line of the table.
pub trait Row {
    /// The row's name for `--rows`.
    fn name(&self) -> &'static str;

    /// One sentence on what a trip is.
    fn about(&self) -> &'static str;

    /// Why it cannot be measured here, with what to do about it.
    fn unavailable(&self, setup: &Setup) -> Option<String> {
        let _ = setup;
        None
    }

    /// The processes of one round.
    fn cast(&self, setup: &Setup) -> Result<Cast, RunError>;
}

/// Every row, in the order of the table.
pub fn all() -> Vec<Box<dyn Row>> {
    vec![
        Box::new(quinn::Stream),
        Box::new(udp::Datagrams),
        Box::new(lockstep::Commit(Durability::Memory)),
        Box::new(lockstep::Request(Durability::Memory)),
        Box::new(synced::Synced),
        Box::new(lockstep::Commit(Durability::Journal)),
        Box::new(lockstep::Request(Durability::Journal)),
        Box::new(raft::Raft { nodes: raft::Nodes::Three }),
        Box::new(raft::Raft { nodes: raft::Nodes::Two }),
    ]
}

/// Plays the part named on the command line (what follows the word `part`).
pub fn play(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    part::play(arguments, |part| match part.options.kind.as_str() {
        quinn::ECHO => quinn::echo(&part),
        quinn::DRIVE => quinn::drive(&part),
        synced::ECHO => synced::echo(&part),
        synced::DRIVE => synced::drive(&part),
        udp::ECHO => udp::echo(&part),
        udp::DRIVE => udp::drive(&part),
        lockstep::WITNESS => lockstep::witness(&part),
        lockstep::COSERVER => lockstep::coserver(&part),
        lockstep::COMMIT => lockstep::commit(&part),
        lockstep::CLIENT => lockstep::client(&part),
        other => Err(PartError::Arguments(format!("no part is called {other}"))),
    })
}

/// Any free port; nothing here leaves the machine.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where the first part that listens does so, and what else it said.
fn far_side(go: &Go) -> Result<(SocketAddr, &str), PartError> {
    let far = go.parts.iter().find_map(|part| Some((part.address?, part.detail.as_str())));
    far.ok_or_else(|| PartError::NoGo("no part listens".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_reference_is_one_of_them() {
        let names: Vec<_> = all().iter().map(|row| row.name()).collect();
        assert!(names.contains(&REFERENCE));
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}
