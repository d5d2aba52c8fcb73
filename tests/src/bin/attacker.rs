//! An attacker on a pair of its own, and what honest clients notice of it.
//!
//! `attacker MODE... [--for SECONDS] [--rounds N]`: each span (quiet, attack, control) of so many
//! seconds, so many times over, with timing as shipped; `all` is every mode. Prints a table, and
//! ends with 1 if a promise was broken: a CoServer was removed, something was not given back, an
//! honest client was not served. Everything is on loopback. See the table of SECURITY.md.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lockstep_tests::attack::{self, Force, HEADING, Mode, Plan, RELAY, Stage};
use lockstep_tests::echo::Parts;

fn main() -> ExitCode {
    if std::env::args().next().is_some_and(|name| Path::new(&name).ends_with(RELAY)) {
        return mail_relay::cli::main();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        // What the command starts beside the pair.
        Some("as") => {
            end_with_parent();
            attack::attack_as(&words[1..], ready)
        }
        Some("burn") => {
            end_with_parent();
            attack::burn(words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0), ready);
            Ok(())
        }
        Some(word) if word == "all" || Mode::of(word).is_some() => command(&words),
        // The parts of the pair: this is their program, too.
        Some("init" | "coserver" | "witness") => return lockstep::runtime::cli::main(&Parts),
        _ => Err(usage()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let modes: Vec<&str> = Mode::ALL.iter().map(|mode| mode.name()).collect();
    format!("attacker MODE... [--for SECONDS] [--rounds N], modes: {}, all", modes.join(", "))
}

fn command(words: &[String]) -> Result<(), String> {
    let (mut seconds, mut rounds, mut modes) = (5, 3, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or_else(usage);
        match word.as_str() {
            "--for" => seconds = number()?,
            "--rounds" => rounds = number()?,
            "all" => modes.extend(Mode::ALL),
            word => modes.push(Mode::of(word).ok_or_else(usage)?),
        }
    }
    if seconds == 0 || rounds == 0 {
        return Err(usage());
    }
    let each = Duration::from_secs(seconds.into());
    let plan = Plan { force: Force::Full, each, rounds };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    println!("{HEADING}");
    let mut broken = 0;
    for mode in modes {
        // A pair for each: what one attack leaves behind is not to count for the next.
        let mut stage = Stage::start(&program, mode.service(), true);
        let report = stage.attack(mode, &plan);
        println!("{report}");
        broken += report.broken().len();
        stage.finish()?;
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} promises were broken")) }
}

/// Says that it has begun.
fn ready() {
    let mut out = std::io::stdout();
    let _ = out.write_all(b".").and_then(|()| out.flush());
}

/// The other end of standard input is closed when the process ends that started this one.
#[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
