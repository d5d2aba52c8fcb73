//! `latency`: round trips of several kinds, all in one run with the same
//! placement. See `benches/README.md`.

use std::io::{self, Write};
use std::process::ExitCode;

use lockstep::clap::Parser;
use lockstep_benches::cli::{Options, UsageError, WRONG_USAGE, unread};
use lockstep_benches::part::PART_WORD;
use lockstep_benches::report::Report;
use lockstep_benches::rows;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == PART_WORD).is_some() {
        return rows::play(arguments);
    }
    match Options::try_parse() {
        Ok(options) => carry_out(&options).unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "latency: {error}");
            ExitCode::from(WRONG_USAGE)
        }),
        Err(answer) => unread(&answer),
    }
}

fn carry_out(options: &Options) -> Result<ExitCode, UsageError> {
    let (text, code) = if options.list {
        (list(), ExitCode::SUCCESS)
    } else {
        let report = options.run(&mut io::stderr())?;
        let text = if options.json { json(&report) } else { report.to_string() };
        let failed = report.has_failures();
        (text, if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    };
    // A reader that went away has what it wanted.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(code)
}

fn list() -> String {
    rows::all().iter().map(|row| format!("{:<12} {}\n", row.name(), row.about())).collect()
}

fn json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report);
    text.expect("names and numbers are valid JSON") + "\n"
}
