//! Files that cannot be used any more, kept for whoever wants to know why.

use std::io;

use super::reset::is_set_aside;
use crate::store::files::Directory;
use crate::store::journal::{Journal, JournalError};

/// How the name of such a file ends. There is one set of them: the next one takes its place, so
/// that a disk that goes wrong again and again does not fill up.
const ENDING: &str = ".damaged";

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
    for name in dir.list()?.iter().filter(|name| is_log(name)) {
        dir.rename(name, &format!("{name}{ENDING}"))?;
    }
    // Spare files hold nothing.
    Journal::wipe(dir).map_err(system)?;
    dir.sync()
}

/// Gives the log that was set aside its names back, if there has been no other since. After a
/// crash in the middle of it, it is done by the next call.
pub(crate) fn take_back(dir: &dyn Directory) -> io::Result<bool> {
    let names = dir.list()?;
    let aside = || names.iter().filter_map(|name| name.strip_suffix(ENDING));
    let number = |name: &str| name.strip_prefix("journal-")?.parse::<u64>().ok();
    if !aside().any(|name| number(name).is_some()) {
        return Ok(false);
    }
    let mut numbers: Vec<u64> =
        names.iter().map(String::as_str).chain(aside()).filter_map(number).collect();
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[1] - pair[0] != 1) {
        return Ok(false);
    }
    for name in aside().filter(|name| is_log(name)) {
        dir.rename(&format!("{name}{ENDING}"), name)?;
    }
    dir.sync()?;
    Ok(true)
}

/// Removes the whole log.
pub(super) fn wipe(dir: &dyn Directory) -> io::Result<()> {
    Journal::wipe(dir).map_err(system)?;
    clear(dir)?;
    for name in dir.list()?.iter().filter(|name| is_checkpoint(name)) {
        dir.remove(name)?;
    }
    dir.sync()
}

fn is_log(name: &str) -> bool {
    name.strip_prefix("journal-").is_some_and(is_number) || is_checkpoint(name)
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
