//! Giving up what is on a CoServer's disk, and the command that does it.
//!
//! Nothing is erased before the other CoServer has brought this one up to date: whether that is
//! possible shows only when the two have met.

use std::ffi::OsString;
use std::path::Path;

use super::flags::DiskFlags;
use super::{Failure, PartError, UsageError, print};
use crate::causes::chain;
use crate::ids::PairId;
use crate::runtime::config::CoServerConfig;
use crate::runtime::coserver::StartupError;
use crate::runtime::storage;

/// Throws away what is on the disk, if the caller means this pair's.
pub(super) fn discard(config: &CoServerConfig, flags: DiskFlags) -> Result<(), Failure> {
    let (pair, place) = (config.pair(), config.settings.place);
    let directory = &config.settings.storage.directory;
    if !flags.yes && flags.pair != Some(pair) {
        print(&format!(
            "{} is the disk of CoServer {place} of pair {pair}.\nTo discard it gives up the \
             journal, the checkpoints and the membership in it: every entry that only this disk \
             holds is lost. They are set aside until this CoServer has joined the other one and has \
             its state, and are put back if it ends before that. To go ahead: `{}`",
            directory.display(),
            command(pair)
        ));
        return Err(match flags.pair {
            Some(other) => UsageError::Instead(format!(
                "--pair {other} is another pair, or a slip of the pen: nothing is discarded"
            )),
            None => UsageError::Missing("--yes, or --pair with the pair's id,"),
        }
        .into());
    }
    if directory.exists() {
        storage::discard(directory, pair, place)?;
        tracing::warn!(event = "discarded", directory = %directory.display());
    }
    Ok(())
}

/// This CoServer has ended, and no new process of it comes back: what it was to discard is put
/// back, unless it has become a member. Whether there was any.
pub(super) fn undo(directory: &Path, why: &str) -> Result<bool, Failure> {
    let put_back = storage::put_back(directory).map_err(|error| Failure {
        message: format!(
            "{why}. What was to be discarded is in {} as `discarding-*`, and could not be put back: \
             {}. Start once more, with `--discard` to discard it",
            directory.display(),
            chain(&error)
        ),
        exit: crate::runtime::exit::Exit::Storage,
    })?;
    if put_back {
        tracing::warn!(event = "discard_undone", directory = %directory.display(), why);
    }
    Ok(put_back)
}

/// What is said where [`undo`] did something.
pub(super) const UNDONE: &str =
    ". It has not joined the other CoServer, so what was to be discarded is back as it was";

/// What is said of a start that failed; where a disk is to be discarded for it, with the command.
pub(super) fn with_remedy(error: PartError, pair: PairId) -> Failure {
    let discards = match &error {
        PartError::CoServer(StartupError::Storage { source, .. }) => source.calls_for_discarding(),
        _ => false,
    };
    let mut failure = Failure::from(error);
    if discards {
        failure.message += &format!(". To discard it: `{}`", command(pair));
    }
    failure
}

/// The command that starts this process's CoServer with an empty disk.
fn command(pair: PairId) -> String {
    discarding(std::env::args_os(), pair)
}

/// The same command line with nothing said about the disk but that it is to be discarded.
fn discarding(args: impl IntoIterator<Item = OsString>, pair: PairId) -> String {
    let mut words = Vec::new();
    let mut args = args.into_iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = args.next() {
        match word.as_str() {
            "--adopt" | "--discard" | "--yes" => {}
            "--pair" => drop(args.next()),
            with_value if with_value.starts_with("--pair=") => {}
            other => words.push(quoted(other)),
        }
    }
    format!("{} --discard --pair {pair}", words.join(" "))
}

/// Quotes a word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_same_one_with_a_disk_to_discard() {
        let pair = PairId([7; 16]);
        let said = |words: &[&str]| discarding(words.iter().map(OsString::from), pair);
        let plain = format!("./relay coserver --config b.toml --discard --pair {pair}");
        for more in [&[][..], &["--adopt"], &["--discard", "--yes"], &["--discard", "--pair", "x"]]
        {
            let words = [&["./relay", "coserver", "--config", "b.toml"], more].concat();
            assert_eq!(said(&words), plain, "{more:?}");
        }
        assert_eq!(said(&["relay", "--pair=x", "--discard"]), said(&["relay"]));
        let odd = said(&["relay", "--config", "it's b.toml", ""]);
        assert_eq!(odd, format!("relay --config 'it'\\''s b.toml' '' --discard --pair {pair}"));
    }
}
