//! The demonstration: a pair, its witness and a next hop run as processes on this host, with mail
//! at a steady rate. One CoServer is killed with SIGKILL and returns, then the other is killed.
//!
//! Everything is what it would be in earnest. The processes know each other only over their
//! sockets, and the sender is an ordinary SMTP client that turns to the other CoServer when its
//! connection is lost.

mod cluster;
mod ledger;
mod report;
mod scenario;

use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use lockstep::clap::builder::{PossibleValue, RangedU64ValueParser};
use lockstep::clap::{self, ValueEnum, value_parser};
use lockstep::ids::ReplicaId;
use lockstep::runtime::exit::Exit;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::load::{self, Event, Job, Plan};
use crate::smtp::Domain;
use cluster::{Cluster, Delivered, FORMATION};
use ledger::Ledger;
use scenario::Play;

pub use cluster::CrewError;

/// What to show.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// Who is killed first; the other one is killed when that one is back
    #[arg(long = "kill", value_name = "WHO", default_value = "sequencer")]
    pub victim: Victim,
    /// For how many seconds mail is sent, 8 to 600; more if the return takes longer. The kill comes
    /// after a quarter of it, the return after half, the second kill after three quarters
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = value_parser!(u64).range(8..=600))]
    pub seconds: u64,
    /// Mails a second, 1 to 5000
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = value_parser!(u64).range(1..=5000))]
    pub rate: u64,
    /// Bytes of a mail, 1 to 8388608
    #[arg(long, value_name = "BYTES", default_value_t = 4096,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=8 << 20))]
    pub size: usize,
    /// Connections that send, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=500))]
    pub connections: usize,
    /// Leave the temporary directory, with configuration and logs
    #[arg(long)]
    pub keep: bool,
}

/// The CoServer that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The CoServer that orders the inputs at that moment.
    Sequencer,
    /// The CoServer that does not order the inputs at that moment.
    Follower,
    /// The CoServer at this place.
    At(ReplicaId),
    /// No CoServer is killed.
    None,
}

impl ValueEnum for Victim {
    fn value_variants<'a>() -> &'a [Victim] {
        use Victim::{At, Follower, None, Sequencer};
        &[At(ReplicaId::A), At(ReplicaId::B), Sequencer, Follower, None]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Victim::At(ReplicaId::A) => "a",
            Victim::At(ReplicaId::B) => "b",
            Victim::Sequencer => "sequencer",
            Victim::Follower => "follower",
            Victim::None => "none",
        }))
    }
}

impl Victim {
    fn place(self, sequencer: ReplicaId) -> Option<ReplicaId> {
        match self {
            Victim::Sequencer => Some(sequencer),
            Victim::Follower => Some(sequencer.other()),
            Victim::At(place) => Some(place),
            Victim::None => None,
        }
    }
}

/// After the last mail was sent, what is still on its way has this long.
const LAST_MAILS: Duration = Duration::from_secs(15);

/// An answer that takes longer makes the sender turn to the other CoServer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A printed line, for a person who watches. Nobody to tell if that fails.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Runs the demonstration. The exit code says whether all was kept that was promised.
///
/// # Errors
/// If the processes cannot be started, or do not form a pair.
pub async fn run(options: DemoOptions) -> Result<Exit, CrewError> {
    say("mail-relay: one relay on two CoServers; a mail that was answered with 250 is on both.\n");
    let mut signals = lockstep::runtime::cli::Signals::hear().map_err(CrewError::System)?;
    let mut cluster = Cluster::start(options.keep).await?;
    cluster.introduce();
    let result = tokio::select! {
        ledger = perform(&options, &mut cluster) => ledger,
        () = signals.told() => {
            cluster.end().await;
            return Err(CrewError::Interrupted);
        }
    };
    cluster.end().await;
    let ledger = result?;
    say(&report::summary(&ledger));
    Ok(if ledger.is_kept() { Exit::Done } else { Exit::Software })
}

/// Sends, kills, starts again, kills the other, and waits for what is on its way.
async fn perform(options: &DemoOptions, cluster: &mut Cluster) -> Result<Ledger, CrewError> {
    let run = cluster.run_name();
    let (jobs, queue) = mpsc::channel(options.connections * 4);
    let (events, mut happened) = mpsc::unbounded_channel();
    let plan = plan(options, cluster.listen())?;
    let _senders = load::start(plan, queue, events);
    let begun = Instant::now();
    let mut ledger = Ledger::new(begun);
    let enough = Cell::new(false);
    let mut sending = Some(Box::pin(feed(options, &run, jobs, &enough)));
    let mut play = Play::new(options, begun);
    let watch = cluster.watch();
    let mut duplex = pin!(None);
    let mut deadline = None;
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await;
    say(&report::heading());
    loop {
        tokio::select! {
            event = happened.recv() => if let Some(event) = event { take_event(&mut ledger, event) },
            delivered = cluster.next_mail() => match delivered? {
                Delivered { number: Some(number), run: of, sound } if of == run => {
                    ledger.on_delivered(number, sound);
                }
                _ => ledger.strangers += 1,
            },
            sent = async { sending.as_mut().unwrap_or_else(|| unreachable!()).await },
                if sending.is_some() =>
            {
                sending = None;
                ledger.sent = sent;
                deadline = Some(Instant::now() + LAST_MAILS);
            }
            () = sleep_until(play.due), if !play.is_returning() => {
                play.act(cluster, &mut ledger).await?;
                if play.is_returning() {
                    duplex.set(Some(timeout(FORMATION, watch.duplex())));
                }
                enough.set(play.is_over());
            }
            back = async { duplex.as_mut().as_pin_mut().unwrap_or_else(|| unreachable!()).await },
                if duplex.is_some() =>
            {
                duplex.set(None);
                back.map_err(|_| cluster.not_duplex())?;
                play.on_duplex(cluster, &mut ledger);
            }
            _ = seconds.tick() => {
                say(&report::progress(&mut ledger));
                cluster.check()?;
            }
        }
        let over =
            deadline.is_some_and(|deadline| ledger.is_settled() || Instant::now() > deadline);
        if over {
            return Ok(ledger);
        }
    }
}

fn plan(options: &DemoOptions, targets: [SocketAddr; 2]) -> Result<Plan, CrewError> {
    let hostname = Domain::parse("sender.example").map_err(std::io::Error::other)?;
    Ok(Plan {
        targets: targets.to_vec(),
        connections: options.connections,
        patience: PATIENCE,
        give_up: Duration::from_secs(30),
        hostname,
    })
}

/// Hands mails to the senders, each at its time, until it is enough, and says how many
/// there were.
async fn feed(
    options: &DemoOptions,
    run: &str,
    jobs: mpsc::Sender<Job>,
    enough: &Cell<bool>,
) -> u64 {
    let begun = Instant::now();
    for number in 0.. {
        let due = begun
            + Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX)
                / u32::try_from(options.rate).unwrap_or(1);
        sleep_until(due).await;
        let Ok(delivery) = load::mail(run, number, options.size, "demo.example") else {
            return number;
        };
        if enough.get() || jobs.send(Job { delivery }).await.is_err() {
            return number;
        }
    }
    u64::MAX
}

fn take_event(ledger: &mut Ledger, event: Event) {
    match event {
        Event::Accepted { number, at, latency, target, doubts } => {
            ledger.on_accepted(number, at, latency, target, doubts);
        }
        Event::Refused { for_good, .. } => ledger.on_refused(for_good),
        Event::Trouble { .. } => ledger.troubles += 1,
        Event::GivenUp { .. } => ledger.given_up += 1,
    }
}
