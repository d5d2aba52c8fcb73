//! The limit on file descriptors: raised at the start, and shared out before any connection of a
//! stranger is taken.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::device::Descriptors;
use crate::limits::{DESCRIPTORS_LEAST, DESCRIPTORS_MOST, DESCRIPTORS_VITAL};

/// The limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The limit that the process was started with.
    pub before: u64,
    /// The limit now.
    pub now: u64,
}

/// Raises the soft limit to the hard one, or to [`DESCRIPTORS_MOST`]. To be called at the start
/// of a process; [`run_coserver`](crate::runtime::cli::run_coserver) and
/// [`run_witness`](crate::runtime::cli::run_witness) do.
///
/// If the system refuses that, the limit stays.
pub fn raise() -> DescriptorLimit {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let before = current.unwrap_or(u64::MAX);
    let wanted = maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_MOST);
    let raised = before < wanted
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    DescriptorLimit { before, now: if raised { wanted } else { before } }
}

/// Descriptors that this process has open; those of one whose list cannot be had are taken
/// for few.
fn open_now() -> u64 {
    const UNKNOWN: u64 = 32;
    let list = || -> io::Result<usize> { Ok(std::fs::read_dir("/dev/fd")?.count()) };
    list().map_or(UNKNOWN, |count| count as u64)
}

/// There are not even enough for a few connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} file descriptors, has {open} open and keeps {DESCRIPTORS_VITAL} \
     for links, witness, journal, checkpoints and control: for its devices it needs a limit of {} \
     at least: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=` of systemd)",
    open + u64::from(DESCRIPTORS_VITAL + DESCRIPTORS_LEAST)
)]
pub struct TooFew {
    /// Most descriptors that the process may have.
    pub limit: u64,
    /// How many descriptors are open before any connection.
    pub open: u64,
}

/// What is left for devices that would have up to `wanted` connections, once everything vital
/// that will be open at any time is put aside. To be called when everything that stays open is.
///
/// # Errors
/// If that is too little to serve anybody.
pub(crate) fn share_out(wanted: u32) -> Result<Descriptors, TooFew> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = open_now();
    let left = left_of(limit, open);
    if wanted == 0 {
        return Ok(Descriptors::new(left));
    }
    if left < DESCRIPTORS_LEAST {
        return Err(TooFew { limit, open });
    }
    let descriptors = Descriptors::new(left);
    if descriptors.for_accepted() < wanted {
        let needed = open + u64::from(DESCRIPTORS_VITAL) + u64::from(Descriptors::for_all(wanted));
        tracing::warn!(
            event = "descriptors_short",
            limit,
            wanted,
            left,
            needed,
            "the settings allow more connections than there are file descriptors for; the pair \
             takes no more than `left`: raise the hard limit to `needed` (`LimitNOFILE=` of \
             systemd), or allow fewer connections"
        );
    }
    Ok(descriptors)
}

fn left_of(limit: u64, open: u64) -> u32 {
    let left = limit.saturating_sub(open).saturating_sub(DESCRIPTORS_VITAL.into());
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_vital_is_put_aside_first() {
        let vital = u64::from(DESCRIPTORS_VITAL);
        assert_eq!(left_of(1024, 30), 1024 - 30 - DESCRIPTORS_VITAL);
        assert_eq!(left_of(30 + vital, 30), 0);
        assert_eq!(left_of(10, 30), 0);
        assert_eq!(left_of(u64::MAX, 30), u32::MAX);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let first = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current.unwrap_or(u64::MAX), first.now);
        let most = now.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_MOST);
        assert!(first.now >= most, "{first:?} of {most}");
        assert_eq!(raise(), DescriptorLimit { before: first.now, now: first.now });
    }

    #[test]
    fn too_few_is_said_with_what_would_do() {
        let said = TooFew { limit: 64, open: 20 }.to_string();
        let least = 20 + DESCRIPTORS_VITAL + DESCRIPTORS_LEAST;
        assert!(said.contains(&format!("a limit of {least} at least")), "{said}");
    }
}
