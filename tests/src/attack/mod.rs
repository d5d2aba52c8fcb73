//! An attacker beside honest clients, and what it costs them.
//!
//! Each [`Mode`] takes all that it can of one shared resource. A [`Stage`] has a pair of its own,
//! and honest clients, and lets the attack loose on them, in a process of its own. Then it burns as
//! much processor time as that did with nothing to it, since both share two cores with the pair.
//! What the attack costs beyond that is the pair's doing.

mod begun;
mod callers;
mod control;
mod full_queue;
mod greedy;
mod honest;
mod keyed;
mod packets;
mod report;
mod senders;
mod silent;
mod stage;
mod target;

use std::fmt;
use std::time::Duration;

pub use control::burn;
pub use report::{HEADING, Report};
pub use stage::{Plan, RELAY, Stage};
use target::Target;

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Without a key: first packets of connections to come, one after the other, to a port
    /// for clients.
    Initials,
    /// Without a key: random packets to the ports for clients and for links.
    Noise,
    /// Without a key: handshakes that go on as far as shows an address, and no further.
    Handshakes,
    /// With a client's key: sessions, each with many requests, whose replies are neither read
    /// nor acknowledged.
    Replies,
    /// With a client's key: as many sessions as there are.
    Sessions,
    /// With a client's key: connections on which replies wait that nobody reads.
    SlowReaders,
    /// With a client's key: as many connections as there are.
    OneKey,
    /// From one block of addresses: connections to a mail relay that bring no mail. Some say
    /// nothing, some end in the middle of a mail, some say a byte now and then.
    SilentSmtp,
    /// From one block of addresses: mails that the next hop puts off, as many as the relay takes,
    /// so that its queue is as full as they can make it.
    FullQueue,
}

/// What runs on a pair that is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A service that answers what it is asked.
    Echo,
    /// The mail relay, with a next hop.
    Relay,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Initials,
        Self::Noise,
        Self::Handshakes,
        Self::Replies,
        Self::Sessions,
        Self::SlowReaders,
        Self::OneKey,
        Self::SilentSmtp,
        Self::FullQueue,
    ];

    /// The word for it on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initials => "initials",
            Self::Noise => "noise",
            Self::Handshakes => "handshakes",
            Self::Replies => "replies",
            Self::Sessions => "sessions",
            Self::SlowReaders => "slow-readers",
            Self::OneKey => "one-key",
            Self::SilentSmtp => "silent-smtp",
            Self::FullQueue => "full-queue",
        }
    }

    /// What it is an attack on.
    pub const fn service(self) -> Service {
        match self {
            Self::SilentSmtp | Self::FullQueue => Service::Relay,
            _ => Service::Echo,
        }
    }

    /// The mode of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Attacks, until the process is ended.
    ///
    /// # Errors
    /// What keeps it from attacking.
    pub fn attack(self, target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
        match self {
            Self::Initials => packets::initials(target, force, ready),
            Self::Noise => packets::noise(target, force, ready),
            Self::Handshakes => begun::handshakes(target, force, ready),
            Self::Replies => greedy::replies(target, force, ready),
            Self::Sessions => greedy::sessions(target, force, ready),
            Self::SlowReaders => greedy::slow_readers(target, force, ready),
            Self::OneKey => greedy::one_key(target, force, ready),
            Self::SilentSmtp => silent::clients(target, force, ready),
            Self::FullQueue => full_queue::mails(target, force, ready),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How hard an attack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// A little force: enough to see whether the promises hold at all.
    Little,
    /// The force at which the promises once did not hold.
    Full,
}

impl Force {
    fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Full => "full",
        }
    }

    fn of(name: &str) -> Self {
        if name == "little" { Self::Little } else { Self::Full }
    }

    /// This number at full force, that one for a little of it.
    fn pick<T>(self, full: T, little: T) -> T {
        match self {
            Self::Little => little,
            Self::Full => full,
        }
    }
}

/// What the process that attacks does, told by its command line: `MODE FORCE DIRECTORY`.
///
/// # Errors
/// What keeps it from attacking.
pub fn attack_as(words: &[String], ready: impl FnOnce()) -> Result<(), String> {
    let [mode, force, directory] = words else { return Err("MODE FORCE DIRECTORY".into()) };
    let mode = Mode::of(mode).ok_or_else(|| format!("no mode {mode}"))?;
    mode.attack(&Target::read(directory.as_ref())?, Force::of(force), ready)
}

/// A rate that is kept: `each` is done so often a second, in bursts of a millisecond's.
#[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
fn at_rate(per_second: u32, mut each: impl FnMut()) -> ! {
    let began = std::time::Instant::now();
    let mut done = 0_u64;
    loop {
        let due = began.elapsed().as_micros() as u64 * u64::from(per_second) / 1_000_000;
        // Of what it is late with it gives up all but a tenth of a second's.
        done = done.max(due.saturating_sub(u64::from(per_second) / 10));
        while done < due {
            each();
            done += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
