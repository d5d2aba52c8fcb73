//! Files that cannot be used any more, kept for an operator who wants to know why.

use std::io;

use super::reset::is_set_aside;
use crate::store::files::Directory;
use crate::store::journal::{Journal, JournalError};

/// How the name of such a file ends. There is one set of them: the next one takes its place, so
/// that a disk that goes wrong again and again does not fill up.
const ENDING: &str = ".damaged";

/// There while the files of a log get their other names, or their own ones back: neither those
/// nor the others are a whole log then. Such a file counts as a file of the journal, wherever
/// that goes.
const UNDER_WAY: &str = "journal-set-aside";

/// Whether anything was set aside and is still there.
pub(super) fn is_any(dir: &dyn Directory) -> io::Result<bool> {
    Ok(dir.list()?.iter().any(|name| is_damaged(name)))
}

/// Removes what was set aside.
pub(super) fn clear(dir: &dyn Directory) -> io::Result<()> {
    dir.list()?.iter().filter(|name| is_damaged(name)).try_for_each(|name| dir.remove(name))
}

fn is_damaged(name: &str) -> bool {
    name.ends_with(ENDING) && !is_set_aside(name)
}

/// Gives one file another name, which nothing here opens.
pub(super) fn one(dir: &dyn Directory, name: &str) -> io::Result<()> {
    dir.rename(name, &format!("{name}{ENDING}"))?;
    dir.sync()
}

/// The same with the whole log: journal and checkpoints. What is left is a directory without one.
/// Where there is none, what was set aside before stays.
pub(super) fn log(dir: &dyn Directory) -> io::Result<()> {
    if !dir.list()?.iter().any(|name| is_log(name)) {
        return Ok(());
    }
    clear(dir)?;
    // None of an older one is to be taken for a part of this one after a crash.
    dir.sync()?;
    begin(dir)?;
    move_log(dir)
}

fn begin(dir: &dyn Directory) -> io::Result<()> {
    match dir.create(UNDER_WAY) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => dir.sync(),
    }
}

fn end(dir: &dyn Directory) -> io::Result<()> {
    dir.remove(UNDER_WAY)?;
    dir.sync()
}

/// After a crash while a log was set aside: the rest of it is.
pub(super) fn finish(dir: &dyn Directory) -> io::Result<()> {
    if is_under_way(&dir.list()?) { move_log(dir) } else { Ok(()) }
}

fn is_under_way(names: &[String]) -> bool {
    names.iter().any(|name| name == UNDER_WAY)
}

fn move_log(dir: &dyn Directory) -> io::Result<()> {
    for name in dir.list()?.iter().filter(|name| is_log(name)) {
        dir.rename(name, &format!("{name}{ENDING}"))?;
    }
    // Spare files hold nothing.
    Journal::wipe(dir).map_err(system)?;
    dir.sync()?;
    end(dir)
}

/// Gives the log that was set aside its names back, if there has been no other since. After a crash
/// in the middle of it, it is done by the next call, and by a start without one it is set aside.
pub(crate) fn take_back(dir: &dyn Directory) -> io::Result<bool> {
    let names = dir.list()?;
    let aside: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(ENDING)).collect();
    let goes_on = is_under_way(&names);
    // Where it was broken off, a checkpoint may be all that still has, or has already, the other
    // name.
    let is_wanted = if goes_on { is_log } else { is_segment };
    if !aside.iter().any(|name| is_wanted(name)) {
        if goes_on {
            end(dir)?;
        }
        return Ok(goes_on);
    }
    if !goes_on && names.iter().any(|name| is_segment(name)) {
        return Ok(false);
    }
    begin(dir)?;
    for name in aside.into_iter().filter(|name| is_log(name)) {
        dir.rename(&format!("{name}{ENDING}"), name)?;
    }
    dir.sync()?;
    end(dir)?;
    Ok(true)
}

/// Removes the whole log.
pub(super) fn wipe(dir: &dyn Directory) -> io::Result<()> {
    Journal::wipe(dir).map_err(system)?;
    clear(dir)?;
    for name in dir.list()?.iter().filter(|name| is_checkpoint(name) || *name == UNDER_WAY) {
        dir.remove(name)?;
    }
    dir.sync()
}

fn is_log(name: &str) -> bool {
    is_segment(name) || is_checkpoint(name)
}

fn is_segment(name: &str) -> bool {
    name.strip_prefix("journal-").is_some_and(is_number)
}

fn is_checkpoint(name: &str) -> bool {
    let number = name.strip_prefix("checkpoint-");
    number.is_some_and(|rest| is_number(rest.strip_suffix(".part").unwrap_or(rest)))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn system(error: JournalError) -> io::Error {
    match error {
        JournalError::Io { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
