//! System calls of the storage fail, and the CoServer leaves or goes on rightly; a sample. Every
//! call at every one of its calls: `disk_faults`.

use lockstep::runtime::exit::Exit;
use lockstep_tests::disk::load::Load;
use lockstep_tests::disk::matrix::{Matrix, Scene, Struck};
use lockstep_tests::disk::outcome::Did;
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::disk::tracer::{Fault, Tracer, WRITE, missing, thread};
use lockstep_tests::pair::{B, DEADLINE};
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

/// It says nothing of the disk: a supervisor may start it again, which it may not after a fault.
#[test]
fn a_coserver_that_has_no_descriptor_for_its_journal_ends_as_one_that_may_be_started_again() {
    if let Some(why) = missing() {
        return skipped(&why);
    }
    let mut site = TestSite::plain();
    site.pair.form();
    let pid = site.pair.process(B).pid();
    let journal = thread(pid, "lockstep-journal").expect("B writes a journal");
    let fault = Fault { call: "openat", action: "error=EMFILE", when: 0 };
    let tracer = Tracer::attach(pid, Some(journal), fault, site.pair.directory(), &[]);
    // More than the spare segments hold, so that a new one is wanted.
    let loads = ["x", "y", "z"].map(|prefix| Load::start_with_bulk(&site.pair, 300, prefix));
    site.pair.expect_exit(B, Exit::System);
    drop(tracer);
    let log = site.pair.process(B).log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("no file descriptor left"), "{last}");
    for load in loads {
        load.finish(DEADLINE * 2).unwrap_or_else(|why| panic!("{why}{}", site.pair.logs()));
    }
    site.pair.run(B);
    site.duplex();
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
