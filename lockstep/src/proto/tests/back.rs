//! Scenarios of coming back: restarting, claiming, joining, leaving (section J of
//! `docs/protocol.md`).

use core::time::Duration;

use super::pair::{MS, Pair, config};
use crate::entry::EntryKind;
use crate::event::{Event, FallBack, StopCause, Wait};
use crate::ids::{Epoch, Index, Lineage, ReplicaId};
use crate::limits;
use crate::proto::StorageResponse;
use crate::proto::io::{Command, Input, Membership, Standing};
use crate::record::{Origin, Record};
use crate::wire::frames::{PeerFrame, WitnessAnswer};

use ReplicaId::{A, B};

fn texts(pair: &mut Pair, place: ReplicaId, from: usize, count: usize) {
    for number in from..from + count {
        pair.device_input(place, &format!("{number}"));
        pair.run(MS * 2);
    }
}

/// Both have computed the same up to the same entry.
fn check_level(pair: &mut Pair) {
    pair.run(MS * 50);
    let [a, b] = ReplicaId::BOTH.map(|place| pair.node(place).replica.status());
    assert_eq!((a.last_index, a.executed, a.released), (b.last_index, b.executed, b.released));
    let marks = ReplicaId::BOTH.map(|place| pair.node(place).replica.mark());
    assert_eq!(marks[0], marks[1]);
    let disks = ReplicaId::BOTH.map(|place| pair.node(place).disk.last_index());
    assert_eq!(disks[0], disks[1]);
}

#[test]
fn a_restarted_follower_joins_with_what_it_lacks_and_nothing_more() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.kill(B);
    pair.run(MS * 200);
    texts(&mut pair, A, 5, 30);
    pair.restart(B);
    pair.run_to_duplex();
    assert!(pair.node(B).saw(|event| matches!(event, Event::Offered { checkpoint: None, .. })));
    assert_eq!(pair.record.origin, Origin::Joined);
    texts(&mut pair, A, 35, 5);
    texts(&mut pair, B, 0, 1);
    check_level(&mut pair);
    assert_eq!(pair.node(A).texts().len(), 40);
    assert_eq!(pair.node(B).texts(), ["0"], "what was released while it was away is not again");
}

#[test]
fn a_restarted_sequencer_joins_behind_the_one_that_went_on() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.kill(A);
    pair.run(MS * 200);
    texts(&mut pair, B, 5, 5);
    pair.restart(A);
    pair.run_to_duplex();
    assert!(pair.node(B).replica.status().is_sequencer);
    texts(&mut pair, A, 10, 5);
    check_level(&mut pair);
}

#[test]
fn a_process_that_restarts_before_its_death_was_noticed_joins_as_well() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.kill(B);
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn one_with_a_wiped_disk_gets_everything_from_the_journal_while_that_is_whole() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 20);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
    assert_eq!(pair.node(B).disk.entries.len(), pair.node(A).disk.entries.len());
}

/// A machine that has more to do than it can answers late: asking again and again would be more
/// to do.
#[test]
fn a_joiner_whose_answers_are_late_is_not_sent_everything_many_times() {
    let patient = |place| crate::proto::Config {
        silence: MS * 4000,
        silence_floor: MS * 4000,
        slow_limit: MS * 20_000,
        ..config(place)
    };
    let mut pair = Pair::with(patient);
    pair.run(MS * 100);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 6000);
    let text = "x".repeat(64 << 10);
    for _ in 0..80 {
        pair.device_input(A, &text);
        pair.run(MS * 2);
    }
    let journal = 80 * text.len() as u64;
    pair.hop = MS * 500;
    pair.restart(B);
    pair.run(MS * 60_000);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })));
    let fetched = pair.fetched;
    assert!(fetched >= journal && fetched < 2 * journal, "{fetched} bytes of {journal}");
}

/// An answer takes longer than the joiner waits before it asks again.
#[test]
fn a_joiner_that_asks_again_is_not_begun_with_anew() {
    let patient = |place| crate::proto::Config {
        silence: MS * 4000,
        silence_floor: MS * 4000,
        slow_limit: MS * 20_000,
        ..with_checkpoints(place)
    };
    let mut pair = Pair::with(patient);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 60);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 6000);
    pair.node(A).disk.drop_before_checkpoint();
    pair.hop = MS * 500;
    pair.restart(B);
    pair.run(MS * 60_000);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })));
    assert!(pair.joins > 1, "the answer was late");
    assert_eq!(pair.node(A).prefix_searches, 1);
    assert!(pair.joins <= 4, "it asks less and less often: {}", pair.joins);
}

/// What was read back is no log: entries of it may be in the journal all the same.
#[test]
fn a_restored_tail_that_does_not_fit_is_given_up_on_the_disk_too() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 20);
    pair.kill(B);
    pair.run(MS * 200);
    let disk = &mut pair.node(B).disk;
    disk.mark = Index(5);
    let last = disk.entries.len() - 1;
    disk.entries[last].time = crate::ids::LogTime(0);
    pair.restart(B);
    pair.run_to_duplex();
    assert!(pair.node(B).saw(|event| matches!(event, Event::Unrecovered { .. })));
    texts(&mut pair, A, 20, 5);
    check_level(&mut pair);
    let entries = pair.node(A).disk.entries.clone();
    assert_eq!(pair.node(B).disk.entries, entries);
}

/// Each of them orders too little for a checkpoint, and replays what those before it ordered.
#[test]
fn processes_that_restart_again_and_again_take_checkpoints() {
    let enough = 5_000;
    let mut pair =
        Pair::with(move |place| crate::proto::Config { checkpoint_bytes: enough, ..config(place) });
    pair.run(MS * 100);
    pair.kill(B);
    pair.run(MS * 200);
    for life in 0..30 {
        texts(&mut pair, A, life * 5, 5);
        pair.kill(A);
        pair.restart(A);
        pair.run(MS * 1500);
    }
    let disk = &pair.node(A).disk;
    let newest = disk.checkpoints.keys().next_back().copied().unwrap_or(Index(0));
    let since = disk.entries.iter().filter(|entry| entry.index > newest);
    let replay: u64 = since.map(|entry| entry.weight() as u64).sum();
    let all: u64 = disk.entries.iter().map(|entry| entry.weight() as u64).sum();
    assert!(all > 3 * enough, "{all}");
    assert!(replay < 2 * enough, "{replay} bytes to replay");
}

/// Whether the pieces that were sent keep to the rate, over every span from one to another. What
/// may go at once after a pause, and the piece with which it is used up, come on top.
fn check_rate(pieces: &[(Duration, u64)], rate: u64) {
    let burst = 2 * limits::CHUNK_BYTES as u64;
    for (at, (from, _)) in pieces.iter().enumerate() {
        let mut sent = 0;
        for (to, bytes) in &pieces[at..] {
            sent += bytes;
            let earned = u128::from(rate) * (*to - *from).as_nanos() / 1_000_000_000;
            assert!(
                u128::from(sent) <= earned + u128::from(burst),
                "{sent} bytes in {:?}",
                *to - *from
            );
        }
    }
}

/// A joiner with nothing on its disk, behind a member with so many entries of 20 KiB.
fn join_at_rate(rate: u64, checkpoint: bool) -> Pair {
    let mut pair = Pair::with(move |place| crate::proto::Config {
        join_rate: rate,
        ..with_checkpoints(place)
    });
    pair.run(MS * 100);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 300);
    let text = "x".repeat(20 << 10);
    for _ in 0..80 {
        pair.device_input(A, &text);
        pair.run(MS * 2);
    }
    if checkpoint {
        pair.node(A).disk.drop_before_checkpoint();
    }
    pair.restart(B);
    pair.run_to_duplex();
    pair
}

#[test]
fn a_joiner_is_sent_no_more_than_the_rate_in_any_span() {
    for (rate, checkpoint) in
        [(1 << 20, false), (4 << 20, false), (256 << 10, true), (1 << 20, true)]
    {
        let mut pair = join_at_rate(rate, checkpoint);
        let sent: u64 = pair.pieces.iter().map(|(_, bytes)| bytes).sum();
        assert!(sent > 2 * limits::CHUNK_BYTES as u64, "{sent} bytes show no rate");
        check_rate(&pair.pieces, rate);
        let offered = |event: &Event| match event {
            Event::Offered { checkpoint: file, .. } => file.is_some() == checkpoint,
            _ => false,
        };
        assert!(pair.node(B).saw(offered));
        check_level(&mut pair);
    }
}

#[test]
fn a_joiner_whose_pieces_are_gone_starts_over_with_a_checkpoint() {
    let slow = |place| crate::proto::Config { join_rate: 512 << 10, ..with_checkpoints(place) };
    let mut pair = Pair::with(slow);
    pair.run(MS * 100);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 300);
    texts(&mut pair, A, 0, 100);
    pair.restart(B);
    while pair.pieces.is_empty() {
        pair.run(MS / 10);
    }
    assert_eq!(offers(&mut pair), [None], "by entries, at first");
    // More is kept for it than may be: retention drops what it has not got yet.
    pair.node(A).disk.drop_before_checkpoint();
    pair.run_to_duplex();
    assert!(offers(&mut pair).iter().any(Option::is_some), "it was offered a checkpoint then");
    check_level(&mut pair);
    texts(&mut pair, B, 100, 3);
    check_level(&mut pair);
}

/// B is out and lacks entries; A has a checkpoint and its whole journal.
fn with_one_that_lacks_entries(
    config: impl Fn(ReplicaId) -> crate::proto::Config + 'static,
) -> Pair {
    let mut pair = Pair::with(config);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 60);
    pair.kill(B);
    pair.run(MS * 300);
    texts(&mut pair, A, 60, 20);
    pair
}

/// The same without a checkpoint; and one of the entries that B lacks cannot be read. What B has is
/// returned too.
fn with_one_that_lacks_what_cannot_be_read() -> (Pair, Index) {
    let none = |place| crate::proto::Config { checkpoint_bytes: 1 << 30, ..config(place) };
    let mut pair = with_one_that_lacks_entries(none);
    let last_index = pair.node(B).disk.last_index();
    pair.node(A).disk.unreadable = Some(Index(last_index.0 + 5));
    (pair, last_index)
}

/// What B was told to begin with: entries alone, or a checkpoint of this entry.
fn offers(pair: &mut Pair) -> Vec<Option<Index>> {
    let offer = |event: &Event| match event {
        Event::Offered { checkpoint, .. } => Some(checkpoint.map(|file| file.index)),
        _ => None,
    };
    pair.node(B).events.iter().filter_map(offer).collect()
}

#[test]
fn a_checkpoint_from_before_what_both_have_is_not_sent() {
    let few = |place| crate::proto::Config { checkpoint_bytes: 12_000, ..config(place) };
    let mut pair = with_one_that_lacks_entries(few);
    // However much came after it.
    pair.node(A).disk.entry_bytes = 32 << 20;
    let newest = pair.node(A).disk.checkpoints.keys().next_back().copied();
    assert!(newest.is_some_and(|index| index < pair.node(B).disk.last_index()), "{newest:?}");
    pair.restart(B);
    pair.run_to_duplex();
    assert_eq!(offers(&mut pair), [None]);
    check_level(&mut pair);
}

#[test]
fn a_checkpoint_that_a_joiner_cannot_use_is_not_offered_again() {
    let mut pair = with_one_that_lacks_entries(with_checkpoints);
    pair.wipe(B);
    let rotten = pair.node(A).disk.checkpoints.keys().next_back().copied();
    pair.node(A).disk.drop_before_checkpoint();
    pair.node(A).disk.rotten = rotten;
    pair.restart(B);
    pair.run_to_duplex();
    let offered = offers(&mut pair);
    assert_eq!(offered[0], rotten, "nobody knew");
    assert!(offered.len() == 2 && offered[1] > rotten, "a newer one was taken: {offered:?}");
    check_level(&mut pair);
}

#[test]
fn a_joiner_gets_a_checkpoint_where_the_entries_cannot_be_read() {
    let (mut pair, last_index) = with_one_that_lacks_what_cannot_be_read();
    pair.restart(B);
    pair.run_to_duplex();
    let offered = offers(&mut pair);
    assert_eq!(offered[0], None, "nobody knew");
    assert!(offered.len() == 2 && offered[1] > Some(last_index), "{offered:?}");
    let fell = |event: &Event| matches!(event, Event::FellBack { why: FallBack::Unreadable, .. });
    assert!(pair.node(A).saw(fell));
    check_level(&mut pair);
}

#[test]
fn a_checkpoint_that_cannot_be_written_for_a_joiner_is_ordered_again_after_a_while() {
    let (mut pair, _) = with_one_that_lacks_what_cannot_be_read();
    pair.node(A).disk.full = true;
    pair.restart(B);
    let ordered = |pair: &mut Pair| {
        let entries = pair.node(A).disk.entries.iter();
        entries.filter(|entry| matches!(entry.kind, EntryKind::Checkpoint)).count()
    };
    pair.run(Duration::from_secs(9));
    let tries = ordered(&mut pair);
    assert!((3..=6).contains(&tries), "{tries} in 9 s");
    pair.node(A).disk.full = false;
    pair.run(Duration::from_secs(3));
    pair.run_to_duplex();
    check_level(&mut pair);
}

fn with_checkpoints(place: ReplicaId) -> crate::proto::Config {
    crate::proto::Config { checkpoint_bytes: 2_000, ..config(place) }
}

#[test]
fn one_with_a_wiped_disk_gets_a_checkpoint_and_what_came_after_it() {
    let mut pair = Pair::with(with_checkpoints);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 60);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 200);
    pair.node(A).disk.drop_before_checkpoint();
    texts(&mut pair, A, 60, 20);
    pair.restart(B);
    pair.run_to_duplex();
    assert!(pair.node(B).saw(|event| matches!(event, Event::Offered { checkpoint: Some(_), .. })));
    check_level(&mut pair);
    texts(&mut pair, B, 80, 5);
    check_level(&mut pair);
}

#[test]
fn a_checkpoint_that_breaks_off_goes_on_where_it_was() {
    let mut pair = Pair::with(|place| crate::proto::Config {
        join_rate: limits::CHUNK_BYTES as u64,
        ..with_checkpoints(place)
    });
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 60);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 200);
    pair.node(A).disk.drop_before_checkpoint();
    pair.restart(B);
    while pair.node(B).disk.chunks == 0 {
        pair.run(MS * 10);
    }
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_to_duplex();
    assert_eq!(pair.node(B).disk.chunks, 3, "no piece came twice");
    check_level(&mut pair);
}

#[test]
fn both_take_their_checkpoints_at_one_entry_and_find_them_equal() {
    let mut pair = Pair::with(with_checkpoints);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 60);
    pair.run(MS * 50);
    let [a, b] = ReplicaId::BOTH.map(|place| pair.node(place).disk.checkpoints.clone());
    assert!(a.len() > 1);
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(!pair.node(A).saw(|event| matches!(event, Event::StatesDiffer { .. })));
}

#[test]
fn after_the_loss_of_both_the_first_to_restart_goes_on_where_they_were() {
    for (first, second) in [(A, B), (B, A)] {
        let mut pair = Pair::formed();
        texts(&mut pair, A, 0, 5);
        pair.kill(A);
        pair.kill(B);
        pair.run(MS * 100);
        pair.restart(first);
        pair.run(MS * 1500);
        assert_eq!(pair.record.origin, Origin::Restarted);
        let status = pair.node(first).replica.status();
        assert!(matches!(status.standing, Standing::Serving { duplex: false, .. }));
        texts(&mut pair, first, 5, 5);
        pair.restart(second);
        pair.run_to_duplex();
        check_level(&mut pair);
        assert!(pair.node(first).executed.len() >= 12);
    }
}

#[test]
fn of_two_that_restart_together_one_claims_and_the_other_joins_it() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    // B has what A has not.
    pair.node(A).disk_stuck = true;
    pair.device_input(B, "only b has this on its disk");
    pair.run(MS * 1);
    pair.kill(A);
    pair.kill(B);
    pair.node(A).disk_stuck = false;
    pair.restart(A);
    pair.restart(B);
    pair.run_to_duplex();
    assert!(pair.node(B).replica.status().is_sequencer, "the longer history claims");
    check_level(&mut pair);
}

#[test]
fn what_may_not_have_been_released_before_the_loss_of_both_is_released_after_it() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.node(B).disk_stuck = true;
    pair.device_input(A, "not released yet");
    pair.run(MS * 1);
    assert_eq!(pair.node(A).texts().len(), 5);
    pair.kill(A);
    pair.kill(B);
    pair.node(B).disk_stuck = false;
    pair.restart(A);
    pair.run(MS * 1500);
    assert!(pair.node(A).texts().contains(&"not released yet"));
}

#[test]
fn an_unagreed_tail_gives_way_to_what_the_other_went_on_with() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    // A orders what B never gets.
    pair.cut(0, false);
    pair.cut(1, false);
    pair.device_input(A, "nobody saw this");
    pair.run(MS * 1);
    pair.kill(A);
    pair.cut(0, true);
    pair.cut(1, true);
    pair.run(MS * 300);
    texts(&mut pair, B, 5, 3);
    pair.restart(A);
    pair.run_to_duplex();
    check_level(&mut pair);
    assert!(!pair.node(A).texts().contains(&"nobody saw this"));
}

/// What a joiner's disk ends with is the member's already, or no member's. If the joiner sent it,
/// nothing would answer, so it would be sent again for ever, in the way of what the joiner lacks.
#[test]
fn a_joiner_sends_nothing_of_its_log() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.cut(0, false);
    pair.cut(1, false);
    texts(&mut pair, A, 5, 5);
    pair.kill(A);
    pair.cut(0, true);
    pair.cut(1, true);
    pair.run(MS * 300);
    texts(&mut pair, B, 5, 3);
    pair.restart(A);
    pair.node(A).batches.clear();
    pair.run_to_duplex();
    let sent = pair.node(A).batches.iter().filter(|(_, entries)| !entries.is_empty()).count();
    assert_eq!(sent, 0, "batches with entries");
    check_level(&mut pair);
}

#[test]
fn one_whose_predecessor_was_removed_does_not_claim() {
    let mut pair = Pair::formed();
    pair.kill(A);
    pair.run(MS * 200);
    texts(&mut pair, B, 0, 3);
    pair.kill(B);
    pair.restart(A);
    pair.run(MS * 5000);
    assert_eq!(pair.record.origin, Origin::Alone);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Waiting { .. })));
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn a_grant_that_its_asker_did_not_live_to_hear_is_its_successors() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.witness_mute = true;
    pair.kill(B);
    pair.run(MS * 200);
    assert_eq!(pair.record.origin, Origin::Alone);
    pair.kill(A);
    pair.witness_mute = false;
    pair.restart(A);
    pair.run(MS * 1500);
    assert_eq!(pair.record.origin, Origin::Restarted);
}

#[test]
fn a_joiner_that_dies_leaves_the_member_as_it_was() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.kill(B);
    pair.run(MS * 200);
    texts(&mut pair, A, 3, 20);
    for delay in 0..60 {
        pair.restart(B);
        pair.run(MS / 4 * delay);
        pair.kill(B);
        texts(&mut pair, A, 23 + delay as usize, 1);
        pair.run(MS * 300);
        let last = format!("{}", 23 + delay);
        assert_eq!(pair.node(A).texts().last().copied(), Some(last.as_str()), "after {delay}");
        assert!(!pair.node(A).replica.status().record.unwrap().members.is_duplex());
    }
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn a_member_that_dies_while_another_joins_comes_back_with_all_it_had() {
    for delay in 0..60 {
        let mut pair = Pair::formed();
        texts(&mut pair, A, 0, 3);
        pair.kill(B);
        pair.run(MS * 200);
        texts(&mut pair, A, 3, 20);
        pair.restart(B);
        pair.run(MS / 4 * delay);
        pair.kill(A);
        pair.run(MS * 300);
        pair.restart(A);
        for _ in 0..20 {
            pair.run(MS * 200);
            for place in ReplicaId::BOTH {
                if pair.node(place).stopped.is_some() {
                    pair.restart(place);
                }
            }
        }
        pair.run_to_duplex();
        check_level(&mut pair);
        assert!(pair.node(A).disk.last_index() >= Index(25));
    }
}

#[test]
fn a_joiner_that_falls_silent_is_given_up_and_starts_over() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.kill(B);
    pair.run(MS * 200);
    pair.witness_mute = true;
    pair.restart(B);
    pair.run(MS * 200);
    assert_eq!(pair.record.origin, Origin::Joined);
    pair.pause(B, true);
    pair.witness_mute = false;
    pair.run(MS * 500);
    assert!(
        pair.node(A)
            .saw(|event| { matches!(event, Event::FellBack { why: FallBack::Silent, .. }) })
    );
    assert_eq!(pair.record.origin, Origin::Alone);
    texts(&mut pair, A, 3, 3);
    assert_eq!(pair.node(A).texts().len(), 6);
    pair.pause(B, false);
    pair.run(MS * 100);
    assert!(matches!(pair.node(B).stopped, Some(StopCause::Removed { .. })));
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn a_member_that_left_comes_back_and_the_other_may_leave_then() {
    let mut pair = Pair::formed();
    for (leaves, stays) in [(A, B), (B, A), (A, B)] {
        texts(&mut pair, leaves, 0, 3);
        pair.tell(leaves, Input::Command(Command::Stop));
        pair.run(MS * 5);
        assert!(matches!(pair.node(leaves).stopped, Some(StopCause::Left { .. })));
        texts(&mut pair, stays, 3, 3);
        pair.restart(leaves);
        pair.run_to_duplex();
        check_level(&mut pair);
    }
}

#[test]
fn a_member_leaves_to_one_that_knows_of_the_renewal_before() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    // Recorded, and the other has heard nothing of it when this one is told to stop.
    let (epoch, of) = (pair.record.epoch.next(), pair.record.digest());
    let record = Record { epoch, asker: A, origin: Origin::Renewal(of), ..pair.record };
    pair.record = record;
    pair.loss = Box::new(|| true);
    pair.forge(A, PeerFrame::Epoch { record });
    pair.tell(A, Input::Command(Command::Stop));
    pair.run(MS * 15);
    pair.loss = Box::new(|| false);
    pair.run(MS * 300);
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Left { .. })));
    assert_eq!(pair.node(B).stopped, None);
    assert_eq!(pair.record.origin, Origin::Left(record.digest()));
    texts(&mut pair, B, 3, 3);
    pair.kill(B);
    pair.restart(B);
    pair.run(MS * 1500);
    assert_eq!(pair.record.origin, Origin::Restarted);
    pair.restart(A);
    pair.run_to_duplex();
}

#[test]
fn a_sole_member_told_to_stop_keeps_its_right() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    texts(&mut pair, A, 0, 3);
    pair.tell(A, Input::Command(Command::Stop));
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Asked)));
    pair.restart(A);
    pair.run(MS * 1500);
    assert_eq!(pair.record.origin, Origin::Restarted);
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn a_disk_of_a_lineage_that_is_over_is_refused_unless_it_is_adopted() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.kill(A);
    pair.kill(B);
    pair.begin_lineage();
    pair.restart(B);
    pair.run(MS * 100);
    assert!(matches!(pair.node(B).stopped, Some(StopCause::LineageOver { .. })));
    pair.restart_with(B, true);
    pair.run(MS * 100);
    assert_eq!(pair.record.origin, Origin::Adopted);
    assert_eq!(pair.node(B).executed_device_inputs(), 3);
    pair.wipe(A);
    pair.restart(A);
    pair.run_to_duplex();
    check_level(&mut pair);
}

/// The stale side was adopted: what the other one has more of was acknowledged, and is given up by
/// an operator, not by a join.
#[test]
fn a_disk_that_has_more_than_a_new_lineage_began_with_does_not_join_it() {
    for adopt in [false, true] {
        let mut pair = Pair::formed();
        texts(&mut pair, A, 0, 3);
        pair.kill(B);
        pair.run(MS * 200);
        texts(&mut pair, A, 3, 3);
        pair.kill(A);
        pair.begin_lineage();
        pair.restart_with(B, true);
        pair.run(MS * 100);
        assert_eq!(pair.record.origin, Origin::Adopted);
        let last_index = pair.node(A).disk.last_index();
        pair.restart_with(A, adopt);
        pair.run(MS * 300);
        assert!(matches!(pair.node(A).stopped, Some(StopCause::LineageOver { .. })), "{adopt}");
        assert_eq!(pair.node(A).disk.last_index(), last_index, "nothing was dropped");
        texts(&mut pair, B, 3, 3);
        pair.wipe(A);
        pair.restart(A);
        pair.run_to_duplex();
        check_level(&mut pair);
    }
}

#[test]
fn a_disk_that_has_only_what_a_new_lineage_began_with_joins_it() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.kill(B);
    pair.run(MS * 200);
    texts(&mut pair, A, 3, 3);
    pair.kill(A);
    pair.begin_lineage();
    pair.restart_with(A, true);
    pair.run(MS * 100);
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn there_is_nothing_to_adopt_on_an_empty_disk() {
    let mut pair = Pair::formed();
    pair.kill(A);
    pair.kill(B);
    pair.begin_lineage();
    pair.wipe(A);
    pair.restart_with(A, true);
    pair.run(MS * 100);
    let stopped = pair.node(A).stopped.clone();
    assert!(matches!(stopped, Some(StopCause::LineageOver { held: Index(0), .. })), "{stopped:?}");
}

/// Numbers go on from those of the disk, or what is ordered from then on would look like the past.
#[test]
fn a_disk_is_adopted_at_a_witness_that_knows_no_epoch_of_it() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    for _ in 0..2 {
        pair.kill(B);
        pair.run(MS * 200);
        pair.restart(B);
        pair.run_to_duplex();
    }
    let before = pair.record.epoch;
    pair.kill(A);
    pair.kill(B);
    pair.record = Record::vacant(pair.record.pair, Lineage(2), Epoch(0));
    pair.restart_with(A, true);
    pair.run(MS * 100);
    assert_eq!(pair.record.origin, Origin::Adopted);
    assert!(pair.record.epoch > before, "{} after {before}", pair.record.epoch);
    pair.wipe(B);
    pair.restart(B);
    pair.run_to_duplex();
    texts(&mut pair, A, 3, 3);
    check_level(&mut pair);
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn an_empty_process_forms_no_pair_with_one_that_claims_nothing_and_holds_a_log() {
    for adopt in [false, true] {
        let mut pair = Pair::formed();
        texts(&mut pair, A, 0, 3);
        pair.kill(A);
        pair.kill(B);
        pair.begin_lineage();
        pair.wipe(A);
        pair.node(B).disk.membership = Membership::default();
        pair.witness_up = false;
        pair.restart_with(B, adopt);
        pair.restart(A);
        pair.run(MS * 20);
        // `a` is the first that is told that nobody is a member.
        pair.witness_up = true;
        pair.tell(A, Input::WitnessUp);
        pair.run(MS * 20);
        assert_eq!(pair.record.origin, Origin::Vacant, "adopt: {adopt}");
        pair.tell(B, Input::WitnessUp);
        pair.run(MS * 100);
        if adopt {
            pair.run_to_duplex();
            check_level(&mut pair);
            assert_eq!(pair.record.origin, Origin::Joined);
        } else {
            assert_eq!(pair.record.origin, Origin::Vacant);
            assert!(matches!(pair.node(B).stopped, Some(StopCause::LineageOver { .. })));
        }
    }
}

#[test]
fn a_disk_that_is_to_be_adopted_is_not_taken_for_fresh() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.kill(A);
    pair.kill(B);
    // It says that its owner was a joiner.
    pair.node(B).disk.membership = Default::default();
    pair.wipe(A);
    pair.begin_lineage();
    pair.restart(A);
    pair.restart_with(B, true);
    pair.run_to_duplex();
    assert_eq!(pair.node(B).executed_device_inputs(), 3);
    check_level(&mut pair);
}

#[test]
fn a_replica_whose_disk_fails_is_out_and_the_other_goes_on() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.tell(A, Input::Storage(StorageResponse::Failed { why: "no space left".into() }));
    assert!(matches!(pair.node(A).stopped, Some(StopCause::Storage { .. })));
    pair.run(MS * 10);
    assert_eq!(pair.record.asker, B);
    texts(&mut pair, B, 3, 3);
    assert_eq!(pair.node(B).texts().len(), 3);
}

#[test]
fn a_replica_without_descriptors_is_out_by_that_name_and_comes_back() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 3);
    pair.tell(
        A,
        Input::Storage(StorageResponse::Exhausted { why: "no file descriptor is left".into() }),
    );
    let Some(cause @ StopCause::Exhausted { .. }) = pair.node(A).stopped.clone() else {
        panic!("{:?}", pair.node(A).stopped)
    };
    assert!(cause.to_string().contains("nothing is wrong with the disk"), "{cause}");
    pair.run(MS * 10);
    assert_eq!(pair.record.asker, B);
    texts(&mut pair, B, 3, 3);
    pair.restart(A);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn the_member_keeps_serving_while_the_other_joins() {
    let mut pair = Pair::with(with_checkpoints);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 40);
    pair.kill(B);
    pair.wipe(B);
    pair.run(MS * 200);
    pair.node(A).disk.drop_before_checkpoint();
    pair.restart(B);
    for number in 40..400 {
        pair.device_input(A, &format!("{number}"));
        pair.run(MS * 1);
        let released = pair.node(A).texts().len();
        assert!(released + 2 > number, "{number}: {released}");
    }
    pair.run_to_duplex();
    check_level(&mut pair);
}

/// B joined, was asked for, was lost and began anew: it is not attached, does nothing at present,
/// and the record with it comes now. The windows are of 16 entries.
fn recorded_unattached(lacks: usize) -> Pair {
    let small = |place| crate::proto::Config { window_entries: 16, ..config(place) };
    let mut pair = Pair::with(small);
    pair.run(MS * 100);
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.witness_mute = true;
    pair.run_until(
        A,
        |event| matches!(event, Event::Asked { next } if next.origin == Origin::Joined),
    );
    for link in [0, 1] {
        pair.cut(link, false);
    }
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::FellBack { .. })));
    texts(&mut pair, A, 0, lacks);
    pair.node(A).events.clear();
    pair.node(B).events.clear();
    for link in [0, 1] {
        pair.cut(link, true);
    }
    pair.run_until(B, |event| matches!(event, Event::Offered { .. }));
    pair.pause(B, true);
    let record = pair.record;
    assert_eq!(record.origin, Origin::Joined, "the answer was lost");
    pair.witness_mute = false;
    pair.tell(A, Input::Witness(WitnessAnswer::Present { record }));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Attached { .. })));
    texts(&mut pair, A, lacks, 9);
    pair
}

#[test]
fn one_that_was_recorded_before_it_is_attached_is_admitted_within_a_small_window() {
    // Wherever the pieces that it gets happen to be cut.
    for lacks in 8..20 {
        let mut pair = recorded_unattached(lacks);
        pair.pause(B, false);
        pair.run(MS * 400);
        assert!(pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })), "{lacks}");
        assert_eq!(pair.record.origin, Origin::Joined, "{lacks}: nobody was left behind for it");
        check_level(&mut pair);
    }
}

#[test]
fn one_that_was_recorded_and_is_never_attached_is_left_behind() {
    let mut pair = recorded_unattached(12);
    let before = pair.node(A).released.len();
    pair.run(MS * 1000);
    assert_eq!(pair.node(A).released.len(), before + 9, "not held for a joiner that does nothing");
    assert_eq!(pair.record.origin, Origin::Alone);
    pair.pause(B, false);
    pair.run(MS * 100);
    assert!(matches!(pair.node(B).stopped, Some(StopCause::Removed { .. })));
    pair.restart(B);
    pair.run_to_duplex();
    check_level(&mut pair);
}

#[test]
fn a_joiner_that_is_handed_the_role_orders_only_once_its_disk_says_that_it_is_a_member() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 300);
    pair.restart(B);
    pair.run_until(A, |event| matches!(event, Event::Attached { .. }));
    pair.node(B).slow_membership = true;
    pair.run_until(A, |event| matches!(event, Event::Admitting { .. }));
    pair.node(A).events.clear();
    pair.tell(A, Input::Command(Command::HandOver));
    pair.device_input(A, "meanwhile");
    pair.run(MS * 5);
    let [a, b] = ReplicaId::BOTH.map(|place| pair.node(place).replica.status());
    assert_eq!(b.last_index, a.last_index, "it ordered what nobody would ever be sent");
    assert!(a.record == b.record && !a.is_sequencer && !b.is_sequencer);
    pair.finish_membership(B);
    texts(&mut pair, B, 0, 2);
    pair.run(MS * 1000);
    assert!(pair.node(B).replica.status().is_sequencer);
    assert_eq!(pair.node(A).texts(), ["meanwhile"]);
    assert_eq!(pair.node(B).texts(), ["0", "1"]);
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Suspected { .. })));
    check_level(&mut pair);
}

#[test]
fn a_joiner_neither_serves_nor_says_that_it_is_a_member_before_its_own_disk_knows() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    let is_recorded = |pair: &Pair| pair.record.origin == Origin::Joined;
    while !is_recorded(&pair) {
        pair.run(MS / 10);
    }
    pair.node(B).slow_membership = true;
    pair.run(MS * 300);
    let status = pair.node(B).replica.status();
    assert_eq!(status.standing, Standing::Joining);
    assert!(!pair.node(B).replica.takes_input());
    assert!(!pair.node(B).saw(|event| matches!(event, Event::Admitted { .. })));
    assert_eq!(pair.admitted, 0, "and does not say so");
}

#[test]
fn the_pair_says_that_it_is_duplex_once_the_joiners_disk_knows_and_not_before() {
    let mut pair = Pair::formed();
    texts(&mut pair, A, 0, 5);
    pair.kill(B);
    pair.run(MS * 200);
    pair.restart(B);
    pair.node(B).slow_membership = true;
    pair.run(MS * 300);
    assert!(pair.node(A).saw(|event| matches!(event, Event::Admitting { .. })));
    assert!(!pair.node(A).saw(|event| matches!(event, Event::Duplex { .. })));
    let status = pair.node(A).replica.status();
    assert!(matches!(status.standing, Standing::Serving { duplex: false, .. }), "{status:?}");
    assert_eq!(status.wait.map(|(wait, _)| wait), Some(Wait::Joiner));
    pair.finish_membership(B);
    pair.run_until(A, |event| matches!(event, Event::Duplex { .. }));
    let status = pair.node(A).replica.status();
    assert!(matches!(status.standing, Standing::Serving { duplex: true, .. }), "{status:?}");
    pair.kill(A);
    pair.run(MS * 1000);
    let standing = pair.node(B).replica.status().standing;
    assert!(matches!(standing, Standing::Serving { duplex: false, .. }), "{standing:?}");
}

#[test]
fn a_joiner_whose_clock_is_off_says_so_once_it_is_a_member() {
    let mut pair = Pair::formed();
    pair.kill(B);
    pair.run(MS * 200);
    texts(&mut pair, A, 0, 5);
    pair.wall_ahead[B.slot()] = Duration::from_secs(3600);
    pair.restart(B);
    pair.run_to_duplex();
    texts(&mut pair, A, 5, 5);
    let misrouted = |event: &&Event| matches!(event, Event::ClockStrays { .. });
    assert_eq!(pair.node(B).events.iter().filter(misrouted).count(), 1);
    assert!(!pair.node(A).saw(|event| matches!(event, Event::ClockStrays { .. })));
}

#[test]
fn one_that_met_a_member_which_then_died_claims_after_a_silence() {
    let quick = |place| crate::proto::Config { meeting: MS * 20, ..config(place) };
    let mut pair = Pair::with(quick);
    pair.configured = Box::new(quick);
    pair.run(MS * 100);
    texts(&mut pair, A, 0, 5);
    pair.connect_witness(false);
    pair.kill(B);
    pair.restart(B);
    pair.run(MS * 100);
    assert!(pair.node(B).saw(|event| matches!(event, Event::Met { .. })));
    pair.kill(A);
    pair.connect_witness(true);
    pair.run(MS * 50);
    assert!(pair.record.members.is_duplex(), "it waits for the member that it has met");
    // The silence is 100 ms, and nothing says that the connections have ended.
    pair.run(MS * 100);
    assert_eq!((pair.record.origin, pair.record.asker), (Origin::Restarted, B));
}
