//! `latency`: round trips of several kinds, all in one run with the same
//! placement. See `benches/README.md`.

use std::io::{self, Write};
use std::process::ExitCode;

use lockstep_benches::cli::{HELP, Request, UsageError, WRONG_USAGE};
use lockstep_benches::part::PART_WORD;
use lockstep_benches::report::Report;
use lockstep_benches::rows;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|word| word == PART_WORD).is_some() {
        return rows::play(arguments);
    }
    match Request::parse(arguments).and_then(carry_out) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "latency: {error}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn carry_out(request: Request) -> Result<ExitCode, UsageError> {
    let (text, code) = match request {
        Request::Help => (HELP.to_owned(), ExitCode::SUCCESS),
        Request::List => (list(), ExitCode::SUCCESS),
        Request::Run(options) => {
            let report = options.run(&mut io::stderr())?;
            let text = if options.json { json(&report) } else { report.to_string() };
            let failed = report.has_failures();
            (text, if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
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
