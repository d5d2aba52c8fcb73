//! An always-on SMTP relay, run in lockstep on two CoServers.
//!
//! The relay's heart is deterministic. It opens no socket, reads no clock, draws no random
//! number of its own, starts no thread and iterates over nothing in hash order. All its state is
//! plain data that rkyv can freeze. Bytes go in with the time, and what is to be done comes out
//! as values.
//!
//! # The parts
//! - [`relay`]: the service, which ties all of the following to redirected
//!   connections.
//! - [`smtp::server`]: one session per client; bytes in, replies and whole mails
//!   out. ESMTP of RFC 5321 with SIZE, PIPELINING, 8BITMIME and
//!   ENHANCEDSTATUSCODES, and the relay policy.
//! - [`queue`]: what is to be delivered, when it is tried again, bounces.
//! - [`smtp::client`]: one session per connection to the next hop; one outcome
//!   per recipient.
//! - [`limits`]: every bound, with its reason.
//! - [`app`], [`cli`], [`demo`]: the configuration, the program and its demonstration.
//! - [`load`], [`sink`]: what stands on either side of a relay when it is tried: a sender
//!   that keeps book, a next hop that does. Ordinary programs on ordinary sockets.
//! - [`net`], [`date`]: networks of the policy, dates from log time.
//!
//! # How it is driven
//! [`relay::Relay`] keeps a map of server sessions by connection, a map of client
//! sessions by connection, and one [`queue::Queue`]. Then:
//!
//! | event | what to do |
//! | --- | --- |
//! | a client connected | [`ServerSession::open`](smtp::server::ServerSession::open) |
//! | bytes from a client | [`handle`](smtp::server::ServerSession::handle) with `Data`; send each `Reply`; give each `Accepted` to [`Queue::submit`](queue::Queue::submit) and its answer back as `Verdict` |
//! | a client's connection ended | drop the session; a mail not yet accepted is the client's still |
//! | the queue changed or its time came | [`Queue::expire`](queue::Queue::expire), then [`Queue::next_job`](queue::Queue::next_job) until `None`: connect, open a client session, give it `Deliver` |
//! | bytes from the next hop | [`handle`](smtp::client::ClientSession::handle) with `Data`; send each `Send`; give each `Done` to [`Queue::finish`](queue::Queue::finish), then the next job or `Quit` to the session |
//! | the next hop's connection ended or failed | `Closed` |
//! | a timer fired | `Deadline` to the session; it knows whether it was meant |
//! | the service ends or turns clients away | `Stop` to server sessions |
//!
//! One timer, set to the least of all `deadline()`s and
//! [`Queue::next_wakeup`](queue::Queue::next_wakeup), is enough. The `250` for a
//! mail is an ordinary output of the step that queued it, so the release rule
//! keeps it back until both CoServers hold the mail.
//!
//! ```
//! use mail_relay::queue::{Queue, QueueConfig, Share};
//! use mail_relay::smtp::Domain;
//! use mail_relay::smtp::server::{
//!     Action, Input, ServerConfig, ServerSession, Surroundings, Verdict,
//! };
//!
//! let hostname = Domain::parse("relay.example")?;
//! let mut config = ServerConfig::new(hostname.clone());
//! config.policy.allow_domain("example.org")?;
//! let queue_config = QueueConfig::new(hostname, "hop.example");
//! let mut queue = Queue::default();
//!
//! let now = 1_700_000_000_000_000_000; // log time, in nanoseconds
//! let room = queue.room(&queue_config);
//! let env = Surroundings { room, ..Surroundings::new(&config, now) };
//! let (mut session, greeting) = ServerSession::open(env, "192.0.2.7".parse()?);
//! let input = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhi\r\n.\r\n";
//! let mut replies = greeting;
//! for action in session.handle(env, Input::Data(input)) {
//!     let Action::Accepted(mail) = action else { replies.push(action); continue };
//!     let id = queue.submit(&queue_config, Share::Unbounded, now, *mail).map(|id| id.to_string());
//!     let verdict = match &id {
//!         Ok(id) => Verdict::Queued(id),
//!         Err(refusal) => Verdict::Refused(*refusal),
//!     };
//!     replies.extend(session.handle(env, Input::Verdict(verdict)));
//! }
//! assert_eq!(replies.last(), Some(&Action::Reply("250 2.0.0 queued as 1-6553F100\r\n".into())));
//!
//! let job = queue.next_job(&queue_config, now).expect("due at once");
//! assert_eq!(job.delivery.recipients[0].to_string(), "b@example.org");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "processes")]
pub mod app;
#[cfg(feature = "processes")]
pub mod cli;
pub mod date;
#[cfg(feature = "processes")]
pub mod demo;
pub mod limits;
#[cfg(feature = "processes")]
pub mod load;
pub mod net;
pub mod queue;
#[cfg(feature = "processes")]
pub mod relay;
#[cfg(feature = "processes")]
pub mod sink;
pub mod smtp;
