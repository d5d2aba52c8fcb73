//! Stories of a relay that did not run for a while, or stood still.

use std::time::Duration;

use lockstep::ids::ReplicaId;

use super::tests::{Story, settings};
use crate::limits::SERVER_IDLE;

#[test]
fn mails_of_a_relay_that_did_not_run_for_longer_than_it_keeps_them_are_tried_and_not_bounced() {
    let settings = settings();
    let gap = Duration::from_nanos(settings.queue.give_up * 2);
    let mut story = Story::new(settings);
    let client = story.client();
    for number in 0..3 {
        story.mail(client, "a@b.org", &format!("mail {number}"));
    }
    story.hop_away();
    assert_eq!(story.pair.service().queue().len(), 3);
    story.restart_after(ReplicaId::A, gap);
    story.hop();
    assert_eq!(story.received.len(), 3);
    for number in 0..3 {
        let text = format!("mail {number}\r\n.\r\n");
        assert!(story.received.iter().any(|mail| mail.ends_with(&text)), "{:?}", story.received);
    }
    let counters = story.pair.service().counters();
    assert_eq!((counters.delivered, story.pair.service().queue().len()), (3, 0));
    story.check();
}

#[test]
fn a_mail_is_given_up_after_so_long_in_which_a_relay_ran() {
    let settings = settings();
    let give_up = Duration::from_nanos(settings.queue.give_up);
    let mut story = Story::new(settings);
    let client = story.client();
    story.mail(client, "a@b.org", "mail");
    story.hop_away();
    story.restart_after(ReplicaId::A, give_up * 3);
    let begun = story.pair.now();
    while story
        .pair
        .service()
        .queue()
        .iter()
        .any(|(_, mail)| mail.from != crate::smtp::ReversePath::Null)
    {
        story.hop_away();
        story.advance(600);
    }
    let ran = story.pair.now().since(begun);
    assert!(ran >= give_up - Duration::from_secs(3600) && ran <= give_up + give_up / 4, "{ran:?}");
}

#[test]
fn whoever_a_relay_that_stood_still_could_not_hear_has_as_much_longer() {
    let mut story = Story::new(settings());
    let client = story.client();
    assert!(story.mail(client, "a@b.org", "one").starts_with("250"));
    // The hop has the connection and says nothing.
    story.hop_for(0, "250 ok");
    let minutes = Duration::from_nanos(SERVER_IDLE);
    story.pair.stand_still(minutes * 3);
    assert_eq!(story.said(client), "", "it was not silent for so long as anybody knows");
    assert!(story.mail(client, "a@b.org", "two").starts_with("250"));
    story.hop();
    assert_eq!(story.received.len(), 2);
    assert_eq!(story.pair.service().counters().deferred, 0);
    story.pair.advance(minutes);
    assert!(story.said(client).starts_with("421"), "now it was");
    story.check();
}
