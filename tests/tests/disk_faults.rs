//! System calls of the storage fail, and the CoServer leaves or goes on rightly; a sample. Every
//! call at every one of its calls: `disk_faults`.

use lockstep_tests::disk::matrix::{Matrix, Scene, Struck};
use lockstep_tests::disk::outcome::Did;
use lockstep_tests::disk::tracer::{Fault, WRITE, missing};
use lockstep_tests::said::skipped;

/// Does these, one after the other; what was done about each.
fn sample(faults: &[(Scene, &'static str, &'static str, u32)]) -> Option<Vec<Struck>> {
    if let Some(why) = missing() {
        skipped(&why);
        return None;
    }
    let mut matrix = Matrix::start();
    let mut all = Vec::new();
    for &(scene, call, action, when) in faults {
        let done = matrix.inject(scene, Fault { call, action, when });
        let struck = done.unwrap_or_else(|why| panic!("{why}{}", matrix.site.pair.logs()));
        all.push(struck.unwrap_or_else(|| panic!("{scene:?}: no {call} came")));
    }
    Some(all)
}

/// A journal does without a spare file that cannot be made ready.
fn is_spare(struck: &Struck) -> bool {
    struck.call.contains("journal-spare")
}

#[test]
fn a_coserver_whose_journal_cannot_be_written_leaves_and_comes_back() {
    let done = sample(&[
        (Scene::Journal, "fdatasync", "error=EIO", 5),
        (Scene::Journal, "pwrite64", "error=ENOSPC", 7),
    ]);
    for struck in done.into_iter().flatten() {
        assert!(struck.did == Did::Ended(74) || is_spare(&struck), "{struck:?}");
    }
}

#[test]
fn what_can_be_tried_again_is() {
    let done = sample(&[
        (Scene::Journal, "fdatasync", "error=EINTR", 4),
        (Scene::Checkpoint, "openat", "error=EMFILE", 1),
    ]);
    for struck in done.into_iter().flatten() {
        assert!(matches!(struck.did, Did::WentOn | Did::ServedAlone), "{struck:?}");
    }
}

#[test]
fn a_start_on_a_failing_disk_says_so_and_a_later_one_joins() {
    sample(&[
        (Scene::Restart, "fdatasync", "error=EIO", 1),
        (Scene::Wiped, "fsync", "error=EIO", 1),
        (Scene::Wiped, "ftruncate", "error=ENOSPC", 1),
    ]);
}

#[test]
fn a_witness_that_cannot_begin_to_write_goes_on_with_what_it_has_and_tries_again() {
    let done = sample(&[
        (Scene::Witness, "openat", "error=EMFILE", 1),
        (Scene::Witness, "openat", "error=ENFILE", 2),
        (Scene::Witness, WRITE, "error=ENOSPC", 1),
        (Scene::Witness, "fsync", "error=ENOSPC", 2),
    ]);
    for struck in done.into_iter().flatten() {
        assert_eq!(struck.did, Did::WentOn, "{struck:?}");
    }
}

#[test]
fn a_witness_whose_disk_fails_grants_nothing_until_it_is_started_again() {
    let done = sample(&[
        (Scene::Witness, "fsync", "error=EIO", 1),
        (Scene::Witness, "rename,renameat,renameat2", "error=ENOSPC", 1),
    ]);
    for struck in done.into_iter().flatten() {
        assert_eq!(struck.did, Did::Refused, "{struck:?}");
    }
}
