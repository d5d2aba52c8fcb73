//! A CoServer is started with a disk that is not the one that it left.
#![allow(clippy::disallowed_methods, reason = "a test outside the pair")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use lockstep::runtime::exit::Exit;
use lockstep_tests::disk::load::Load;
use lockstep_tests::disk::site::TestSite;
use lockstep_tests::pair::{A, B, DEADLINE, Part, WITNESS};
use lockstep_tests::process::wait_for;

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Copies the directory of a process that runs. Files come and go, so that `cp` misses some, and is
/// tried again until it has those that were there before and after.
fn copy_live(from: &Path, to: &Path) {
    let attempt = || {
        let _ = std::fs::remove_dir_all(to);
        let before = names(from);
        let done = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
        let is_whole = done.status.success() && names(to) == before && names(from) == before;
        if is_whole { Ok(()) } else { Err(done) }
    };
    wait_for(DEADLINE, attempt).unwrap_or_else(|done| panic!("no whole copy: {done:?}"));
}

fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// A pair that serves.
fn served() -> TestSite {
    let mut site = TestSite::plain();
    site.pair.form();
    site.serves(200, "before-");
    site
}

/// The part is refused with this exit code, and the last line says all this. Gives that line.
fn refused(site: &mut TestSite, part: Part, exit: Exit, words: &[&str]) -> String {
    refused_with(&[], site, part, exit, words)
}

/// The same where it is started with these arguments.
fn refused_with(
    arguments: &[&str],
    site: &mut TestSite,
    part: Part,
    exit: Exit,
    words: &[&str],
) -> String {
    site.pair.run_with(part, arguments);
    site.pair.expect_exit(part, exit);
    let log = site.pair.process(part).log();
    let last = log.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "`{word}` is not in: {last}{}", site.pair.logs());
    }
    last.to_owned()
}

/// The command line that a message names at its end.
fn command(message: &str) -> &str {
    let named = message.trim().strip_suffix('`').and_then(|text| text.rsplit_once('`'));
    named.unwrap_or_else(|| panic!("no command in: {message}")).1
}

/// It is discarded by the command that the message names, and joins.
fn discarded(site: &mut TestSite, part: Part, message: &str) {
    let line = command(message);
    assert!(line.contains(" --discard --pair "), "{line}");
    site.pair.run_line(part, line);
    site.duplex();
    let log = site.pair.process(part).log();
    assert!(log.contains("event=\"discarded\""), "{log}");
    site.serves(200, "discarded-");
}

/// B, which was lost, is refused, discarded as it says, and good for going on alone.
fn replaced_by_an_empty_one(site: &mut TestSite, words: &[&str]) {
    let said = refused(site, B, Exit::Storage, words);
    discarded(site, B, &said);
    site.pair.kill(A);
    site.pair.wait_for_mode(B, "simplex");
    site.serves(200, "alone-");
}

#[test]
fn a_directory_that_was_put_back_from_a_copy_is_refused() {
    let mut site = served();
    let copied = site.pair.directory().join("copied");
    copy_live(&site.store(B), &copied);
    site.serves(200, "since-");
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    std::fs::remove_dir_all(site.store(B)).unwrap();
    std::fs::rename(&copied, site.store(B)).unwrap();
    replaced_by_an_empty_one(&mut site, &["is a copy", "To start anew", "lost", "--discard"]);
}

#[test]
fn a_directory_whose_owner_cannot_be_read_is_refused() {
    let mut site = served();
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    std::fs::write(site.store(B).join("home"), [7; 512]).unwrap();
    replaced_by_an_empty_one(&mut site, &["`home` is damaged", "To start anew", "--discard"]);
}

#[test]
fn a_directory_without_an_owner_is_refused() {
    let mut site = served();
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    std::fs::remove_file(site.store(B).join("home")).unwrap();
    replaced_by_an_empty_one(&mut site, &["`home` is missing", "To start anew", "--discard"]);
}

/// Nothing has to be done about it: what is wrong is set aside.
#[test]
fn a_damaged_journal_is_set_aside_and_its_coserver_joins() {
    use std::os::unix::fs::FileExt;
    let mut site = served();
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    let names = std::fs::read_dir(site.store(B)).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = names
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.starts_with("journal-") && !name.contains("spare")
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    // Behind the header, before the last batch.
    let file = std::fs::File::options().write(true).open(files.last().unwrap()).unwrap();
    file.write_all_at(&[0xff; 64], 4096 + 64).unwrap();
    site.pair.run(B);
    site.duplex();
    let log = site.pair.process(B).log();
    assert!(log.contains("event=\"log_set_aside\""), "{log}");
    site.serves(200, "joined-");
    site.pair.kill(A);
    site.pair.wait_for_mode(B, "simplex");
    site.serves(200, "alone-");
}

#[test]
fn a_disk_is_discarded_only_by_a_word_about_the_pair() {
    let mut site = served();
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    let before = std::fs::read_dir(site.store(B)).unwrap().count();
    let config = site.pair.config(B);
    let config = config.to_str().unwrap();
    let other = "000102030405060708090a0b0c0d0e0f";
    for more in [&[][..], &["--pair", other]] {
        let words = [&["coserver", "--config", config, "--discard"], more].concat();
        let (said, status) = site.pair.command(&words);
        assert_eq!(status.code(), Some(Exit::Usage.code().into()), "{said}");
        assert_eq!(std::fs::read_dir(site.store(B)).unwrap().count(), before, "nothing is done");
        assert!(said.contains("every entry that only this disk"), "{said}");
        if more.is_empty() {
            continue;
        }
        let line = said.lines().find(|line| line.ends_with('`')).expect("a command").to_owned();
        assert!(!command(&line).contains(other), "{line}");
        discarded(&mut site, B, &line);
    }
}

#[test]
fn a_copy_of_both_directories_is_refused_and_the_pair_does_not_serve_an_old_state() {
    let mut site = served();
    let copies = [A, B].map(|part| site.pair.directory().join(format!("copy-{}", part.name())));
    for (part, copied) in [A, B].into_iter().zip(&copies) {
        copy_live(&site.store(part), copied);
    }
    site.serves(200, "since-");
    for (part, copied) in [A, B].into_iter().zip(&copies) {
        site.pair.kill(part);
        std::fs::remove_dir_all(site.store(part)).unwrap();
        std::fs::rename(copied, site.store(part)).unwrap();
    }
    for part in [A, B] {
        refused(&mut site, part, Exit::Storage, &["is a copy"]);
    }
}

/// As `cp -a OLD/. NEW/` does it: the files stay, with what they held before.
#[test]
fn files_that_were_overwritten_with_older_ones_are_refused() {
    let mut site = served();
    let copied = site.pair.directory().join("copied");
    copy_live(&site.store(B), &copied);
    // With a checkpoint, after which the copy can be told.
    let load = Load::start_with_bulk(&site.pair, 600, "since-");
    load.reach(400, &site.pair);
    site.pair.kill(A);
    site.pair.kill(B);
    copy(&copied.join("."), &site.store(B));
    let said = refused(&mut site, B, Exit::Storage, &["is a copy", "To start anew", "lost"]);
    // The other has everything.
    site.pair.run(A);
    load.finish(DEADLINE * 2).unwrap_or_else(|why| panic!("{why}{}", site.pair.logs()));
    discarded(&mut site, B, &said);
}

#[test]
fn swapped_directories_are_refused() {
    let mut site = served();
    for part in [A, B] {
        site.pair.kill(part);
    }
    let aside = site.pair.directory().join("aside");
    let (a, b) = (site.store(A), site.store(B));
    let swap = || {
        std::fs::rename(&a, &aside).unwrap();
        std::fs::rename(&b, &a).unwrap();
        std::fs::rename(&aside, &b).unwrap();
    };
    swap();
    for part in [A, B] {
        let words = ["belongs to place", "swap them back"];
        refused(&mut site, part, Exit::Config, &words);
        // Nor is it discarded: it is not this one's to give up.
        let words = [&words[..], &["delete the directory's files by hand"]].concat();
        refused_with(&["--discard", "--yes"], &mut site, part, Exit::Config, &words);
    }
    swap();
    for part in [A, B] {
        site.pair.run(part);
    }
    site.duplex();
    site.serves(200, "after-");
}

#[test]
fn a_wiped_disk_joins_with_everything() {
    let mut site = served();
    site.pair.kill(B);
    site.pair.wait_for_mode(A, "simplex");
    site.serves(200, "alone-");
    site.pair.wipe(B);
    site.pair.run(B);
    site.duplex();
    site.pair.kill(A);
    site.pair.wait_for_mode(B, "simplex");
    site.serves(200, "after-");
    let witness = site.pair.process(WITNESS);
    assert!(witness.ended().is_none());
    site.pair.process(B).signal(rustix::process::Signal::TERM);
    assert_eq!(site.pair.process(B).wait(DEADLINE).code(), Some(0));
}
