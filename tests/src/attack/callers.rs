//! Honest clients of a pair by the client library.

use std::collections::VecDeque;
use std::time::Duration;

use lockstep::client::blocking::{PendingReply, Session};
use lockstep::client::session::Settings;

use super::honest::{Counts, Honest, pause};
use crate::pair::DEADLINE;

/// Requests of the first client under way together, and the pause between two: what a pair does
/// with ease beside what else is on its cores.
const UNDER_WAY: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// They begin, with these settings.
pub(super) fn start(settings: Settings) -> Honest {
    let same = settings.clone();
    Honest::start(
        Box::new(move |counts| ask(&settings, counts)),
        Box::new(move |counts| come(&same, counts)),
    )
}

fn ask(settings: &Settings, counts: &Counts) -> Result<(), String> {
    let session = Session::open(settings.clone()).map_err(|error| error.to_string())?;
    let mut under_way = VecDeque::new();
    let mut number = 0_u64;
    while counts.go_on() {
        number += 1;
        let ticket = session.submit(number.to_be_bytes().to_vec());
        under_way.push_back((number, ticket.map_err(|error| error.to_string())?));
        if under_way.len() >= UNDER_WAY {
            take(&mut under_way, counts)?;
        }
        pause(PAUSE);
    }
    while !under_way.is_empty() {
        take(&mut under_way, counts)?;
    }
    session.close().map_err(|error| error.to_string())
}

fn take(under_way: &mut VecDeque<(u64, PendingReply)>, counts: &Counts) -> Result<(), String> {
    let Some((number, ticket)) = under_way.pop_front() else { return Ok(()) };
    let reply = ticket.wait().map_err(|error| format!("request {number}: {error:?}"))?;
    counts.answered();
    if reply[..] == number.to_be_bytes() { Ok(()) } else { Err(format!("{number}: {reply:?}")) }
}

fn come(settings: &Settings, counts: &Counts) -> Result<(), String> {
    while counts.go_on() {
        let session = Session::open(settings.clone()).map_err(|error| error.to_string())?;
        let reply = session.request_within("new", DEADLINE);
        reply.map_err(|error| format!("a new client: {error:?}"))?;
        session.close().map_err(|error| error.to_string())?;
        counts.served();
    }
    Ok(())
}
