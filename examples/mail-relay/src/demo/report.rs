//! What a person wants to know, in words and figures.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use lockstep::ids::ReplicaId;

use super::ledger::{Ledger, Return, Stage};

/// Above the lines of progress.
pub(super) fn heading() -> String {
    "  second   accepted   delivered   on the way   this second: p50 ms   max ms   longest gap ms"
        .to_owned()
}

/// One line a second.
pub(super) fn progress(ledger: &mut Ledger) -> String {
    let second = ledger.begun.elapsed().as_secs_f64().round();
    let latency = &ledger.second.latency;
    let line = format!(
        "  {second:>6}   {:>8}   {:>9}   {:>10}   {:>19}   {:>6}   {:>14}",
        ledger.accepted,
        ledger.delivered,
        ledger.accepted.saturating_sub(ledger.delivered),
        ms(latency.value_at_quantile(0.5)),
        ms(latency.max()),
        gap(ledger.second.longest_gap),
    );
    ledger.second.latency.reset();
    ledger.second.longest_gap = Duration::ZERO;
    line
}

/// The line at a kill.
pub(super) fn killed(ledger: &Ledger) -> String {
    let Some(kill) = ledger.kills.last() else { return String::new() };
    let role = if kill.was_sequencer { "sequencer" } else { "follower" };
    format!("  ------ SIGKILL to CoServer {}, the {role} ------", kill.place)
}

/// The line at the start of the one that was killed.
pub(super) fn started(place: ReplicaId) -> String {
    format!("  ------ CoServer {place} is started again ------")
}

/// The line at the return to duplex.
pub(super) fn duplex(ledger: &Ledger) -> String {
    let Some(back) = ledger.back else { return String::new() };
    format!("  ------ duplex again: {} ------", returned(back))
}

fn returned(Return { place, took, sent }: Return) -> String {
    let (took, sent) = (gap(took), kib(sent));
    format!("{place} was brought up to date with {sent} KiB, {took} ms after its start")
}

/// The tables at the end of the demonstration, as text.
pub(super) fn summary(ledger: &Ledger) -> String {
    let mut text = String::from("\nWhat became of the mails\n");
    let mut row = |name: &str, count: u64, note: &str| {
        let _ = writeln!(text, "  {name:<22}{count:>8}   {note}");
    };
    let [by_a, by_b] = ledger.accepted_by;
    row("accepted", ledger.accepted, &format!("answered with 250: {by_a} by a, {by_b} by b"));
    row(
        "delivered",
        ledger.delivered,
        "at the next hop, whole and unchanged where not said otherwise",
    );
    row("lost", ledger.lost(), "accepted, and not at the next hop");
    row("arrived more than once", ledger.copies, duplicate_note(ledger));
    if ledger.copies > 0 {
        let resent = ledger.resent_copies();
        row("  of these", resent, "were sent twice: the connection died before the answer came");
        let hop = ledger.copies.saturating_sub(resent);
        row("  of these", hop, "were under delivery: the next hop's answer died with the CoServer");
    }
    for (name, count) in [
        ("damaged", ledger.damaged),
        ("refused for good", ledger.refused),
        ("given up by sender", ledger.given_up),
        ("put off (4xx)", ledger.refused_for_now),
        ("not of this run", ledger.strangers),
        ("delivered, no answer", ledger.unanswered()),
    ] {
        if count > 0 {
            row(name, count, "");
        }
    }
    text.push_str(&timing(ledger));
    text.push_str(verdict(ledger));
    text
}

fn duplicate_note(ledger: &Ledger) -> &'static str {
    if ledger.copies == 0 {
        "allowed only where an answer was under way when the CoServer died"
    } else {
        "allowed: whoever misses an answer must send again (RFC 1047)"
    }
}

fn timing(ledger: &Ledger) -> String {
    let mut text = String::from("\nHow long it took, in milliseconds\n");
    let _ = writeln!(
        text,
        "  {:<28}{:>8}{:>10}{:>10}{:>10}{:>24}",
        "end of the mail to its 250", "mails", "p50", "p99", "max", "longest gap in replies"
    );
    for phase in &ledger.phases {
        let name = match (phase.stage, ledger.kills.is_empty()) {
            (_, true) => "all the time",
            (stage, _) => name(stage),
        };
        let Quantiles { p50, p99, max } = quantiles(&phase.latency);
        let _ = writeln!(
            text,
            "  {name:<28}{:>8}{p50:>10}{p99:>10}{max:>10}{:>24}",
            phase.latency.len(),
            gap(phase.longest_gap),
        );
    }
    let _ = writeln!(
        text,
        "  (connections lost or refused by the sender's count: {}; each turned to the other CoServer)",
        ledger.troubles
    );
    if let Some(back) = ledger.back {
        text.push_str(&comparison(ledger, back));
    }
    text
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Calm => "duplex, before the kill",
        Stage::Kill => "1 s from the kill",
        Stage::Alone => "one alone",
        Stage::Return => "the return, and 1 s more",
        Stage::Duplex => "duplex again",
        Stage::SecondKill => "1 s from the second kill",
        Stage::After => "the one that came back alone",
    }
}

/// What a return costs the clients that are served meanwhile, beside what a kill does.
fn comparison(ledger: &Ledger, back: Return) -> String {
    let calm = ledger.longest_gap(|stage| matches!(stage, Stage::Calm | Stage::Duplex));
    let kill = ledger.longest_gap(|stage| matches!(stage, Stage::Kill | Stage::SecondKill));
    let around = ledger.longest_gap(|stage| stage == Stage::Return);
    format!(
        "\nThe return: {}.\n  The longest time without any reply: {} ms around the return, {} ms around the \
         kills,\n  {} ms while both CoServers were there and nothing happened. Each includes the time until \
         the\n  sender had a mail to send at all.\n",
        returned(back),
        gap(around),
        gap(kill),
        gap(calm),
    )
}

fn verdict(ledger: &Ledger) -> &'static str {
    match (ledger.is_kept(), ledger.kills.is_empty()) {
        (true, false) => {
            "\nNothing was lost: every mail that was accepted arrived, whoever of the two was killed."
        }
        (true, true) => "\nNothing was lost: every mail that was accepted arrived.",
        (false, _) => "\nNOT KEPT: see lost, damaged, refused and given up above.",
    }
}

struct Quantiles {
    p50: String,
    p99: String,
    max: String,
}

fn quantiles(latency: &Histogram<u64>) -> Quantiles {
    Quantiles {
        p50: ms(latency.value_at_quantile(0.5)),
        p99: ms(latency.value_at_quantile(0.99)),
        max: ms(latency.max()),
    }
}

fn ms(micros: u64) -> String {
    format!("{:.1}", micros as f64 / 1000.0)
}

/// Rounded up: what was sent is not to look like nothing.
fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

fn gap(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64() * 1000.0)
}
