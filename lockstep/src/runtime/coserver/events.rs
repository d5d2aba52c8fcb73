//! The replica's events as structured log events: `event` names each, and every other field has a
//! type of its own. `docs/operations.md` lists both; a test compares the list with this file.

use tracing::field::{DisplayValue, display};

use crate::event::{Event, Ignored, Severity};
use crate::ids::{Incarnation, Index, ReplicaId};
use crate::outline::Found;
use crate::record::Record;

/// One log event at the event's own level.
macro_rules! say {
    ($said:expr, $($fields:tt)*) => {
        match $said.severity() {
            Severity::Detail => tracing::debug!(event = $said.name(), $($fields)*),
            Severity::Notice => tracing::info!(event = $said.name(), $($fields)*),
            Severity::Warning => tracing::warn!(event = $said.name(), $($fields)*),
            Severity::Alarm => tracing::error!(event = $said.name(), $($fields)*),
        }
    };
}

/// The same with the fields of a record.
macro_rules! say_record {
    ($said:expr, $record:expr $(, $($fields:tt)*)?) => {
        say!(
            $said,
            lineage = $record.lineage.0,
            epoch = $record.epoch.0,
            origin = $record.origin.name(),
            a = member($record, ReplicaId::A),
            b = member($record, ReplicaId::B),
            asker = %$record.asker
            $(, $($fields)*)?
        )
    };
}

/// A member's process, if there is a member at that place.
fn member(record: &Record, place: ReplicaId) -> Option<DisplayValue<Incarnation>> {
    record.members.at(place).map(display)
}

fn millis(span: core::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Records one event; `client` is what the key is called that it is about, if it is about one.
pub(super) fn log(said: &Event, client: Option<&str>) {
    match said {
        Event::LinkUp { link } => say!(said, link = link.0),
        Event::LinkDown { link, closed, missed } => say!(said, link = link.0, closed, missed),
        Event::Met { incarnation } => say!(said, %incarnation),
        Event::Incompatible { theirs, why } => {
            say!(said, incarnation = %theirs.incarnation, service = theirs.environment.service, why);
        }
        Event::Epoch { record, sequencer, after } => {
            say_record!(said, record, %sequencer, after = after.0);
        }
        Event::HandedOver { to, index } => say!(said, %to, index = index.0),
        Event::Suspected { suspicion } | Event::Cleared { suspicion } => {
            say!(said, suspicion = suspicion.name(), why = %suspicion);
        }
        Event::Asked { next } | Event::PeerAsked { next } => say_record!(said, next),
        Event::WitnessRefused { reason } => say!(said, why = %reason),
        Event::Witness { up } => say!(said, up),
        Event::Holding { released } => say!(said, released = released.0),
        Event::Resumed { held } => say!(said, held_ms = millis(*held)),
        Event::Diverged { index, ours, theirs } | Event::EntriesDiffer { index, ours, theirs } => {
            say!(said, index = index.0, %ours, %theirs);
        }
        Event::Difference { index, found } => log_difference(said, *index, found),
        Event::StatesDiffer { index, ours, theirs } => say!(said, index = index.0, %ours, %theirs),
        Event::Panicked { index, message } => say!(said, index = index.0, why = message),
        Event::Corrupted { index } => say!(said, index = index.0),
        Event::TakenUp { index, gap } | Event::Gap { index, gap } => {
            say!(said, index = index.0, gap_ms = millis(*gap));
        }
        Event::DevicesLate { waited } => say!(said, waited_ms = millis(*waited)),
        Event::ClockLeaps { wall, log, step, most } => {
            let (step_ms, most_ms) = (millis(*step), millis(*most));
            say!(said, wall_ns = wall.0, log_ns = log.0, step_ms, most_ms);
        }
        Event::ClocksDiffer { ours, theirs, apart, most } => {
            let (apart_ms, most_ms) = (millis(*apart), millis(*most));
            say!(said, ours_ns = ours.0, theirs_ns = theirs.0, apart_ms, most_ms);
        }
        Event::ClockStrays { wall, log } => say!(said, wall_ns = wall.0, log_ns = log.0),
        Event::Stalled { span } => say!(said, for_ms = millis(*span)),
        Event::WindowFull { ordered, agreed } => {
            say!(said, ordered = ordered.0, agreed = agreed.0);
        }
        Event::PoolFull { pool, ended, refused, .. } => {
            say!(said, pool = pool.name(), client, ended, refused);
        }
        Event::WindowOpen | Event::Leaving => say!(said,),
        Event::Ignored { why } => log_ignored(said, why),
        Event::Recovered { released, held } => say!(said, released = released.0, held = held.0),
        Event::Unrecovered { why } | Event::Contradicts { why } | Event::Farewell { why } => {
            say!(said, why);
        }
        Event::PeerDied { incarnation, how } => say!(said, %incarnation, how = %how),
        Event::Waiting { record, in_vain, wait } => {
            say_record!(said, record, in_vain, why = %wait, todo = %wait.remedy());
        }
        Event::WaitsFor { wait, span } => {
            let (reason, todo) = (wait.name(), wait.remedy());
            say!(said, reason, for_ms = millis(*span), why = %wait, %todo);
        }
        Event::Joining { host } => say!(said, %host),
        Event::Offered { from, checkpoint, held } => {
            let checkpoint = checkpoint.map(|file| file.index.0);
            say!(said, from = from.0, checkpoint, held = held.0);
        }
        Event::Hosting { joiner } => say!(said, %joiner),
        Event::Attached { joiner, at } => say!(said, %joiner, at = at.0),
        Event::FellBack { joiner, why } => say!(said, %joiner, why = %why),
        Event::Postponed { joiner, divergences, wait } => {
            say!(said, %joiner, divergences, wait_ms = millis(*wait));
        }
        Event::HeldForRepair { divergences, joiner } => {
            say!(said, divergences, joiner = joiner.map(display));
        }
        Event::Readmitted { divergences } => say!(said, divergences),
        Event::Admitting { joiner, from } => say!(said, %joiner, from = from.0),
        Event::Duplex { joiner, from, sent, took } => {
            say!(said, %joiner, from = from.0, sent, took_ms = millis(*took));
        }
        Event::Admitted { record, from } => say_record!(said, record, from = from.0),
        Event::Moving { slot, record } | Event::Enrolled { slot, record } => {
            say_record!(said, record, slot);
        }
        Event::Checkpoint { index, len, hash } => say!(said, index = index.0, len, %hash),
        Event::NoCheckpoint { index, why } => say!(said, index = index.0, why),
        Event::Stopped { cause } => say!(said, %cause),
    }
}

/// Which output differs: digests and lengths of it, no content.
fn log_difference(said: &Event, index: Index, found: &Found) {
    let Found { what, counts: [our_outputs, their_outputs], output } = found;
    let (what, why) = (what.name(), *what);
    let output = output.as_ref();
    let (ours, theirs) =
        (output.and_then(|output| output.ours), output.and_then(|output| output.theirs));
    say!(
        said,
        index = index.0,
        what,
        output = output.map(|output| output.number),
        kind = output.map(|output| output.target.name()),
        device = output.and_then(|output| output.target.device()).map(|device| device.0),
        byte = output.and_then(|output| output.byte),
        our_bytes = ours.map(|(len, _)| len),
        their_bytes = theirs.map(|(len, _)| len),
        ours = ours.map(|(_, digest)| display(digest)),
        theirs = theirs.map(|(_, digest)| display(digest)),
        our_outputs,
        their_outputs,
        %why
    );
}

fn log_ignored(said: &Event, why: &Ignored) {
    let (epoch, index) = match why {
        Ignored::OtherEpoch { epoch } => (Some(epoch.0), None),
        Ignored::BeyondWindow { index } => (None, Some(index.0)),
        _ => (None, None),
    };
    say!(said, epoch, index, why = %why);
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
