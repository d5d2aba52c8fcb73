use clap::error::ErrorKind;

use super::*;

/// Commands as a program of its own would have them.
#[derive(Debug, Subcommand)]
#[command(after_help = "More exit codes: 20 refused.")]
enum Own {
    /// Say it back
    Echo { text: String },
}

const PROGRAM: Program = Program { name: "counting", version: "1.2.3", about: "Counts." };

fn parsed(line: &str) -> Result<Any<Own>, clap::Error> {
    parse(definition::<Own>(&PROGRAM), line.split_whitespace().map(OsString::from))
}

/// What is said of a line that is not carried out.
fn answer(line: &str) -> String {
    match parsed(line) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{line} is carried out"),
    }
}

#[test]
fn the_definition_holds_together() {
    definition::<Own>(&PROGRAM).debug_assert();
    definition::<Infallible>(&PROGRAM).debug_assert();
}

#[test]
fn help_names_the_commands_of_all_programs_and_of_this_one_and_the_exit_codes() {
    let help = answer("--help");
    assert!(help.starts_with("Counts.\n\nUsage: counting <COMMAND>\n"), "{help}");
    for words in ["\n  coserver ", "\n  new-lineage ", "\n  echo ", "Say it back", "64 usage"] {
        assert!(help.contains(words), "{words:?} is not in\n{help}");
    }
    assert!(help.ends_with("78 configuration.\nMore exit codes: 20 refused.\n"), "{help}");
    assert_eq!(answer("--version"), "counting 1.2.3\n");
    let help = answer("coserver --help");
    let usage = "Usage: counting coserver [OPTIONS] --config <FILE>\n";
    assert!(help.contains(usage), "{help}");
    let (_, options) = help.split_once("\nOptions:\n").unwrap();
    let (options, _) = options.split_once("\n\n").unwrap();
    assert!(options.contains("--no-return"), "it has no heading of another one\n{help}");
}

#[test]
fn every_command_and_every_argument_is_explained_and_the_help_fits() {
    for command in definition::<Own>(&PROGRAM).get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} is not explained");
        if name == "echo" {
            continue;
        }
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {argument} is not explained");
        }
        // A doc comment of the arguments' type, which is for us, has not taken its place.
        assert!(!command.get_about().unwrap().to_string().contains('.'), "{name}");
        for line in answer(&format!("{name} --help")).lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn a_command_of_its_own_is_handed_to_the_program() {
    let Ok(Any::Own(Own::Echo { text })) = parsed("echo again") else { panic!("not its own") };
    assert_eq!(text, "again");
    assert!(matches!(parsed("witness --config w.toml"), Ok(Any::Shared(_))));
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    for (line, kind, said) in [
        ("", ErrorKind::MissingSubcommand, "[subcommands: init, coserver"),
        ("coservr", ErrorKind::InvalidSubcommand, "a similar subcommand exists: 'coserver'"),
        ("coserver", ErrorKind::MissingRequiredArgument, "--config <FILE>"),
        ("coserver --config x --adpt", ErrorKind::UnknownArgument, "'--adopt'"),
        ("coserver --config x --link y", ErrorKind::ValueValidation, "a comma"),
        ("coserver --config x --adopt --discard", ErrorKind::ArgumentConflict, "'--discard'"),
        ("coserver --config x --yes", ErrorKind::MissingRequiredArgument, "--discard"),
        ("coserver --config x --config y", ErrorKind::ArgumentConflict, "multiple times"),
        ("witness --config x --log-format xml", ErrorKind::InvalidValue, "[possible values: text"),
        ("witness --config x --adopt", ErrorKind::UnknownArgument, "'--adopt'"),
        ("init --dir x --a-link y", ErrorKind::ValueValidation, "as in 192.0.2.1:17400"),
        ("init --dir x --base-port 7 --free-ports", ErrorKind::ArgumentConflict, "'--free-ports'"),
        ("init --dir x --silence 1", ErrorKind::ValueValidation, "ends with its unit"),
        ("status", ErrorKind::MissingRequiredArgument, "<--config <FILE>|--dir <DIR>>"),
        ("stop --dir x --config y", ErrorKind::ArgumentConflict, "'--config <FILE>'"),
        ("stop --dir x --wait 1.5s", ErrorKind::ValueValidation, "write 1500ms"),
        ("replace-key --config x --place c", ErrorKind::InvalidValue, "[possible values: a, b]"),
        ("replace-peer --config x --key y", ErrorKind::ValueValidation, "ed25519:"),
        ("completions tcsh", ErrorKind::InvalidValue, "bash, elvish, fish, powershell, zsh"),
    ] {
        let error = parsed(line).err().unwrap_or_else(|| panic!("{line} is carried out"));
        assert_eq!(error.kind(), kind, "{line}: {error}");
        let failure = Failure::usage(&error);
        assert_eq!(failure.exit, Exit::Usage);
        let message = failure.message;
        assert!(message.contains(said) && !message.starts_with("error"), "{line}: {message}");
        assert!(message.ends_with("For more information, try '--help'."), "{line}: {message}");
    }
}
