//! What is done to the pair, and when.

use std::time::Duration;

use lockstep::ids::ReplicaId;
use tokio::time::Instant;

use super::cluster::{Cluster, CrewError};
use super::ledger::{DURING, Ledger};
use super::{DemoOptions, Victim, report, say};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Kill,
    Start(ReplicaId),
    /// The pair is to become duplex; then the one that is not at this place is killed.
    Duplex(ReplicaId),
    SecondKill(ReplicaId),
    End,
    Nothing,
}

/// The course of the demonstration.
#[derive(Debug)]
pub(super) struct Play {
    victim: Victim,
    next: Next,
    /// When the next act begins.
    pub(super) due: Instant,
    /// Time between two acts.
    pace: Duration,
    end: Instant,
}

impl Play {
    pub(super) fn new(options: &DemoOptions, begun: Instant) -> Play {
        let span = Duration::from_secs(options.seconds);
        let (victim, pace, end) = (options.victim, span / 4, begun + span);
        let (next, due) = match victim {
            Victim::None => (Next::End, end),
            _ => (Next::Kill, begun + pace),
        };
        Play { victim, next, due, pace, end }
    }

    /// Whether the return to duplex is what is waited for.
    pub(super) fn is_returning(&self) -> bool {
        matches!(self.next, Next::Duplex(_))
    }

    /// Whether all has been done.
    pub(super) fn is_over(&self) -> bool {
        self.next == Next::Nothing
    }

    /// Does what is due.
    pub(super) async fn act(
        &mut self,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), CrewError> {
        match self.next {
            Next::Kill => {
                let sequencer = cluster.sequencer()?;
                let place = self.victim.place(sequencer).unwrap_or(sequencer);
                kill(cluster, ledger, place, place == sequencer)?;
                (self.next, self.due) = (Next::Start(place), self.due + self.pace);
            }
            Next::Start(place) => {
                cluster.start_again(place).await?;
                ledger.on_start(place);
                say(&report::started(place));
                (self.next, self.due) = (Next::Duplex(place), self.due + self.pace);
            }
            Next::SecondKill(place) => {
                let sequencer = cluster.sequencer()?;
                kill(cluster, ledger, place, place == sequencer)?;
                (self.next, self.due) = (Next::End, self.end.max(Instant::now() + self.pace));
            }
            Next::End => self.next = Next::Nothing,
            // The caller waits for that, and for nothing.
            Next::Duplex(_) | Next::Nothing => self.due += self.pace,
        }
        Ok(())
    }

    /// The pair is redundant again.
    pub(super) fn on_duplex(&mut self, cluster: &Cluster, ledger: &mut Ledger) {
        let Next::Duplex(back) = self.next else { return };
        ledger.on_duplex(cluster.sent_to_joiner(back.other()));
        say(&report::duplex(ledger));
        // The return has its time to show in the figures before something else happens.
        let calm = Instant::now() + 2 * DURING;
        (self.next, self.due) = (Next::SecondKill(back.other()), self.due.max(calm));
    }
}

fn kill(
    cluster: &mut Cluster,
    ledger: &mut Ledger,
    place: ReplicaId,
    first: bool,
) -> Result<(), CrewError> {
    ledger.on_kill(place, first);
    cluster.kill(place)?;
    say(&report::killed(ledger));
    Ok(())
}
