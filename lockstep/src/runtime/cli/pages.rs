//! What is made from the definition of the command line: completions for shells, and manual pages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Failure;
use super::args::ManArgs;
use super::flags::UsageError;
use crate::runtime::exit::Exit;

/// The pages could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write manual pages into {}: {source}; see the directory and its permissions", directory.display())]
struct PagesError {
    directory: PathBuf,
    source: io::Error,
}

impl From<&PagesError> for Exit {
    fn from(_: &PagesError) -> Self {
        Exit::Storage
    }
}

pub(super) fn completions(definition: Command, shell: Shell) -> Exit {
    write(&script(definition, shell))
}

pub(super) fn man(definition: Command, args: &ManArgs) -> Result<Exit, Failure> {
    match &args.dir {
        Some(directory) => pages(definition, directory)?,
        None => return Ok(write(&page(definition, args.command.as_deref())?)),
    }
    Ok(Exit::Done)
}

fn script(mut definition: Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let name = definition.get_name().to_owned();
    clap_complete::generate(shell, &mut definition, name, &mut script);
    script
}

/// The page of the program, or of one of its commands.
fn page(mut definition: Command, command: Option<&str>) -> Result<Vec<u8>, UsageError> {
    definition.build();
    let program = definition.get_name().to_owned();
    let source = format!("{program} {}", definition.get_version().unwrap_or_default());
    let shown = match command {
        None => definition,
        Some(name) => definition.find_subcommand(name).cloned().ok_or_else(|| {
            UsageError::Instead(format!(
                "there is no command {name:?} to have a page: see the list in `{program} --help`"
            ))
        })?,
    };
    let mut page = Vec::new();
    let rendered = Man::new(shown).source(source).render(&mut page);
    rendered.expect("a vector takes all");
    Ok(page)
}

fn pages(definition: Command, directory: &Path) -> Result<(), PagesError> {
    clap_mangen::generate_to(definition, directory)
        .map_err(|source| PagesError { directory: directory.to_owned(), source })
}

/// On standard output. A reader that has gone away wants no more.
fn write(text: &[u8]) -> Exit {
    let _ = io::stdout().lock().write_all(text);
    Exit::Done
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ValueEnum};

    use super::*;

    fn definition() -> Command {
        let file = Arg::new("config").long("config").help("The configuration");
        Command::new("counting")
            .version("1.2.3")
            .subcommand(Command::new("coserver").about("Run it").arg(file))
    }

    #[test]
    fn every_shell_completes_commands_and_flags() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(definition(), *shell)).unwrap();
            for word in ["counting", "coserver", "config"] {
                assert!(script.contains(word), "{shell}: {word} is not in\n{script}");
            }
        }
    }

    #[test]
    fn there_is_a_page_for_the_program_and_one_for_each_command() {
        let text = |command| String::from_utf8(page(definition(), command).unwrap()).unwrap();
        let program = text(None);
        assert!(program.contains(".TH counting 1  \"counting 1.2.3\""), "{program}");
        assert!(program.contains("counting\\-coserver(1)"), "{program}");
        let command = text(Some("coserver"));
        assert!(command.contains(".TH counting-coserver 1  \"counting 1.2.3\""), "{command}");
        assert!(command.contains("The configuration"), "{command}");
        let error = page(definition(), Some("dance")).unwrap_err();
        assert!(error.to_string().contains("no command \"dance\""), "{error}");
    }

    #[test]
    fn all_pages_go_into_a_directory_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        pages(definition(), directory.path()).unwrap();
        for name in ["counting.1", "counting-coserver.1"] {
            assert!(directory.path().join(name).exists(), "{name}");
        }
        let error = pages(definition(), &directory.path().join("nowhere")).unwrap_err();
        assert_eq!(Exit::from(&error), Exit::Storage);
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
