//! `--discard`: what is on a disk is set aside, and goes for good only once this CoServer is a
//! member without it.
//!
//! | files | state |
//! | --- | --- |
//! | `home`, and what belongs to it | in use |
//! | `discarding-*` | to be discarded: removed once the other CoServer has brought this one up to date, put back if that fails |
//! | `discarded-*` | discarded by a pair that then began with nothing: nobody has that state, so it is left for an operator to remove |
//!
//! While files are set aside or put back, `home` is called `discard-home`. As long as there is such
//! a file, one of the two was broken off, and the next start puts everything back.

use std::io;

use super::opening;
use crate::proto::io::Membership;
use crate::record::Origin;
use crate::store::files::Directory;
use crate::store::home::NAME as HOME;
use crate::store::membership::NAMES as MEMBERSHIP;

/// How the name of a file begins that is to be discarded.
const PENDING: &str = "discarding-";

/// How it begins once it is discarded and kept.
const KEPT: &str = "discarded-";

/// `home` while files are renamed.
const RENAMING: &str = "discard-home";

/// Whether a file was set aside by `--discard`.
pub(super) fn is_set_aside(name: &str) -> bool {
    name.starts_with(PENDING) || name.starts_with(KEPT)
}

fn is_state(name: &str) -> bool {
    let log = name.starts_with("journal-") || name.starts_with("checkpoint-");
    log || MEMBERSHIP.contains(&name)
}

fn pending(dir: &dyn Directory) -> io::Result<Vec<String>> {
    Ok(dir.list()?.into_iter().filter(|name| name.starts_with(PENDING)).collect())
}

fn has(dir: &dyn Directory, name: &str) -> io::Result<bool> {
    Ok(dir.list()?.iter().any(|known| known == name))
}

/// Sets everything aside, so that the directory is one of a CoServer that has never run. What an
/// earlier call set aside and nothing came of stays; what was begun since is removed.
pub(crate) fn set_aside(dir: &dyn Directory) -> io::Result<()> {
    if has(dir, HOME)? {
        if is_pending(dir)? {
            return opening::wipe(dir);
        }
        remove(dir, KEPT)?;
        dir.rename(HOME, RENAMING)?;
        dir.sync()?;
    }
    for name in dir.list()?.iter().filter(|name| is_state(name)) {
        dir.rename(name, &format!("{PENDING}{name}"))?;
    }
    dir.sync()?;
    if has(dir, RENAMING)? {
        dir.rename(RENAMING, &format!("{PENDING}{HOME}"))?;
    }
    dir.sync()
}

/// Puts back what was set aside, in the place of what was begun since. Whether there was anything.
pub(crate) fn put_back(dir: &dyn Directory) -> io::Result<bool> {
    if !is_pending(dir)? {
        return Ok(false);
    }
    if has(dir, HOME)? {
        opening::wipe(dir)?;
    }
    let home = format!("{PENDING}{HOME}");
    if has(dir, &home)? {
        dir.rename(&home, RENAMING)?;
        dir.sync()?;
    }
    rename_back(dir)?;
    Ok(true)
}

fn rename_back(dir: &dyn Directory) -> io::Result<()> {
    for name in pending(dir)? {
        dir.rename(&name, &name[PENDING.len()..])?;
    }
    dir.sync()?;
    if has(dir, RENAMING)? {
        dir.rename(RENAMING, HOME)?;
    }
    dir.sync()
}

/// After a crash while files were set aside or put back: they are put back.
pub(super) fn finish(dir: &dyn Directory) -> io::Result<()> {
    if has(dir, RENAMING)? {
        rename_back(dir)?;
        tracing::warn!(event = "discard_undone", why = "the process ended while it discarded");
    }
    Ok(())
}

/// Whether anything waits to be discarded.
pub(crate) fn is_pending(dir: &dyn Directory) -> io::Result<bool> {
    Ok(!pending(dir)?.is_empty())
}

/// This CoServer is a member: what was set aside has done its duty. Where it was brought up to date
/// it goes; where a pair began with nothing, no other disk has it.
pub(super) fn settle(dir: &dyn Directory, membership: &Membership) -> io::Result<()> {
    let Some(record) = membership.record else { return Ok(()) };
    if record.origin == Origin::Formed {
        for name in pending(dir)? {
            dir.rename(&name, &format!("{KEPT}{}", &name[PENDING.len()..]))?;
        }
        tracing::warn!(
            event = "discarded_kept",
            "the pair began with nothing; files {KEPT}* are what was discarded: remove them when \
             nobody needs them"
        );
    } else {
        remove(dir, PENDING)?;
        tracing::info!(event = "discarded_removed");
    }
    dir.sync()
}

fn remove(dir: &dyn Directory, beginning: &str) -> io::Result<()> {
    let names = dir.list()?;
    names.iter().filter(|name| name.starts_with(beginning)).try_for_each(|name| dir.remove(name))
}
