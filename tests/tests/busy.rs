//! A pair that has more to do than it has time for.

use bytes::Bytes;
use lockstep::client::blocking::{PendingReply, Session};
use lockstep_tests::caller::settings;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, SILENCE};
use lockstep_tests::process::wait_for;

const WAYWARD: &str = env!("CARGO_BIN_EXE_misbehaving");

/// Quick steps, then steps of twenty milliseconds, so many that they take longer together than
/// either CoServer may be silent, all of them handed to the service at once.
#[test]
fn a_queue_of_slow_steps_is_not_taken_for_silence() {
    let pair = Pair::start(WAYWARD, SILENCE);
    let before = [A, B].map(|part| pair.status(part).unwrap());
    let sessions: Vec<Session> = (0..4).map(|_| Session::open(settings(&pair)).unwrap()).collect();
    let bodies = [b"quick"; 60].iter().map(|quick| &quick[..]).chain([&b"slow"[..]; 45]);
    let tickets: Vec<PendingReply> = bodies
        .flat_map(|body| sessions.iter().map(|one| one.submit(Bytes::from_static(body)).unwrap()))
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    for (part, before) in [A, B].into_iter().zip(before) {
        let now = pair.status(part).unwrap();
        assert_eq!((&now["mode"], &now["epoch"]), (&"duplex".into(), &before["epoch"]), "{now}");
    }
    let all_up = || {
        let links = pair.status(A).unwrap()["links"].to_string();
        if links.contains("false") { Err(links) } else { Ok(()) }
    };
    wait_for(DEADLINE, all_up).unwrap_or_else(|links| panic!("{links}"));
}
