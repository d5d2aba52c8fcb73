//! A process that has run out of file descriptors still begins the files of its journal. Alone in
//! its process, since the limit is the process's.
#![cfg(feature = "runtime")]

use std::fs::File;

use lockstep::exhaustion::{self, Exhaustion};
use lockstep::store::files::Directory;
use lockstep::store::os::OsDirectory;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes every descriptor that there is.
fn take_all() -> Vec<File> {
    core::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn files_are_opened_by_descriptors_that_were_kept_for_them() {
    let place = tempfile::tempdir().unwrap();
    let directory = OsDirectory::open(place.path()).unwrap();
    drop(directory.create("spare").unwrap());
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).unwrap();
    let mut taken = take_all();
    assert!(File::open(place.path().join("spare")).is_err());

    let begun = directory.open("spare").unwrap();
    let made = directory.create("part").unwrap();
    assert_eq!(directory.list().unwrap().len(), 2);
    assert!(exhaustion::met() > 0);

    // What was taken from those that were kept comes back when there are some again.
    drop((begun, made, taken.pop(), taken.pop()));
    drop(directory.open("spare").unwrap());
    let mut more = take_all();
    let held: Vec<_> = (0..8).map(|_| directory.open("spare")).take_while(Result::is_ok).collect();
    assert!((2..=4).contains(&held.len()), "{}", held.len());
    let error = directory.open("spare").err().unwrap();
    assert_eq!(Exhaustion::of(&error), Some(Exhaustion::ProcessFiles));
    more.clear();
    setrlimit(Resource::Nofile, before).unwrap();
}
