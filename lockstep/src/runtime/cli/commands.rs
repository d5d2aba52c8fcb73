//! The commands that do something and end.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Application, Failure, UsageError, human, print};
use crate::ids::PairId;
use crate::runtime::config::{ConfigError, Document, Overrides, WitnessConfig};
use crate::runtime::control;
use crate::runtime::exit::Exit;
use crate::runtime::init::Plan;
use crate::runtime::witness::{describe, new_lineage as begin_lineage, open_records};
use crate::witness::{RecordStore, StoreError};

pub(super) fn init<A: Application>(app: &A, plan: &Plan) -> Result<Exit, Failure> {
    let made = plan.write(|ports| app.init(ports))?;
    let name = app.program().name;
    let dir = plan.directory.display();
    print(&format!("pair {}", made.pair));
    for file in &made.files {
        print(&format!("  {}", file.display()));
    }
    print(&format!(
        "start it with\n  {name} witness --config {dir}/witness.toml\n  \
         {name} coserver --config {dir}/a.toml\n  {name} coserver --config {dir}/b.toml\n\
         on separate machines: move each file there with its own key, and no other key"
    ));
    Ok(Exit::Done)
}

pub(super) fn new_lineage(config: &Path, pair: Option<PairId>, yes: bool) -> Result<Exit, Failure> {
    let config = WitnessConfig::read(config, &Overrides::new())?;
    let enrolled = |pair| config.pairs.iter().any(|known| known.id == pair);
    let pair = match (pair, config.pairs.as_slice()) {
        (Some(pair), _) => pair,
        (None, [only]) => only.id,
        (None, _) => return Err(UsageError::Missing("--pair ID, for the file has several,").into()),
    };
    if !enrolled(pair) {
        let file = config.file.display();
        let what = format!("pair {pair} is not in {file}: name one that is, or add it there");
        return Err(UsageError::Instead(what).into());
    }
    // It makes both, and the record, when it first starts.
    if !config.directory.exists() {
        return Err(no_record(pair));
    }
    let of_pair = |error| match error {
        StoreError::Unknown { pair } => no_record(pair),
        other => other.into(),
    };
    if !yes {
        let held = open_records(&config.directory)?.present(pair).map_err(of_pair)?;
        print(&format!(
            "pair {pair} is in {}.\nA new lineage gives up everything that the pair held: the \
             service's state, the clients' sessions, replies not yet given; unless one of the \
             CoServers is then started with --adopt, which begins it with what its disk has. Stop \
             both first. To go ahead, say --yes.",
            describe(&held.record)
        ));
        return Err(UsageError::Missing("--yes").into());
    }
    let (before, after) = begin_lineage(&config.directory, pair).map_err(of_pair)?;
    print(&format!(
        "pair {pair} was in {}; it is in {} now.\nIts former state is given up: start the \
         witness, then each CoServer whose disk holds entries with --adopt (the one with the longer \
         log: the lineage begins with them) or --discard, and one with an empty disk as it is.",
        describe(&before.record),
        describe(&after.record)
    ));
    Ok(Exit::Done)
}

fn no_record(pair: PairId) -> Failure {
    UsageError::Instead(format!(
        "there is no record of pair {pair} yet, so there is nothing to give up: the witness makes it when \
         it first starts with this file. If there was one, check `directory`"
    ))
    .into()
}

/// The directory of the process with this configuration. Only that is read: a running process
/// can be asked even when its file has since become unusable.
pub(super) fn directory_of(config: &Path) -> Result<PathBuf, ConfigError> {
    let mut root = Document::read(config, &Overrides::new())?.into_root();
    root.path("directory", "the process's directory")
}

pub(super) fn ask(directory: &Path, command: &str, within: Duration) -> Result<Exit, Failure> {
    let answer = control::ask(directory, command, within)?;
    print(&answer.to_string());
    Ok(Exit::Done)
}

/// Asks a process how it is: for people on a terminal, else, and where it is asked for, in JSON.
pub(super) fn status(directory: &Path, within: Duration, json: bool) -> Result<Exit, Failure> {
    let answer = control::ask(directory, "status", within)?;
    let for_people = !json && std::io::stdout().is_terminal();
    print(&if for_people { human::status(&answer) } else { answer.to_string() });
    Ok(Exit::Done)
}

/// Tells a process to stop, and waits until it has.
pub(super) fn stop(
    directory: &Path,
    within: Duration,
    patience: Duration,
) -> Result<Exit, Failure> {
    let answer = control::stop(directory, within, patience)?;
    print(&answer.to_string());
    Ok(Exit::Done)
}
