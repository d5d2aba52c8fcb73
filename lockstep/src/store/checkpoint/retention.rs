//! Which checkpoints there are, and which are kept.

use std::collections::BTreeSet;

use super::reader::Reader;
use super::{CheckpointError, Summary, failed_to, file_name, parse_name, part_name};
use crate::ids::Index;
use crate::store::files::Directory;

/// The checkpoints in a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Checkpoints whose header and end mark are right, the oldest first. What is between is known
    /// only to [`verify`](super::verify).
    pub whole: Vec<Summary>,
    /// The others, and why.
    pub unusable: Vec<(Index, CheckpointError)>,
}

/// Says which checkpoints there are, by their headers and end marks: quick, whatever their size.
///
/// # Errors
/// [`CheckpointError::Io`] if the directory cannot be read. A file that cannot is listed
/// as unusable.
pub fn list(dir: &dyn Directory) -> Result<Listing, CheckpointError> {
    let mut listing = Listing::default();
    for index in indices(dir, true)? {
        match Reader::open(dir, index).and_then(Reader::outline) {
            Ok(summary) => listing.whole.push(summary),
            Err(error) => listing.unusable.push((index, error)),
        }
    }
    Ok(listing)
}

/// What [`keep`] left and what it removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Checkpoints that are left, the oldest first. The journal is needed from the first of
    /// them on.
    pub kept: Vec<Index>,
    /// Checkpoints that were removed.
    pub removed: Vec<Index>,
}

/// Removes all checkpoints but the `count` newest usable ones and those that are pinned, because
/// someone is reading them. Unusable ones go once as many usable ones as wanted are newer.
///
/// # Errors
/// [`CheckpointError::Io`]. Some may have been removed then.
pub fn keep(dir: &dyn Directory, count: usize, pinned: &[Index]) -> Result<Kept, CheckpointError> {
    let Listing { whole, unusable } = list(dir)?;
    let whole: Vec<Index> = whole.iter().map(|summary| summary.stamp.index).collect();
    let newest = &whole[whole.len().saturating_sub(count)..];
    let enough = newest.len() == count;
    let oldest = newest.first().copied().unwrap_or(Index(u64::MAX));
    let stays = |index: Index| pinned.contains(&index) || index >= oldest;
    let mut kept = Kept::default();
    for &index in &whole {
        if stays(index) { kept.kept.push(index) } else { kept.removed.push(index) }
    }
    let overtaken = unusable.iter().map(|(index, _)| *index).filter(|index| !stays(*index));
    kept.removed.extend(overtaken.filter(|_| enough));
    kept.removed.sort_unstable();
    remove(dir, kept.removed.iter().map(|index| file_name(*index)))?;
    Ok(kept)
}

/// To be called at a start. Removes what a crash left of unfinished checkpoints, but for the one
/// that is still wanted, and makes sure that those that are there stay there.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn tidy(dir: &dyn Directory, wanted: Option<Index>) -> Result<(), CheckpointError> {
    let unfinished = indices(dir, false)?.into_iter().filter(|index| Some(*index) != wanted);
    remove(dir, unfinished.map(part_name))?;
    dir.sync().map_err(failed_to("sync the directory of", "checkpoints"))
}

/// The one that was being received last, with which a joiner goes on.
///
/// # Errors
/// [`CheckpointError::Io`].
pub fn newest_unfinished(dir: &dyn Directory) -> Result<Option<Index>, CheckpointError> {
    Ok(indices(dir, false)?.pop_last())
}

fn remove(dir: &dyn Directory, names: impl Iterator<Item = String>) -> Result<(), CheckpointError> {
    let mut any = false;
    for name in names {
        dir.remove(&name).map_err(failed_to("remove", &name))?;
        any = true;
    }
    // The journal's entries before the oldest checkpoint go next: were this one to come back
    // after a crash, it would be one that nothing continues.
    if any { dir.sync().map_err(failed_to("sync the directory of", "checkpoints")) } else { Ok(()) }
}

/// The whole ones, or the unfinished ones, the oldest first.
fn indices(dir: &dyn Directory, whole: bool) -> Result<BTreeSet<Index>, CheckpointError> {
    let names = dir.list().map_err(failed_to("list the directory of", "checkpoints"))?;
    let parsed = names.iter().filter_map(|name| parse_name(name));
    Ok(parsed.filter(|(_, is_whole)| *is_whole == whole).map(|(index, _)| index).collect())
}
