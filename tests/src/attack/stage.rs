//! A pair, honest clients, and an attack on them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::honest::{Honest, Served};
use super::report::{Report, Round};
use super::senders::Mails;
use super::{Force, Mode, Service, callers};
use crate::caller;
use crate::clients::Client;
use crate::pair::{A, B, Pair, SILENCE};
use crate::process::{processor_time, wait_for};

/// Within this everything is to be given back after the attacker left without a word: connections
/// that say nothing more end after ten seconds.
const GIVEN_BACK: Duration = Duration::from_secs(25);

/// What a CoServer may have beyond what it had before, and beyond the replies that it keeps for a
/// client that comes again (rules C2 and C9). Its allocator keeps for next time what one full
/// window took.
const KEPT: u64 = lockstep::limits::WINDOW_BYTES as u64 + (64 << 20);

/// Connections that a relay's honest clients have at both CoServers together, and the relay with
/// its next hop (`max_deliveries`), those included that are about to end.
const HONEST_CONNECTIONS: u64 = 30;

/// Bounds of a relay that is to be attacked a little.
const LITTLE_ROOM: &str = "max_clients = 96\nmax_message = 131072\nmax_queue_bytes = 8388608";

/// The only one that is not as shipped: a queue of 1 GiB takes long to fill.
const LITTLE_QUEUE: &str = "max_queue_bytes = 33554432";

/// Under this name the attacker's program is the mail relay.
pub const RELAY: &str = "relay";

/// The attacker's key has this name, in modes that have one.
pub(super) const RIVAL: &str = "rival";

/// How an attack is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How hard it is.
    pub force: Force,
    /// How long each span is: quiet, attack, control.
    pub each: Duration,
    /// How many times over. None: only one attack, with nothing to compare it with, and what it
    /// took is waited for by [`Stage::given_back`] alone.
    pub rounds: u32,
}

/// A pair with honest clients.
#[derive(Debug)]
pub struct Stage {
    program: PathBuf,
    pair: Pair,
    honest: Honest,
    /// Of a relay, what its clients sent.
    mails: Option<Mails>,
    /// What both had before the first attack.
    at_first: [u64; 2],
    /// The relay's name for the program.
    _name: Option<TempDir>,
}

impl Stage {
    /// Starts both. `program` is the attacker's own, which runs the parts of the pair as well. With
    /// timing and bounds as shipped, or such as a machine has time for that does other things.
    ///
    /// # Panics
    /// If the pair does not form.
    pub fn start(program: impl Into<PathBuf>, service: Service, as_shipped: bool) -> Self {
        let program = program.into();
        match service {
            Service::Echo => {
                let mut pair = pair(&program, as_shipped);
                Client::known(&pair, RIVAL);
                pair.form();
                let honest = callers::start(caller::settings(&pair));
                Self::with(program, pair, honest, None)
            }
            Service::Relay => {
                let name = tempfile::tempdir().expect("a temporary directory");
                let relay = name.path().join(RELAY);
                std::os::unix::fs::symlink(&program, &relay).expect("a name of its own");
                let more = if as_shipped { LITTLE_QUEUE } else { LITTLE_ROOM };
                let (pair, honest, mails) = Mails::start(pair(&relay, as_shipped), more);
                Self::with(program, pair, honest, Some((mails, name)))
            }
        }
    }

    fn with(program: PathBuf, pair: Pair, honest: Honest, relay: Option<(Mails, TempDir)>) -> Self {
        let (mails, _name) = relay.unzip();
        let mut stage = Self { program, pair, honest, mails, at_first: [0; 2], _name };
        stage.at_first = stage.memory();
        stage
    }

    /// Attacks the pair as planned, and measures what became of it.
    pub fn attack(&mut self, mode: Mode, plan: &Plan) -> Report {
        let mut report = Report {
            mode,
            rounds: Vec::new(),
            before: 0,
            most: 0,
            after: 0,
            back: Duration::ZERO,
            broken: Vec::new(),
        };
        if let Err(why) = self.try_attack(plan, &mut report) {
            report.broken.push(why);
        }
        report
    }

    fn try_attack(&mut self, plan: &Plan, report: &mut Report) -> Result<(), String> {
        self.honest.go_on()?;
        let before = self.states()?;
        report.before = self.memory().iter().sum();
        let own = self.memory();
        for _ in 0..plan.rounds.max(1) {
            let compared = plan.rounds > 0;
            let span = |stage: &Self| match compared {
                true => stage.honest.watch(plan.each),
                false => Served::default(),
            };
            let quiet = span(self);
            let (attack, processors) = self.attack_once(report.mode, plan)?;
            report.most = report.most.max(self.memory().iter().sum());
            self.honest.go_on()?;
            let control = if compared { self.burn(processors, plan.each)? } else { quiet };
            report.rounds.push(Round { quiet, attack, control, processors });
        }
        if plan.rounds > 0 {
            self.wait_until_given_back(own, report);
        }
        self.honest.go_on()?;
        let after = self.states()?;
        if before != after {
            report.broken.push(format!("a CoServer was removed: {before:?}, then {after:?}"));
        }
        Ok(())
    }

    fn attack_once(&self, mode: Mode, plan: &Plan) -> Result<(Served, f64), String> {
        let directory = self.pair.directory().display().to_string();
        let words = ["as", mode.name(), plan.force.name(), &directory];
        let attacker = Helper::start(&self.program, &words)?;
        let before = processor_time(attacker.0.id());
        let served = self.honest.watch(plan.each);
        let used = processor_time(attacker.0.id()).saturating_sub(before);
        // Served while the attack lasts, however long that takes them.
        self.honest.go_on().map_err(|why| format!("under attack: {why}"))?;
        attacker.leave()?;
        Ok((served, used.as_secs_f64() / plan.each.as_secs_f64()))
    }

    fn burn(&self, processors: f64, time: Duration) -> Result<Served, String> {
        let parts = format!("{:.0}", processors * 1000.0);
        let control = Helper::start(&self.program, &["burn", &parts])?;
        let served = self.honest.watch(time);
        control.leave()?;
        Ok(served)
    }

    /// What changes when somebody is removed.
    fn states(&self) -> Result<Vec<[Value; 3]>, String> {
        let state = |part| {
            let status = self.pair.status(part).map_err(|error| error.to_string())?;
            Ok(["mode", "epoch", "incarnation"].map(|field| status[field].clone()))
        };
        [A, B].into_iter().map(state).collect()
    }

    fn memory(&mut self) -> [u64; 2] {
        [A, B].map(|part| self.pair.process(part).memory())
    }

    #[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
    fn wait_until_given_back(&mut self, before: [u64; 2], report: &mut Report) {
        let began = Instant::now();
        report.broken.extend(self.back_to(before).err());
        report.back = began.elapsed();
        report.after = self.memory().iter().sum();
    }

    /// Waits until whatever the attackers took since the beginning is given back.
    ///
    /// # Errors
    /// What is not.
    pub fn given_back(&mut self) -> Result<(), String> {
        self.back_to(self.at_first)
    }

    fn back_to(&mut self, before: [u64; 2]) -> Result<(), String> {
        wait_for(GIVEN_BACK, || {
            let now = self.memory();
            let may_keep = KEPT + self.replies()?;
            if let Some((now, _)) = now.iter().zip(before).find(|(now, own)| **now > own + may_keep)
            {
                return Err(format!(
                    "a CoServer has {} MiB after {GIVEN_BACK:?}, and may keep {} MiB",
                    now >> 20,
                    may_keep >> 20
                ));
            }
            match self.connections()? {
                0 => Ok(()),
                left => Err(format!("{left} connections are left after {GIVEN_BACK:?}")),
            }
        })
    }

    /// Bytes of the replies that each of both keeps for clients.
    fn replies(&self) -> Result<u64, String> {
        let status = self.pair.status(A).map_err(|error| error.to_string())?;
        Ok(status["sessions"]["reply_bytes"].as_u64().unwrap_or(0))
    }

    /// How many the attacker has at both, as far as they can be told from those of others.
    fn connections(&self) -> Result<u64, String> {
        let (mut keyed, mut redirected) = (0, 0);
        for part in [A, B] {
            let status = self.pair.status(part).map_err(|error| error.to_string())?;
            let of = |list: &str| status[list].as_array().cloned().unwrap_or_default();
            let rivals = of("client_keys").into_iter().filter(|client| client["client"] == RIVAL);
            keyed += rivals.filter_map(|client| client["connections"].as_u64()).sum::<u64>();
            let counts = of("devices").into_iter().map(|device| device["counts"].clone());
            redirected += counts.filter_map(|counts| counts["connections"].as_u64()).sum::<u64>();
        }
        Ok(keyed + redirected.saturating_sub(HONEST_CONNECTIONS))
    }

    /// Ends the honest clients.
    ///
    /// # Errors
    /// Why a client was not served, or which mails are lost.
    pub fn finish(self) -> Result<(), String> {
        let Self { pair, honest, mails, .. } = self;
        honest
            .finish()
            .and_then(|()| mails.map_or(Ok(()), |mails| mails.all_arrive()))
            .map_err(|why| format!("{why}{}", pair.logs()))
    }
}

/// A pair that is not started yet.
fn pair(program: &Path, as_shipped: bool) -> Pair {
    let mut pair = match as_shipped {
        true => Pair::init_as_shipped(program),
        false => Pair::init(program, SILENCE),
    };
    pair.log_as_shipped();
    // Whoever else writes to the disk meanwhile is not to count.
    pair.use_memory();
    pair
}

/// A process beside the pair, ended with this.
struct Helper(Child);

impl Helper {
    /// Starts it, and waits until it has begun.
    fn start(program: &Path, words: &[&str]) -> Result<Self, String> {
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut helper = Self(child);
        let mut said = [0];
        let stdout = helper.0.stdout.as_mut().ok_or("no pipe")?;
        stdout.read_exact(&mut said).map_err(|_| format!("{words:?} does not begin"))?;
        Ok(helper)
    }

    /// It is killed. That it had not ended before shows that it did what it was for.
    fn leave(mut self) -> Result<(), String> {
        match self.0.try_wait().map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(status) => Err(format!("the attacker ended by itself: {status}")),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
