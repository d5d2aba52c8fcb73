//! The life of mails in the queue.

use std::net::IpAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::limits::{GIVE_UP, HOUR, MINUTE, SECOND};
use crate::smtp::Message;
use crate::smtp::server::Client;

pub(super) const START: u64 = 1_000_000_000 * SECOND;

struct Post {
    config: QueueConfig,
    queue: Queue,
    now: u64,
}

impl Post {
    fn new() -> Post {
        let hostname = Domain::parse("relay.example").unwrap();
        let config = QueueConfig::new(hostname, "hop.example");
        Post { config, queue: Queue::default(), now: START }
    }

    fn submit(&mut self, from: &str, recipients: &[&str]) -> Result<QueueId, Refusal> {
        self.submit_text(from, recipients, "Subject: x\r\n\r\nhello\r\n")
    }

    fn submit_text(
        &mut self,
        from: &str,
        recipients: &[&str],
        text: &str,
    ) -> Result<QueueId, Refusal> {
        self.queue.submit(&self.config, Share::Unbounded, self.now, mail(from, recipients, text))
    }

    fn job(&mut self) -> Option<Job> {
        self.queue.next_job(&self.config, self.now)
    }

    #[track_caller]
    fn must_job(&mut self) -> Job {
        self.job().expect("a job is due")
    }

    /// Ends a job with one outcome for each of its recipients.
    fn finish(&mut self, job: &Job, outcomes: &[Outcome]) -> Vec<QueueEvent> {
        let outcomes = outcomes.iter().cloned().map(Some).collect();
        self.report(Report { token: job.delivery.token, outcomes, failure: None, in_doubt: false })
    }

    fn fail(&mut self, job: &Job, failure: SessionFailure) -> Vec<QueueEvent> {
        let outcomes = vec![None; job.delivery.recipients.len()];
        self.report(Report {
            token: job.delivery.token,
            outcomes,
            failure: Some(failure),
            in_doubt: false,
        })
    }

    fn report(&mut self, report: Report) -> Vec<QueueEvent> {
        self.queue.finish(&self.config, self.now, 0, report)
    }

    fn wakeup(&self) -> Option<u64> {
        self.queue.next_wakeup(&self.config)
    }
}

fn mail(sender: &str, recipients: &[&str], text: &str) -> AcceptedMail {
    from([192, 0, 2, 1].into(), sender, recipients, text)
}

/// The same from a client at this address.
pub(super) fn from(address: IpAddr, from: &str, recipients: &[&str], text: &str) -> AcceptedMail {
    let from = match from {
        "" => ReversePath::Null,
        from => ReversePath::Mailbox(Mailbox::parse(from).unwrap()),
    };
    let content = Bytes::copy_from_slice(text.as_bytes());
    let eight_bit = !text.is_ascii();
    AcceptedMail {
        client: Client { address, hello: "c".to_owned(), extended: true },
        from,
        recipients: recipients.iter().map(|text| Mailbox::parse(text).unwrap()).collect(),
        message: Message { trace: Bytes::new(), content, eight_bit },
    }
}

fn reply(code: u16, status: &str, text: &str) -> HopReply {
    HopReply { code, status: status.to_owned(), text: text.to_owned() }
}

pub(super) fn later() -> Outcome {
    Outcome::Transient(reply(450, "4.2.0", "later"))
}

pub(super) fn never() -> Outcome {
    Outcome::Permanent(reply(550, "5.1.1", "no such user"))
}

fn unreachable() -> SessionFailure {
    SessionFailure::Unreachable("connection refused".to_owned())
}

#[test]
fn a_mail_is_due_at_once_and_gone_when_delivered() {
    let mut post = Post::new();
    let id = post.submit("a@b.org", &["c@d.org"]).unwrap();
    assert_eq!(id.to_string(), "1-3B9ACA00");
    assert_eq!(post.wakeup(), Some(START));
    let job = post.must_job();
    assert!(job.delivery.message.trace.starts_with(b"Received: from c ([192.0.2.1])\r\n"));
    assert_eq!(post.job(), None);
    let events = post.finish(&job, &[Outcome::Delivered]);
    let to = Mailbox::parse("c@d.org").unwrap();
    assert_eq!(events, [QueueEvent::Delivered(id, to), QueueEvent::Removed(id)]);
    assert!(post.queue.is_empty() && post.queue.bytes() == 0 && post.wakeup().is_none());
    assert_eq!(post.finish(&job, &[Outcome::Delivered]), []);
}

#[test]
fn a_mail_that_fails_for_now_is_tried_again_with_growing_pauses() {
    let mut post = Post::new();
    post.submit("a@b.org", &["c@d.org"]).unwrap();
    for pause in [5, 10, 20, 40, 80, 120, 120] {
        let job = post.must_job();
        post.finish(&job, &[later()]);
        assert_eq!(post.wakeup(), Some(post.now + pause * MINUTE));
        post.now += pause * MINUTE - 1;
        assert_eq!(post.job(), None);
        post.now += 1;
    }
}

#[test]
fn only_undelivered_recipients_are_tried_again() {
    let mut post = Post::new();
    let id = post.submit("a@b.org", &["c@d.org", "e@d.org", "f@d.org"]).unwrap();
    let job = post.must_job();
    let events = post.finish(&job, &[Outcome::Delivered, later(), never()]);
    assert!(events.contains(&QueueEvent::Deferred(id, START + 5 * MINUTE)));
    post.now += 5 * MINUTE;
    let bounce = post.queue.iter().last().unwrap().1.clone();
    assert!(bounce.from.is_null());
    let jobs = [post.must_job(), post.must_job()];
    let again = jobs.iter().find(|job| job.id == id).unwrap();
    assert_eq!(again.delivery.recipients, [Mailbox::parse("e@d.org").unwrap()]);
    post.finish(again, &[Outcome::Delivered]);
    assert_eq!(post.queue.len(), 1);
}

#[test]
fn many_recipients_go_in_several_deliveries_without_a_pause() {
    let mut post = Post::new();
    let names: Vec<String> = (0..250).map(|number| format!("u{number}@d.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    post.submit("a@b.org", &names).unwrap();
    let mut sizes = vec![];
    while let Some(job) = post.job() {
        sizes.push(job.delivery.recipients.len());
        post.finish(&job, &vec![Outcome::Delivered; job.delivery.recipients.len()]);
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert!(post.queue.is_empty());
}

#[test]
fn a_hop_that_is_down_is_probed_by_one_mail_and_charged_to_none() {
    let mut post = Post::new();
    for _ in 0..3 {
        post.submit("a@b.org", &["c@d.org"]).unwrap();
    }
    let jobs = [post.must_job(), post.must_job()];
    for job in &jobs {
        post.fail(job, unreachable());
    }
    assert_eq!(post.job(), None);
    assert_eq!(post.wakeup(), Some(START + SECOND));
    post.now += SECOND;
    let probe = post.must_job();
    assert_eq!(post.job(), None, "one probe at a time");
    post.fail(&probe, unreachable());
    assert_eq!(post.wakeup(), Some(post.now + 2 * SECOND));
    post.now += 2 * SECOND;
    let probe = post.must_job();
    post.finish(&probe, &[Outcome::Delivered]);
    assert!(post.job().is_some() && post.job().is_some(), "the others follow at once");
    assert!(post.queue.iter().all(|(_, mail)| mail.attempts == 0));
}

#[test]
fn a_connection_lost_under_a_mail_is_retried_fast_but_not_for_ever() {
    let mut post = Post::new();
    post.submit("a@b.org", &["c@d.org"]).unwrap();
    let lost = || SessionFailure::Lost("the carrier died".to_owned());
    for pause in [SECOND, SECOND, SECOND, 5 * MINUTE, 10 * MINUTE] {
        let job = post.must_job();
        post.fail(&job, lost());
        assert_eq!(post.wakeup(), Some(post.now + pause));
        post.now += pause;
    }
}

#[test]
fn a_permanent_failure_is_reported_to_the_sender() {
    let mut post = Post::new();
    let text = "From: me\r\nX: gr\u{f6}\u{df}e\r\n--report-2-3B9ACA00: x\r\n\r\nsecret body\r\n";
    let id = post.submit_text("a@b.org", &["c@d.org"], text).unwrap();
    let job = post.must_job();
    let events = post.finish(&job, &[never()]);
    let bounce_id = QueueId { number: 2, accepted: START };
    assert_eq!(events[1..], [QueueEvent::Bounced(id, bounce_id), QueueEvent::Removed(id)]);
    let job = post.must_job();
    assert_eq!(job.delivery.from, ReversePath::Null);
    assert_eq!(job.delivery.recipients, [Mailbox::parse("a@b.org").unwrap()]);
    let message = &job.delivery.message;
    let text = std::str::from_utf8(&message.content).unwrap();
    let expected = include_str!("bounce.expected.txt").replace('\n', "\r\n");
    assert_eq!(text, expected, "\n{text}");
    assert!(text.is_ascii() && !message.eight_bit);
}

#[test]
fn a_bounce_is_never_bounced() {
    let mut post = Post::new();
    let id = post.submit("", &["c@d.org"]).unwrap();
    let job = post.must_job();
    let events = post.finish(&job, &[never()]);
    assert_eq!(events[1..], [QueueEvent::Discarded(id), QueueEvent::Removed(id)]);
    assert!(post.queue.is_empty());
}

#[test]
fn a_mail_too_old_is_given_up_with_what_was_said_last() {
    let mut post = Post::new();
    post.submit("a@b.org", &["c@d.org"]).unwrap();
    let mut attempts = 0;
    while post.queue.iter().any(|(_, mail)| !mail.from.is_null()) {
        let job = post.must_job();
        post.finish(&job, &[later()]);
        post.now = post.wakeup().unwrap().max(post.now);
        attempts += 1;
        assert!(attempts < 100);
    }
    assert_eq!(post.now, START + GIVE_UP - 1);
    let job = post.must_job();
    let text = String::from_utf8(job.delivery.message.content.to_vec()).unwrap();
    assert!(text.contains("Diagnostic-Code: smtp; 450 4.2.0 later\r\n"), "{text}");
}

#[test]
fn a_mail_is_given_up_in_time_even_if_the_hop_never_comes_back() {
    let mut post = Post::new();
    let id = post.submit("a@b.org", &["c@d.org"]).unwrap();
    let job = post.must_job();
    post.fail(&job, unreachable());
    post.now = START + GIVE_UP - 1;
    assert_eq!(post.queue.expire(&post.config, post.now), []);
    post.now += 1;
    assert_eq!(post.wakeup().unwrap().max(post.now), post.now);
    let events = post.queue.expire(&post.config, post.now);
    assert!(matches!(&events[0], QueueEvent::Failed(failed, _, failure)
        if *failed == id && failure.reply.text.contains("connection refused")));
    assert_eq!(post.queue.len(), 1, "the bounce");
}

#[test]
fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let mut post = Post::new();
    post.config.max_mails = 2;
    post.submit("a@b.org", &["c@d.org"]).unwrap();
    post.submit("a@b.org", &["c@d.org"]).unwrap();
    assert_eq!(post.queue.room(&post.config), 0);
    assert_eq!(post.submit("a@b.org", &["c@d.org"]), Err(Refusal::QueueFull));
    let job = post.must_job();
    post.finish(&job, &[Outcome::Delivered]);
    post.config.max_bytes = post.queue.bytes() + 100;
    assert_eq!(post.queue.room(&post.config), 100);
    assert_eq!(post.submit("a@b.org", &["c@d.org"]), Err(Refusal::QueueFull));
}

#[test]
fn in_a_full_queue_a_bounce_takes_the_place_of_its_mail() {
    let mut post = Post::new();
    post.config.max_mails = 1;
    let id = post.submit("a@b.org", &["c@d.org", "e@d.org"]).unwrap();
    let job = post.must_job();
    let events = post.finish(&job, &[never(), later()]);
    assert_eq!(events.len(), 2, "no room, so no bounce yet: {events:?}");
    post.now += HOUR;
    let job = post.must_job();
    assert_eq!(job.delivery.recipients.len(), 1);
    post.finish(&job, &[Outcome::Delivered]);
    let (bounce, mail) = post.queue.iter().next().unwrap();
    assert!(*bounce > id && mail.from.is_null() && post.queue.len() == 1);
}

#[test]
fn deliveries_at_the_same_time_are_bounded() {
    let mut post = Post::new();
    post.config.max_deliveries = 2;
    for _ in 0..3 {
        post.submit("a@b.org", &["c@d.org"]).unwrap();
    }
    let job = post.must_job();
    post.must_job();
    assert_eq!(post.job(), None);
    assert_eq!(post.wakeup(), Some(START + GIVE_UP));
    post.finish(&job, &[Outcome::Delivered]);
    assert!(post.job().is_some());
}

#[test]
fn a_mail_that_runs_in_a_circle_is_refused() {
    let mut post = Post::new();
    let text = |count: usize| "Received: x\r\n".repeat(count) + "\r\n";
    assert!(post.submit_text("a@b.org", &["c@d.org"], &text(limits::RECEIVED_FIELDS)).is_ok());
    let looping = text(limits::RECEIVED_FIELDS + 1);
    assert_eq!(post.submit_text("a@b.org", &["c@d.org"], &looping), Err(Refusal::Loop));
}

/// One step in the life of a queue.
#[derive(Debug, Clone)]
enum Step {
    Submit { null: bool, recipients: usize },
    Start,
    Finish { which: usize, outcomes: u64, random: u64 },
    Wait(u64),
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), 1usize..4).prop_map(|(null, recipients)| Step::Submit { null, recipients }),
        4 => Just(Step::Start),
        4 => (any::<usize>(), any::<u64>(), any::<u64>())
            .prop_map(|(which, outcomes, random)| Step::Finish { which, outcomes, random }),
        2 => (0..3 * 24 * HOUR).prop_map(Step::Wait),
        1 => Just(Step::Freeze),
    ]
}

/// Runs the steps; freezes only if told to. Gives the queue and all events.
fn live(steps: &[Step], freeze: bool) -> (Queue, Vec<QueueEvent>) {
    type Error = rkyv::rancor::Error;
    let mut post = Post::new();
    post.config.max_mails = 5;
    post.config.max_deliveries = 3;
    let (mut jobs, mut events) = (Vec::<Job>::new(), vec![]);
    let mut pending = 0usize;
    for step in steps {
        match step {
            Step::Submit { null, recipients } => {
                let names = &["c@d.org", "e@d.org", "f@d.org"][..*recipients];
                let from = if *null { "" } else { "a@b.org" };
                pending += post.submit(from, names).map_or(0, |_| *recipients);
            }
            Step::Start => jobs.extend(post.job()),
            Step::Finish { which, outcomes, random } => {
                if jobs.is_empty() {
                    continue;
                }
                let job = jobs.remove(which % jobs.len());
                let choose = |at: usize| match outcomes >> (2 * at) & 3 {
                    0 => Some(Outcome::Delivered),
                    1 => Some(later()),
                    2 => Some(never()),
                    _ => None,
                };
                let outcomes: Vec<_> = (0..job.delivery.recipients.len()).map(choose).collect();
                let token = job.delivery.token;
                let failure = outcomes.contains(&None).then(unreachable);
                let report = Report { token, outcomes, failure, in_doubt: false };
                events.extend(post.queue.finish(&post.config, post.now, *random, report));
            }
            Step::Wait(time) => {
                post.now += time;
                events.extend(post.queue.expire(&post.config, post.now));
            }
            Step::Freeze if freeze => {
                let mails: Vec<_> =
                    post.queue.iter().map(|(id, mail)| (*id, mail.clone())).collect();
                let frozen = rkyv::to_bytes::<Error>(&(post.queue.head(), mails)).unwrap();
                let (head, mails) =
                    rkyv::from_bytes::<(QueueHead, Vec<(QueueId, QueuedMail)>), Error>(&frozen)
                        .unwrap();
                post.queue = Queue::from_parts(head, mails);
            }
            Step::Freeze => {}
        }
        check(&post, jobs.len());
    }
    let is_end =
        |event: &&QueueEvent| matches!(event, QueueEvent::Delivered(..) | QueueEvent::Failed(..));
    let bounced = |event: &&QueueEvent| matches!(event, QueueEvent::Bounced(..));
    let ended = events.iter().filter(is_end).count();
    let begun = pending + events.iter().filter(bounced).count();
    let waiting = |(_, mail): (&QueueId, &QueuedMail)| {
        let open = |r: &&Recipient| matches!(r.state, entry::RecipientState::Pending(_));
        mail.recipients.iter().filter(open).count()
    };
    assert_eq!(begun, ended + post.queue.iter().map(waiting).sum::<usize>(), "a recipient is lost");
    (post.queue, events)
}

fn check(post: &Post, jobs: usize) {
    let queue = &post.queue;
    assert!(queue.len() as u64 <= post.config.max_mails);
    assert_eq!(queue.running(), jobs);
    assert_eq!(queue.bytes(), queue.iter().map(|(_, mail)| mail.cost()).sum::<u64>());
    let waiting: BTreeSet<(u64, QueueId)> = queue
        .iter()
        .filter_map(|(id, mail)| match mail.state {
            MailState::Waiting(time) => Some((time, *id)),
            MailState::Running => None,
        })
        .collect();
    assert_eq!(queue.due, waiting);
    assert!(queue.iter().all(|(_, mail)| mail.is_pending()), "a mail without a purpose stays");
    assert_eq!(queue.is_empty(), queue.next_wakeup(&post.config).is_none() && jobs == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_recipient_is_ever_lost_and_a_frozen_queue_goes_on_alike(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        prop_assert_eq!(live(&steps, true), live(&steps, false));
    }
}
