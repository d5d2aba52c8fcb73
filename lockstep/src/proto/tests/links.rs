//! Scenarios of what goes over which link, and of clients' connections.

use super::pair::{MS, Pair, config};
use crate::event::Event;
use crate::ids::{Epoch, Index, LinkId, MonotonicTime, Nonce, ReplicaId, RequestNumber, SessionId};
use crate::limits;
use crate::proto::flow::{Resend, Unacknowledged};
use crate::proto::io::Input;
use crate::wire::frames::{ClientAnswer, ClientCall, PeerFrame, Progress};
use bytes::Bytes;

use ReplicaId::{A, B};

#[test]
fn bulk_is_not_left_to_a_link_that_is_silent() {
    let mut pair = Pair::formed();
    pair.cut(1, false);
    pair.run(MS * 300);
    let bulk = "x".repeat(limits::BULK_BYTES);
    for _ in 0..4 {
        pair.device_input(A, &bulk);
    }
    pair.run(MS * 2);
    assert_eq!(pair.node(A).released.len(), 4);
}

#[test]
fn links_that_are_level_again_share_their_frames() {
    let mut pair = Pair::formed();
    pair.device_input(A, "under way");
    for place in ReplicaId::BOTH {
        pair.tell(place, Input::LinkDown { link: LinkId(1) });
        pair.tell(place, Input::LinkUp { link: LinkId(1) });
    }
    pair.run(MS * 100);
    pair.node(A).batches.clear();
    for _ in 0..10 {
        pair.device_input(A, "x");
        pair.run(MS);
    }
    let alone = pair.node(A).batches.iter().filter(|(links, _)| links.iter().count() == 1);
    assert_eq!(alone.count(), 0);
}

#[test]
fn a_link_that_blocks_does_not_make_the_others_repeat_what_is_small() {
    let mut pair = Pair::formed();
    pair.node(A).batches.clear();
    for _ in 0..10 {
        pair.device_input(A, "x");
    }
    pair.tell(A, Input::LinkBlocked { link: LinkId(1) });
    pair.run(MS * 20);
    let on_first = pair.node(A).batches.iter().filter(|(links, _)| links.contains(LinkId(0)));
    let indices: Vec<Index> = on_first.flat_map(|(_, indices)| indices.clone()).collect();
    assert_eq!(indices, (3..13).map(Index).collect::<Vec<_>>());
}

#[test]
fn how_long_an_acknowledgement_takes_is_learned_also_where_that_is_longer_than_was_waited() {
    let at = |ms: u64| MonotonicTime(ms * 1_000_000);
    let mut resend = Resend::default();
    let sent = Unacknowledged { waiting: Some(at(60)), first: Some(at(0)), tries: 2 };
    resend.entries = sent;
    resend.on_entries(at(80));
    assert_eq!((resend.usual, resend.entries.first), (MS * 80, None));
    // What is not acknowledged while this process does not run says nothing.
    resend.entries = sent;
    resend.discount(MS * 5_000);
    resend.on_entries(at(5_010));
    assert!(resend.usual < MS * 80);
}

#[test]
fn links_with_full_queues_carry_heartbeats() {
    let mut pair = Pair::formed();
    for link in [0, 1].map(LinkId) {
        pair.tell(A, Input::LinkBlocked { link });
    }
    pair.run(MS * 500);
    for place in ReplicaId::BOTH {
        let suspects =
            |event: &&Event| matches!(event, Event::Suspected { .. } | Event::LinkDown { .. });
        assert_eq!(pair.node(place).events.iter().find(suspects), None);
    }
}

#[test]
fn frames_of_a_later_epoch_do_not_flood_the_witness() {
    let mut pair = Pair::formed();
    let before = pair.node(A).calls;
    for sequence in 0..1000 {
        let (lineage, epoch) = (pair.record.lineage, Epoch(9));
        let progress = Progress::default();
        pair.forge(A, PeerFrame::Ping { sequence, lineage, epoch, progress });
    }
    assert!(pair.node(A).calls - before <= 1);
}

#[test]
fn a_client_may_use_any_number_of_sessions_one_after_the_other() {
    let mut pair = Pair::formed();
    pair.greet(A);
    for session in 1..=200 {
        let (session, token, number) = (SessionId(session), Nonce(9), RequestNumber(1));
        let body = Bytes::new();
        let alone = false;
        let lowest = number;
        pair.call(A, ClientCall::Request { session, token, number, lowest, alone, body });
        pair.call(A, ClientCall::Close { session, token });
        pair.run(MS);
    }
    let replies = |answer: &&ClientAnswer| matches!(answer, ClientAnswer::Reply { .. });
    assert_eq!(pair.node(A).answers.iter().filter(replies).count(), 200);
    assert!(pair.node(B).stopped.is_none());
}

#[test]
fn an_entry_that_is_executed_first_leaves_with_its_result() {
    let mut frames = [0; 2];
    for (executes_first, frames) in [false, true].into_iter().zip(&mut frames) {
        let mut pair = Pair::formed();
        pair.executes_first = executes_first;
        pair.node(A).batches.clear();
        pair.device_input(A, "one");
        *frames = pair.node(A).batches.len();
        pair.run(MS);
        assert_eq!(pair.node(A).texts(), ["one"]);
    }
    assert_eq!(frames, [2, 1]);
}

#[test]
fn a_link_on_which_frames_arrive_and_echoes_do_not_is_down_within_the_silence() {
    let mut pair = Pair::formed();
    pair.echoes_lost = true;
    for _ in 0..11 {
        pair.device_input(A, "x");
        pair.run(MS * 10);
    }
    for place in ReplicaId::BOTH {
        let status = pair.node(place).replica.status();
        assert!(status.links.iter().all(|link| link.connected && !link.up), "{status:?}");
        let fell_silent = |event: &Event| matches!(event, Event::LinkDown { closed: false, .. });
        assert!(pair.node(place).saw(fell_silent));
    }
    assert_eq!(pair.node(A).texts().len(), 11, "everything else arrives");
}

#[test]
fn the_window_takes_as_many_entries_as_configured_and_not_one_more() {
    let mut pair = Pair::formed();
    pair.run(MS * 20);
    pair.pause(B, true);
    let mut taken = 0;
    while pair.node(A).replica.takes_input() {
        pair.device_input(A, "x");
        taken += 1;
    }
    assert_eq!(taken, config(A).window_entries);
}

#[test]
fn a_follower_takes_the_next_entry_however_much_came_ahead_of_it() {
    let mut pair = Pair::with(|place| {
        let mut config = config(place);
        if place == B {
            // Room for one entry that comes ahead, and not for the missing one beside it.
            config.window_bytes = 2000;
        }
        config
    });
    pair.run(MS * 100);
    let text = "x".repeat(1000);
    pair.loss = Box::new(|| true);
    pair.device_input(A, &text);
    pair.loss = Box::new(|| false);
    for _ in 0..3 {
        pair.device_input(A, &text);
    }
    let all = pair.node(A).replica.status().last_index;
    pair.run(MS * 5);
    assert!(pair.node(B).replica.status().last_index < all, "the first is still missing");
    pair.run(MS * 200);
    assert_eq!(pair.node(B).replica.status().last_index, all);
    assert_eq!(pair.node(A).texts().len(), 4);
}
