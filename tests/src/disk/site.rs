//! A pair with small files, so that a short run uses every one of them, on disks that can fail.

use std::path::PathBuf;
use std::time::Duration;

use crate::disk::load::Load;
use crate::disk::medium::Medium;
use crate::disk::part;
use crate::pair::{A, B, DEADLINE, Pair, Part, WITNESS};

/// Small files, and so that a checkpoint, a new segment and one that is used again come soon.
const STORAGE: &str = "[storage]\ncheckpoint_bytes = 65536\n\
    journal_keep_bytes = 262144\nmeeting = \"500ms\"\n";

/// One that is out ends soon: rounds wait for that.
const LINGER: &str = "[timing]\nlinger = \"200ms\"\n";

/// A witness that is quick to grant; what its grace is for is not the subject.
const GRACE: &str = "grace = \"200ms\"";

/// The silence timeout: short, since most rounds wait for one, and long enough for a debug build
/// on a busy machine.
pub const SILENCE: Duration = Duration::from_millis(2000);

/// A pair and what its CoServers' directories are on.
#[derive(Debug)]
pub struct TestSite {
    // The processes end before their disks are unmounted.
    /// The processes of the pair.
    pub pair: Pair,
    media: [Option<Medium>; 3],
}

impl TestSite {
    /// On ordinary disks; nothing is started.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn plain() -> Self {
        let pair = Pair::init(part(), SILENCE);
        for part in [A, B] {
            pair.change(part, "[storage]\n", STORAGE);
            pair.change(part, "[timing]\n", LINGER);
        }
        pair.change(WITNESS, "# grace = \"2s\"", GRACE);
        Self { pair, media: [None, None, None] }
    }

    /// With media of so many MiB for these parts; nothing is started.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn on_media(parts: &[Part], mib: u64) -> Self {
        let mut site = Self::plain();
        for &part in parts {
            site.give_medium(part, mib);
        }
        site
    }

    /// Gives a part, which does not run, a new and empty medium; the one before is gone.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn give_medium(&mut self, part: Part, mib: u64) {
        let medium = Medium::new(mib);
        let data = self.pair.data(part);
        let _ = std::fs::remove_file(&data);
        std::os::unix::fs::symlink(medium.path(), &data).expect("a link can be made");
        self.media[slot(part)] = Some(medium);
    }

    /// The medium of a part.
    ///
    /// # Panics
    /// If it has none.
    pub fn medium(&mut self, part: Part) -> &mut Medium {
        self.media[slot(part)].as_mut().expect("it was given one")
    }

    /// Whether a part is on a medium.
    pub fn has_medium(&self, part: Part) -> bool {
        self.media[slot(part)].is_some()
    }

    /// A CoServer's storage directory.
    pub fn store(&self, part: Part) -> PathBuf {
        self.pair.data(part).join("store")
    }

    /// Waits until both are members and in step.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn duplex(&self) {
        for part in [A, B] {
            self.pair.wait_for_mode(part, "duplex");
        }
    }

    /// Whether both say that they are members together.
    pub fn is_duplex(&self) -> bool {
        let duplex =
            |part| matches!(self.pair.status(part), Ok(status) if status["mode"] == "duplex");
        [A, B].into_iter().all(duplex)
    }

    /// Has the pair answer so many requests, and checks them.
    ///
    /// # Panics
    /// If one is not answered, or wrongly.
    pub fn serves(&self, ops: u64, prefix: &str) {
        let load = Load::start(&self.pair, ops, prefix);
        let done = load.finish(DEADLINE * 2);
        done.unwrap_or_else(|why| panic!("{why}{}", self.pair.logs()));
    }
}

fn slot(part: Part) -> usize {
    match part {
        A => 0,
        B => 1,
        _ => 2,
    }
}
