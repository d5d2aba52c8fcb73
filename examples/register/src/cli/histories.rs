//! Recording histories and checking them.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use lockstep::runtime::exit::Exit;

use super::args::Record;
use super::{Failure, UNDECIDED, VIOLATED, ask, print};
use crate::check::{self, Report};
use crate::history;
use crate::record::{self, RecordError, Summary};

pub(super) fn record(command: &Record) -> Result<u8, Failure> {
    let Record { client, out, prefix, .. } = command;
    let settings = ask::settings(client)?;
    let file = File::create(out).map_err(|error| unusable(out, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, &error))?;
    let mut writer = BufWriter::new(file);
    let recorded =
        runtime.block_on(record::record(&settings, &command.plan(), prefix, &mut writer));
    let summary = recorded.map_err(|error| match error {
        RecordError::Open(error) => ask::not_opened(&error),
        RecordError::Write(error) => unusable(out, &error),
    })?;
    print(&match client.json {
        true => serde_json::json!(summary).to_string(),
        false => describe(&summary),
    });
    Ok(Exit::Done.code())
}

fn describe(summary: &Summary) -> String {
    let Summary { calls, unanswered, refused, sessions_lost, .. } = summary;
    let ms = |us: u64| us as f64 / 1000.0;
    format!(
        "{calls} calls in {:.1} s, {unanswered} unanswered, {refused} refused, {sessions_lost} \
         sessions lost\ntime to answer: median {:.3} ms, 99 % within {:.3} ms, at most {:.1} ms\n\
         longest time without any answer: {:.1} ms",
        ms(summary.took_us) / 1000.0,
        ms(summary.p50_us),
        ms(summary.p99_us),
        ms(summary.max_us),
        ms(summary.longest_gap_us),
    )
}

pub(super) fn check(file: &Path, states: usize, json: bool) -> Result<u8, Failure> {
    let input = File::open(file).map_err(|error| unusable(file, &error))?;
    let calls =
        history::read(BufReader::new(input)).map_err(|error| Failure::new(Exit::Config, &error))?;
    let report = check::check(&calls, states);
    print(&match json {
        true => serde_json::json!(report).to_string(),
        false => tell(&report),
    });
    Ok(match (report.violations.is_empty(), report.undecided.is_empty()) {
        (false, _) => VIOLATED,
        (true, false) => UNDECIDED,
        (true, true) => Exit::Done.code(),
    })
}

fn tell(report: &Report) -> String {
    let Report { calls, unanswered, refused, objects, violations, undecided } = report;
    let mut text = format!(
        "{calls} calls, {unanswered} unanswered, {refused} refused, {objects} registers and queues"
    );
    for violation in violations {
        text += &format!("\nviolation: {}: {}", violation.object, violation.what);
        for call in &violation.calls {
            text += &format!("\n  {}", serde_json::json!(call));
        }
    }
    if !undecided.is_empty() {
        text += &format!("\nnot decided: {}; search longer with --states", undecided.join(", "));
    }
    if report.is_good() {
        text += "\nlinearizable, and everything took effect once";
    }
    text
}

fn unusable(file: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{}: {error}", file.display());
    Failure { message, code: Exit::Storage.code() }
}
