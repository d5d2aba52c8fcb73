//! Scenarios of a relay that did not run for a while, or stood still.

use std::time::Duration;

use lockstep::ids::ReplicaId;

use super::tests::{Scenario, settings};
use crate::limits::SERVER_IDLE;

#[test]
fn mails_of_a_relay_that_did_not_run_for_longer_than_it_keeps_them_are_tried_and_not_bounced() {
    let settings = settings();
    let gap = Duration::from_nanos(settings.queue.give_up * 2);
    let mut scenario = Scenario::new(settings);
    let client = scenario.client();
    for number in 0..3 {
        scenario.mail(client, "a@b.org", &format!("mail {number}"));
    }
    scenario.hop_away();
    assert_eq!(scenario.pair.service().queue().len(), 3);
    scenario.restart_after(ReplicaId::A, gap);
    scenario.hop();
    assert_eq!(scenario.received.len(), 3);
    for number in 0..3 {
        let text = format!("mail {number}\r\n.\r\n");
        assert!(
            scenario.received.iter().any(|mail| mail.ends_with(&text)),
            "{:?}",
            scenario.received
        );
    }
    let counters = scenario.pair.service().counters();
    assert_eq!((counters.delivered, scenario.pair.service().queue().len()), (3, 0));
    scenario.check();
}

#[test]
fn a_mail_is_given_up_after_so_long_in_which_a_relay_ran() {
    let settings = settings();
    let give_up = Duration::from_nanos(settings.queue.give_up);
    let mut scenario = Scenario::new(settings);
    let client = scenario.client();
    scenario.mail(client, "a@b.org", "mail");
    scenario.hop_away();
    scenario.restart_after(ReplicaId::A, give_up * 3);
    let begun = scenario.pair.now();
    while scenario
        .pair
        .service()
        .queue()
        .iter()
        .any(|(_, mail)| mail.from != crate::smtp::ReversePath::Null)
    {
        scenario.hop_away();
        scenario.advance(600);
    }
    let ran = scenario.pair.now().since(begun);
    assert!(ran >= give_up - Duration::from_secs(3600) && ran <= give_up + give_up / 4, "{ran:?}");
}

#[test]
fn whoever_a_relay_that_stood_still_could_not_hear_has_as_much_longer() {
    let mut scenario = Scenario::new(settings());
    let client = scenario.client();
    assert!(scenario.mail(client, "a@b.org", "one").starts_with("250"));
    // The hop has the connection and says nothing.
    scenario.hop_for(0, "250 ok");
    let minutes = Duration::from_nanos(SERVER_IDLE);
    scenario.pair.stand_still(minutes * 3);
    assert_eq!(scenario.said(client), "", "it was not silent for so long as anybody knows");
    assert!(scenario.mail(client, "a@b.org", "two").starts_with("250"));
    scenario.hop();
    assert_eq!(scenario.received.len(), 2);
    assert_eq!(scenario.pair.service().counters().deferred, 0);
    scenario.pair.advance(minutes);
    assert!(scenario.said(client).starts_with("421"), "now it was");
    scenario.check();
}
