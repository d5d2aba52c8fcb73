#![allow(clippy::disallowed_methods, reason = "a tree of files stands in for the system's")]

use std::net::SocketAddr;

use super::*;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::coserver::LinkAddresses;

const GIB: u64 = 1 << 30;

/// A system whose files say this.
fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = root.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    root
}

fn available(files: &[(&str, &str)], address_space: Option<u64>) -> Option<Available> {
    let root = system(files);
    Sources { root: root.path(), address_space }.available()
}

const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:   8388608 kB\nMemFree:  100 kB\n");
const SECOND: (&str, &str) =
    ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,memory_recursiveprot 0 0\n");
const FIRST: (&str, &str) = (
    "proc/self/mounts",
    "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
     cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n",
);
const GROUP_OF_SECOND: (&str, &str) = ("proc/self/cgroup", "0::/system.slice/lockstep.service\n");
const GROUP_OF_FIRST: (&str, &str) = ("proc/self/cgroup", "2:cpu:/\n4:memory:/box/7\n0::/\n");

fn bound(bytes: u64, by: BoundBy) -> Option<Available> {
    Some(Available { bytes, by })
}

#[test]
fn the_least_of_machine_group_and_address_space_counts() {
    let machine = bound(8 * GIB, BoundBy::Machine);
    assert_eq!(available(&[MACHINE], None), machine);
    assert_eq!(available(&[MACHINE], Some(9 * GIB)), machine);
    assert_eq!(available(&[MACHINE], Some(GIB)), bound(GIB, BoundBy::AddressSpace));
    assert_eq!(available(&[], None), None, "where the system says nothing");
}

#[test]
fn a_group_of_the_second_version_counts_with_those_above_it() {
    let own = ("sys/fs/cgroup/system.slice/lockstep.service/memory.max", "2147483648\n");
    let above = ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
    let none = ("sys/fs/cgroup/system.slice/memory.max", "max\n");
    let of =
        |limits: &[_]| available(&[&[MACHINE, SECOND, GROUP_OF_SECOND], limits].concat(), None);
    assert_eq!(of(&[own]), bound(2 * GIB, BoundBy::ControlGroup));
    assert_eq!(of(&[own, above]), bound(GIB, BoundBy::ControlGroup));
    assert_eq!(of(&[own, none]), bound(2 * GIB, BoundBy::ControlGroup));
    assert_eq!(of(&[none]), bound(8 * GIB, BoundBy::Machine));
}

#[test]
fn a_group_of_the_first_version_counts_also_where_it_is_mounted_at_the_top() {
    let of =
        |path: &str, limit: &str| available(&[MACHINE, FIRST, GROUP_OF_FIRST, (path, limit)], None);
    let (own, top) = ("box/7/memory.limit_in_bytes", "memory.limit_in_bytes");
    for file in [own, top] {
        let file = format!("sys/fs/cgroup/memory/{file}");
        assert_eq!(of(&file, "1073741824\n"), bound(GIB, BoundBy::ControlGroup), "{file}");
        assert_eq!(of(&file, "9223372036854771712\n"), bound(8 * GIB, BoundBy::Machine));
    }
}

#[test]
fn this_process_has_memory_and_may_have_more() {
    let sources = Sources { root: Path::new("/"), address_space: None };
    let (present, available) = (sources.present(), sources.available());
    if !cfg!(target_os = "linux") {
        assert_eq!((present, available), (Present::default(), None));
        return;
    }
    assert!(0 < present.resident && present.resident <= present.size, "{present:?}");
    assert!(available.is_some_and(|available| available.bytes > present.resident));
}

fn settings(clients: Option<usize>) -> Settings {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let link = LinkAddresses { local: address(1), remote: address(2).into() };
    let port = clients.map(|_| address(3));
    let mut settings =
        Settings::new(PairId([7; 16]), ReplicaId::A, vec![link], address(4), port, "/nowhere");
    settings.client_connections = clients.unwrap_or(settings.client_connections);
    settings
}

const PRESENT: Present = Present { resident: 10 << 20, size: 500 << 20 };

fn memory(settings: &Settings, service: u64, available: Option<Available>) -> Memory {
    Memory::of(settings, [service, 0], available, PRESENT)
}

fn term(memory: &Memory, name: &str) -> u64 {
    memory.terms.iter().find(|term| term.name == name).map_or(0, |term| term.bytes)
}

#[test]
fn the_sum_follows_the_settings() {
    let few = memory(&settings(Some(10)), 0, None);
    let more = memory(&settings(Some(11)), 0, None);
    let each = quic::Settings::of(Purpose::Client).bytes_beside_queue() as u64;
    assert_eq!(more.permitted() - few.permitted(), each);
    let mut wide = settings(Some(10));
    wide.window_bytes += 100;
    assert_eq!(memory(&wide, 0, None).permitted() - few.permitted(), 200);
    let own = Memory::of(&settings(Some(10)), [77, 11], None, PRESENT);
    assert_eq!(own.permitted() - few.permitted(), 88);
    let mut linked = settings(Some(10));
    linked.links.push(linked.links[0].clone());
    assert!(
        memory(&linked, 0, None).permitted() > few.permitted() + limits::LINK_FLIGHT_BYTES as u64
    );
    assert!(few.terms.is_sorted_by(|one, next| one.bytes >= next.bytes), "{few:?}");
}

#[test]
fn without_a_port_for_clients_nothing_is_permitted_to_them() {
    let none = memory(&settings(None), 0, None);
    for name in ["clients", "answers", "replies"] {
        assert_eq!(term(&none, name), 0, "{name}");
        assert!(term(&memory(&settings(Some(1)), 0, None), name) > 0, "{name}");
    }
}

#[test]
fn what_the_process_has_is_counted_in_what_bounds_it() {
    let present = |by| term(&memory(&settings(None), 0, bound(GIB, by)), "present");
    assert_eq!(present(BoundBy::Machine), PRESENT.resident);
    assert_eq!(present(BoundBy::ControlGroup), PRESENT.resident);
    assert_eq!(present(BoundBy::AddressSpace), PRESENT.size);
}

#[test]
fn it_is_short_at_one_byte_less_than_is_permitted() {
    let settings = settings(Some(100));
    let permitted = memory(&settings, GIB, None).permitted();
    for (bytes, short) in [(permitted, false), (permitted - 1, true)] {
        let found = memory(&settings, GIB, bound(bytes, BoundBy::Machine)).short_of();
        assert_eq!(found, bound(bytes, BoundBy::Machine).filter(|_| short));
    }
    assert_eq!(memory(&settings, GIB, None).short_of(), None, "where nothing is known");
}

#[test]
fn the_largest_are_named_with_their_settings() {
    let largest = memory(&settings(Some(4096)), 0, None).largest();
    assert!(largest.starts_with("clients ") && largest.contains("(limits.clients)"), "{largest}");
    assert!(largest.contains("replies 2147483648"), "{largest}");
    assert_eq!(largest.matches(", ").count(), SAID - 1);
}
