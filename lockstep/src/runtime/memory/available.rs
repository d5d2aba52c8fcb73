//! What the system lets this process have, and what it has, as Linux says it; elsewhere nothing
//! is known.

use std::path::{Path, PathBuf};

/// How much memory the process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Most bytes that the process may have.
    pub bytes: u64,
    /// What sets that bound.
    pub by: BoundBy,
}

/// What bounds the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// The control group of the process, or one above it: `memory.max`, in the first version
    /// `memory.limit_in_bytes`.
    ControlGroup,
    /// The resource limit `RLIMIT_AS`.
    AddressSpace,
    /// The memory of the machine.
    Machine,
}

impl BoundBy {
    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlGroup => "cgroup",
            Self::AddressSpace => "address_space",
            Self::Machine => "machine",
        }
    }

    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::ControlGroup => {
                "raise the control group's limit to `permitted` (`MemoryMax=` of systemd, a \
                 container's memory)"
            }
            Self::AddressSpace => {
                "raise the limit on the address space to `permitted` (`ulimit -v`, `LimitAS=` of \
                 systemd)"
            }
            Self::Machine => "give the machine more than `permitted`",
        }
    }
}

/// What the process has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Bytes in memory.
    pub(super) resident: u64,
    /// Bytes of address space.
    pub(super) size: u64,
}

/// Where the system says it.
pub(super) struct Sources<'a> {
    /// The folder in which `proc` is.
    pub(super) root: &'a Path,
    /// The limit on the address space.
    pub(super) address_space: Option<u64>,
}

impl Sources<'_> {
    /// The least of what bounds it.
    pub(super) fn available(&self) -> Option<Available> {
        let bounds = [
            (self.control_group(), BoundBy::ControlGroup),
            (self.address_space, BoundBy::AddressSpace),
            (self.kib("proc/meminfo", "MemTotal:"), BoundBy::Machine),
        ];
        let known =
            bounds.into_iter().filter_map(|(bytes, by)| Some(Available { bytes: bytes?, by }));
        // Without a limit a group of the first version says more than there can be.
        known.min_by_key(|available| available.bytes)
    }

    pub(super) fn present(&self) -> Present {
        let of = |name| self.kib("proc/self/status", name).unwrap_or(0);
        Present { resident: of("VmRSS:"), size: of("VmSize:") }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// A number of KiB in a line that begins so, in bytes.
    fn kib(&self, file: &str, name: &str) -> Option<u64> {
        let text = self.read(file)?;
        let number = text.lines().find_map(|line| line.strip_prefix(name))?;
        number.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// The least limit of the process's groups and those above them.
    fn control_group(&self) -> Option<u64> {
        let groups = self.read("proc/self/cgroup")?;
        let mounts = self.read("proc/self/mounts").unwrap_or_default();
        let groups = groups.lines().filter_map(Group::parse);
        groups.filter_map(|group| self.limit_of(&group, &mounts)).min()
    }

    fn limit_of(&self, group: &Group<'_>, mounts: &str) -> Option<u64> {
        let mount = mounts.lines().find_map(|line| group.mounted(line))?;
        let folder = mount.join(group.path);
        // In a container its own group may be mounted at the top, and not be found by its path.
        let above = folder.ancestors().take_while(|folder| folder.starts_with(&mount));
        let number = |folder: &Path| self.read(folder.join(group.file))?.trim().parse().ok();
        above.filter_map(number).min()
    }
}

/// A control group that may bound memory.
struct Group<'a> {
    /// Below its mount.
    path: &'a str,
    /// The file of its limit.
    file: &'static str,
    /// The first version, with a hierarchy for each resource.
    first: bool,
}

impl<'a> Group<'a> {
    /// From a line of `/proc/self/cgroup`: `0::PATH` of the second version, `N:memory:PATH` of
    /// the first.
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        let (_, resources, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        match resources {
            "" => Some(Self { path, file: "memory.max", first: false }),
            _ if resources.split(',').any(|resource| resource == "memory") => {
                Some(Self { path, file: "memory.limit_in_bytes", first: true })
            }
            _ => None,
        }
    }

    /// Where its hierarchy is mounted, if this line of `/proc/self/mounts` says so; relative to
    /// the root.
    fn mounted(&self, line: &str) -> Option<PathBuf> {
        let mut fields = line.split(' ').skip(1);
        let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match kind {
            "cgroup2" => !self.first,
            "cgroup" => self.first && options.split(',').any(|option| option == "memory"),
            _ => false,
        };
        is_it.then(|| at.trim_start_matches('/').into())
    }
}
