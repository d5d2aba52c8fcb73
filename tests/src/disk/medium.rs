//! A file system of its own on a loop device, which can lose its power.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::wait_for;

/// A descriptor may be let go of a moment after its process has been waited for.
const BUSY: Duration = Duration::from_secs(10);

/// What `e2fsck` ends with when the file system is in order: as found, or after mending it.
const IN_ORDER: [i32; 2] = [0, 1];

/// `FS_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`: the file system
/// takes and gives nothing from now on, and what is in its log in memory only is gone. An ioctl
/// is `unsafe` in Rust whoever wraps it, and there is no `unsafe` here; so Python makes it.
const SHUTDOWN: &str = "import fcntl,os,struct,sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A mounted ext4; unmounted, and its image removed, when it is dropped.
#[derive(Debug)]
pub struct Medium {
    directory: TempDir,
    mounted: bool,
}

/// Why there can be no such disk here; `None` if there can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root".into());
    }
    for tool in ["mkfs.ext4", "e2fsck", "losetup", "mount", "umount", "python3"] {
        if !is_there(tool) {
            return Some(format!("{tool} is missing"));
        }
    }
    Medium::try_new(16).err().map(|why| format!("no ext4 on a loop device: {why}"))
}

/// Whether a program can be run.
pub fn is_there(tool: &str) -> bool {
    let run = Command::new(tool).arg("-V").stdin(Stdio::null()).output();
    run.is_ok() || Path::new("/usr/sbin").join(tool).exists()
}

impl Medium {
    /// An empty one of so many MiB.
    ///
    /// # Panics
    /// If it cannot be made; see [`missing`].
    pub fn new(mib: u64) -> Self {
        Self::try_new(mib).unwrap_or_else(|why| panic!("{why}"))
    }

    fn try_new(mib: u64) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut medium = Self { directory, mounted: false };
        std::fs::File::create(medium.image())
            .and_then(|file| file.set_len(mib << 20))
            .and_then(|()| std::fs::create_dir(medium.path()))
            .map_err(|error| error.to_string())?;
        // Without room for root alone: a disk that is full is to be full for the tests too.
        run("mkfs.ext4", &["-q", "-m", "0", "-I", "256", &text(&medium.image())])?;
        medium.mount()?;
        Ok(medium)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", &text(&self.image()), &text(&self.path())])?;
        self.mounted = true;
        Ok(())
    }

    /// The power goes: what was not synced is lost. Processes that use it get errors from now on.
    ///
    /// # Panics
    /// If that cannot be had.
    pub fn cut(&self) {
        run("python3", &["-c", SHUTDOWN, &text(&self.path())])
            .unwrap_or_else(|why| panic!("{why}"));
    }

    /// The power is back: checked and mounted as a machine does when it starts. Nobody uses it.
    ///
    /// # Panics
    /// If it cannot be mounted again.
    pub fn start(&mut self) {
        self.unmount();
        let image = text(&self.image());
        let checked = Command::new("e2fsck").args(["-p", &image]).output().expect("e2fsck runs");
        if !checked.status.code().is_some_and(|code| IN_ORDER.contains(&code)) {
            let said = String::from_utf8_lossy(&checked.stdout);
            let all = Command::new("e2fsck").args(["-fy", &image]).output().expect("e2fsck runs");
            let mended = all.status.code().is_some_and(|code| IN_ORDER.contains(&code));
            assert!(mended, "{said}\n{}", String::from_utf8_lossy(&all.stdout));
        }
        self.mount().unwrap_or_else(|why| panic!("{why}"));
    }

    fn unmount(&mut self) {
        let path = text(&self.path());
        wait_for(BUSY, || run("umount", &[&path])).unwrap_or_else(|why| panic!("{why}"));
        self.mounted = false;
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        let path = text(&self.path());
        if self.mounted && wait_for(BUSY, || run("umount", &[&path])).is_err() {
            // Rather a mount that ends with its last user than one that stays.
            let _ = run("umount", &["--lazy", &path]);
        }
    }
}

/// Runs a tool to its end.
fn run(tool: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{tool}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
