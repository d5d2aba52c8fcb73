//! A full queue: what a view of it costs, and how it is written.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::machine::{Freeze, RecordSink, SinkError};

use super::tests::settings;
use super::{Frozen, Relay};
use crate::limits;
use crate::queue::Share;
use crate::smtp::server::{AcceptedMail, Client};
use crate::smtp::{Mailbox, Message, ReversePath};

/// As many as the queue takes by default.
const MAILS: u64 = limits::QUEUE_MAILS;

fn mail() -> AcceptedMail {
    let content = Bytes::from("0123456789abcde\r\n".repeat(1024 / 17));
    AcceptedMail {
        client: Client { address: [192, 0, 2, 1].into(), hello: "c".into(), extended: true },
        from: ReversePath::Mailbox(Mailbox::parse("a@example.org").unwrap()),
        recipients: vec![Mailbox::parse("to@example.org").unwrap()],
        message: Message { trace: Bytes::new(), content, eight_bit: false },
    }
}

fn full() -> Relay {
    let mut relay = Relay::new(settings());
    for now in 0..MAILS {
        relay.post.queue.submit(&relay.settings.queue, Share::Unbounded, now, mail()).unwrap();
    }
    relay
}

/// The least time of several, which is what the machine's other business does not add to.
#[expect(clippy::disallowed_methods, reason = "measures what must not take long")]
fn least(mut what: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        what();
        start.elapsed()
    };
    (0..20).map(once).min().unwrap_or_default()
}

#[derive(Default)]
struct Sizes {
    records: u64,
    longest: usize,
}

impl RecordSink for Sizes {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.records += 1;
        self.longest = self.longest.max(bytes.len());
        Ok(())
    }
}

#[test]
fn a_full_queue_in_which_all_is_late_is_gone_on_with_at_once() {
    let mut relay = full();
    let config = relay.settings.queue.clone();
    let gap = config.give_up * 2;
    let now = MAILS + gap;
    relay.post.queue.skip(gap);
    let looking = least(|| {
        assert!(relay.post.queue.expire(&config, now).is_empty());
        let job = relay.post.queue.next_job(&config, now);
        assert!(job.is_some() || relay.post.queue.running() == 3);
    });
    assert!(looking < Duration::from_millis(5), "{looking:?}");
    assert_eq!(relay.post.queue.len() as u64, MAILS);
}

#[test]
fn a_view_of_a_full_queue_takes_no_time_and_its_records_are_small() {
    let mut relay = full();
    let mut view = None;
    let freezing = least(|| view = Some(Frozen::of(&relay)));
    assert!(freezing < Duration::from_millis(1), "{freezing:?}");
    // The first change after a view copies the mail and the way to it, not the queue.
    let changing = least(|| {
        let _view = Frozen::of(&relay);
        relay.post.queue.submit(&relay.settings.queue, Share::Unbounded, 0, mail()).unwrap_err();
        let job = relay.post.queue.next_job(&relay.settings.queue, MAILS);
        assert!(job.is_some() || relay.post.queue.running() == 3);
    });
    assert!(changing < Duration::from_millis(5), "{changing:?}");
    let mut sizes = Sizes::default();
    view.unwrap().write(&mut sizes).unwrap();
    assert!(sizes.records > MAILS && sizes.longest < 4096, "{}", sizes.longest);
}
