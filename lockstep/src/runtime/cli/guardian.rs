//! The guardian: the parent of a CoServer's process, which outlives it (rule S7 of
//! `docs/protocol.md`).
//!
//! It starts the process, tells the other CoServer at once when it has ended, on connections of its
//! own along every link, and starts it again within a budget. Its own end changes nothing for the
//! process, which goes on without one.
//!
//! The process holds a [`Lifeline`] and says there which incarnation it is. So the guardian speaks
//! only of processes that it started, and hears of their end before the kernel has cleared them away.

mod lifeline;

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as LinuxSignal, getpid, getppid, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::lifeline::Lifeline;
use super::process::{Heard, Signals};
use super::rejoin::{WAITS, itself};
use crate::ids::{Incarnation, PairId};
use crate::runtime::config::CoServerConfig;
use crate::runtime::exit::Exit;
use crate::runtime::link::{ConnectionId, DialConfig, Event, Network};
use crate::runtime::quic::CloseCode;
use crate::wire::codec::encode_death_notice;
use crate::wire::frames::{Death, DeathNotice};

/// Says to a process that this one is its guardian.
const GUARDIAN: &str = "LOCKSTEP_GUARDIAN";

/// The exit code of a process that panicked.
const PANICKED: i32 = 101;

/// What is left to say when the guardian ends has so long.
const GOODBYE: Duration = Duration::from_millis(200);

/// A process that has started hears signals by then, or is not going to.
const HEARS_WITHIN: Duration = Duration::from_secs(5);
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// A process that is told to stop has so long: what hangs is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// What a process knows of its guardian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded {
    /// The guardian's process.
    pub(super) pid: u32,
    /// The lifeline, among the open files.
    lifeline: i32,
}

impl Guarded {
    /// Whether this process was started by a guardian.
    pub(super) fn find() -> Option<Self> {
        let named = std::env::var_os(GUARDIAN)?;
        let (pid, lifeline) = named.to_str()?.split_once(':')?;
        let (pid, lifeline) = (pid.parse().ok()?, lifeline.parse().ok()?);
        let parent = getppid()?.as_raw_nonzero().get().unsigned_abs();
        (pid == parent).then_some(Self { pid, lifeline })
    }

    /// Whether this process had a guardian, which is gone. It goes on without one, and is none.
    pub(super) fn is_orphan() -> bool {
        std::env::var_os(GUARDIAN).is_some() && Self::find().is_none()
    }

    /// Tells the guardian that this process hears signals from now on.
    pub(super) fn hear(self) {
        if let Ok(lifeline) = Lifeline::inherited(self.lifeline) {
            lifeline.hear();
        }
    }

    /// Tells the guardian which incarnation this process is. To be called by the thread that
    /// releases outputs: its end is the end of the process.
    pub(super) async fn hold(self, incarnation: Incarnation) {
        let held = match Lifeline::inherited(self.lifeline) {
            Ok(lifeline) => lifeline.hold(incarnation).await,
            Err(error) => Err(error),
        };
        if let Err(error) = held {
            tracing::warn!(
                event = "guardian_not_told",
                %error,
                "the guardian does not know this process: it will say nothing of its end"
            );
        }
    }
}

/// How often a process is started again that was killed, or panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Starts within the window.
    pub(super) starts: u32,
    pub(super) window: Duration,
}

/// What is left of a budget.
#[derive(Debug)]
struct Restarts {
    budget: Budget,
    /// When it was started again within the window, the latest last.
    spent: VecDeque<Instant>,
}

impl Restarts {
    fn new(budget: Budget) -> Self {
        Self { budget, spent: VecDeque::new() }
    }

    /// How long to wait before the next start; `None` if the budget is spent.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        let Budget { starts, window } = self.budget;
        while self.spent.front().is_some_and(|at| now.duration_since(*at) >= window) {
            self.spent.pop_front();
        }
        let before = u32::try_from(self.spent.len()).unwrap_or(u32::MAX);
        if before >= starts {
            return None;
        }
        self.spent.push_back(now);
        // The first one at once: the pair is not protected meanwhile.
        Some(before.checked_sub(1).map_or(Duration::ZERO, |failures| WAITS.pause(failures)))
    }
}

/// Runs the CoServer of this configuration as a child of this process until it is told to stop, or
/// ends otherwise than by being killed.
///
/// # Errors
/// If the system gives no process, socket or signal.
pub(super) fn guard(
    config: &CoServerConfig,
    read_again: impl Fn() -> Option<CoServerConfig>,
    signals: Signals,
    budget: Budget,
) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut guardian = Guardian::new(config, signals)?;
        let mut restarts = Restarts::new(budget);
        let ended = guardian.run(&mut restarts, read_again).await?;
        let Guardian { mut network, connections, .. } = guardian;
        for connection in connections {
            network.finish(connection, CloseCode::SHUTDOWN, "the guardian ends", GOODBYE);
        }
        network.shutdown(CloseCode::SHUTDOWN, "the guardian ends", GOODBYE).await;
        Ok(ended)
    })
}

/// How a guarded CoServer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its process ended by itself, with this exit code.
    Exited(u8),
    /// It was killed while it was told to stop, by this signal.
    Killed(u8),
    /// It was killed, or panicked, more often than its budget has it.
    BudgetSpent,
}

impl Ended {
    /// What the guardian ends with.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            // As a shell has it.
            Self::Killed(signal) => signal.saturating_add(128),
            Self::BudgetSpent => Exit::Software.code(),
        }
    }
}

struct Guardian {
    pair: PairId,
    network: Network,
    connections: Vec<ConnectionId>,
    signals: Signals,
    children: Signal,
    lifeline: Lifeline,
    /// Processes that have ended.
    ended: mpsc::UnboundedReceiver<Incarnation>,
    /// The last notice, for connections that come up later.
    notice: Option<DeathNotice>,
}

/// What the guardian hears of.
enum News {
    Network(Event),
    Signal(Heard),
    /// The process may have ended, or hear signals now, or has had its time.
    Again,
    /// This process has ended, as its lifeline shows.
    Ended(Incarnation),
}

impl Guardian {
    fn new(config: &CoServerConfig, signals: Signals) -> io::Result<Self> {
        let lifeline = Lifeline::new()?;
        // One for each process that was started, and of these there are few.
        let (sends, ended) = mpsc::unbounded_channel();
        lifeline.watch(move |incarnation| {
            let _ = sends.send(incarnation);
        })?;
        Ok(Self {
            pair: config.settings.pair,
            lifeline,
            ended,
            network: dial(config),
            connections: Vec::new(),
            signals,
            children: signal(SignalKind::child())?,
            notice: None,
        })
    }

    async fn run(
        &mut self,
        restarts: &mut Restarts,
        read_again: impl Fn() -> Option<CoServerConfig>,
    ) -> io::Result<Ended> {
        let mut is_first = true;
        loop {
            // The process reads its configuration at every start, too.
            if !is_first && let Some(config) = read_again() {
                self.network = dial(&config);
                self.connections.clear();
            }
            let lives = self.lifeline.lives();
            let mut child = self.start(is_first)?;
            is_first = false;
            tracing::info!(event = "guarding", pid = child.id());
            let (status, stops) = self.watch(&mut child).await?;
            let how = death(status);
            self.on_reaped(lives, how).await;
            let is_death = matches!(how, Death::Killed { .. }) || status.code() == Some(PANICKED);
            match (how, is_death && !stops) {
                (Death::Killed { signal }, false) => return Ok(Ended::Killed(signal)),
                (Death::Exited { code }, false) => return Ok(Ended::Exited(code)),
                _ => {}
            }
            let Some(wait) = restarts.next(Instant::now()) else {
                let Budget { starts, window } = restarts.budget;
                let window_ms = window.as_millis() as u64;
                tracing::error!(event = "restarts_spent", %how, starts, window_ms);
                return Ok(Ended::BudgetSpent);
            };
            tracing::warn!(event = "restarting", %how, after_ms = wait.as_millis() as u64);
            if self.is_stopped_within(wait).await {
                return Ok(Ended::Exited(Exit::Done.code()));
            }
        }
    }

    fn start(&self, is_first: bool) -> io::Result<Child> {
        // What the flags ask for to be done once, the first does.
        let mut command = itself((!is_first).then_some(0));
        command.stdin(Stdio::null());
        let own = getpid().as_raw_nonzero();
        self.lifeline.inheriting(|number| command.env(GUARDIAN, format!("{own}:{number}")).spawn())
    }

    /// Waits until the process has ended; how it did, and whether it was told to.
    async fn watch(&mut self, child: &mut Child) -> io::Result<(ExitStatus, bool)> {
        let started = Instant::now();
        let (mut told, mut kill_at) = (false, None);
        // A signal that came before it hears any would end it.
        let mut waiting = Vec::new();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((status, told));
            }
            if self.lifeline.is_heard() || started.elapsed() >= HEARS_WITHIN {
                waiting.drain(..).for_each(|signal| pass_on(child, signal));
            }
            // The process says nothing when it hears signals, or hangs.
            let look_again = match (waiting.is_empty(), kill_at) {
                (false, _) => Some(Instant::now() + LOOKS_EVERY),
                (true, kill_at) => kill_at,
            };
            let news = tokio::select! {
                biased;
                Some(ended) = self.ended.recv() => News::Ended(ended),
                _ = self.children.recv() => News::Again,
                heard = self.signals.next() => News::Signal(heard),
                event = self.network.next() => News::Network(event),
                () = tokio::time::sleep_until(look_again.unwrap_or(started)),
                    if look_again.is_some() => News::Again,
            };
            if kill_at.is_some_and(|kill_at| kill_at <= Instant::now()) {
                kill_at = None;
                tracing::error!(event = "killed", pid = child.id());
                pass_on(child, LinuxSignal::KILL);
            }
            match news {
                News::Ended(incarnation) => self.tell(incarnation, Death::Gone).await,
                News::Again => {}
                News::Network(event) => self.on_event(event),
                News::Signal(Heard::Stop) => {
                    if !core::mem::replace(&mut told, true) {
                        kill_at = Some(Instant::now() + STOPS_WITHIN);
                    }
                    waiting.push(LinuxSignal::TERM);
                }
                News::Signal(Heard::Reloaded) if !waiting.contains(&LinuxSignal::HUP) => {
                    waiting.push(LinuxSignal::HUP);
                }
                News::Signal(Heard::Reloaded) => {}
            }
        }
    }

    /// The kernel has cleared the process away, and says how it ended. Before it there were so many
    /// that said who they are.
    async fn on_reaped(&mut self, lives: u32, how: Death) {
        if let Some(incarnation) = self.lifeline.last_since(lives) {
            match how {
                Death::Exited { code: 0 } => {
                    tracing::info!(event = "process_ended", %incarnation, %how);
                }
                _ => tracing::warn!(event = "process_ended", %incarnation, %how),
            }
            // Whoever hears of it from now on hears how.
            self.tell(incarnation, how).await;
        }
    }

    /// Whether a signal to stop comes within that time; connections are kept up meanwhile.
    async fn is_stopped_within(&mut self, span: Duration) -> bool {
        let until = tokio::time::sleep(span);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                heard = self.signals.next() => if heard == Heard::Stop { return true },
                () = &mut until => return false,
                event = self.network.next() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Up { connection, peer, .. } => {
                self.connections.push(connection);
                let (remote, links) = (peer.remote, self.connections.len());
                tracing::info!(event = "guardian_connected", %remote, links);
                if let Some(notice) = self.notice {
                    self.send(connection, &notice);
                }
            }
            Event::Down { connection, peer, .. } => {
                self.connections.retain(|up| *up != connection);
                let (remote, links) = (peer.remote, self.connections.len());
                tracing::info!(event = "guardian_disconnected", %remote, links);
            }
            Event::Failed { error, .. } => tracing::debug!(%error, "no connection"),
            // The other CoServer says nothing to a guardian.
            Event::Frame { .. } | Event::Writable { .. } => {}
        }
    }

    /// Tells the other CoServer on every link that a process has ended.
    async fn tell(&mut self, incarnation: Incarnation, how: Death) {
        let notice = DeathNotice { pair: self.pair, incarnation, how };
        for connection in self.connections.clone() {
            self.send(connection, &notice);
        }
        self.notice = Some(notice);
        self.network.transmit().await;
    }

    fn send(&mut self, connection: ConnectionId, notice: &DeathNotice) {
        match encode_death_notice(notice) {
            Ok(frame) => {
                // Of one that takes nothing now the other links do.
                let _ = self.network.send(connection, frame);
            }
            Err(error) => tracing::error!(event = "frame_not_encoded", %error),
        }
    }
}

/// Keeps connections to the other CoServer up, along every link that has an address here.
fn dial(config: &CoServerConfig) -> Network {
    let settings = &config.settings;
    let mut network = Network::new(config.credentials.clone());
    for link in &settings.links {
        let (peer, mut local) = (settings.place.other(), link.local);
        local.set_port(0);
        if let Err(error) = network.dial(DialConfig::guardian(peer, local, link.remote.clone())) {
            // The CoServer itself says more of it, if it cannot do without.
            tracing::warn!(event = "guardian_cannot_dial", %local, %error);
        }
    }
    network
}

fn pass_on(child: &Child, signal: LinuxSignal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It is a zombie at most: it has not been waited for.
        let _ = kill_process(pid, signal);
    }
}

fn death(status: ExitStatus) -> Death {
    match (status.signal(), status.code()) {
        (Some(signal), _) => Death::Killed { signal: u8::try_from(signal).unwrap_or(u8::MAX) },
        (None, code) => {
            Death::Exited { code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_start_is_at_once_and_each_further_one_later_until_the_budget_is_spent() {
        let mut restarts = Restarts::new(Budget { starts: 4, window: 100 * SECOND });
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| restarts.next(now)).collect();
        let [none, one, two, four] = [0, 1, 2, 4].map(|seconds| Some(seconds * SECOND));
        assert_eq!(waits, [none, one, two, four, None]);
        // One that lived for long has its budget back.
        assert_eq!(restarts.next(now + 100 * SECOND), none);
    }

    #[test]
    fn a_budget_of_none_starts_nothing_again() {
        let mut restarts = Restarts::new(Budget { starts: 0, window: SECOND });
        assert_eq!(restarts.next(Instant::now()), None);
    }

    #[test]
    fn it_ends_as_the_process_did() {
        assert_eq!(Ended::Exited(12).code(), 12);
        assert_eq!(Ended::Killed(9).code(), 137);
        assert_eq!(Ended::BudgetSpent.code(), 70);
    }
}
