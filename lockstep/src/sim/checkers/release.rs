//! Nothing is released against the release rule.

use super::observed::{answered, content};
use super::{Bounds, Observation, ObservedState};

/// Applies the rule to everything that is released.
#[derive(Debug)]
pub(super) struct Release;

impl Release {
    /// The rule needs no memory of its own.
    pub(super) fn new(_: &Bounds) -> Self {
        Self
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Released { who, epoch, name, kind } => {
                let view = observed.view(who).ok_or("a replica that never started releases")?;
                let record = view.record.ok_or_else(|| format!("{who} releases in no epoch"))?;
                if record.epoch != epoch {
                    return Err(format!("{who} releases in epoch {epoch} but is in another"));
                }
                if view.outputs.get(&name) != Some(&content(kind)) {
                    return Err(format!("{who} releases {name}, which it did not compute so"));
                }
                observed
                    .may_release(who, &record, name.index)
                    .map_err(|why| format!("{who} releases {name} in epoch {epoch}, but {why}"))
            }
            Observation::Answered { who, answer } => {
                let Some((name, digest)) = answered(answer) else { return Ok(()) };
                let view = observed.view(who).ok_or("a replica that never started answers")?;
                let record = view.record.ok_or_else(|| format!("{who} answers in no epoch"))?;
                let mut why = "it never computed that".to_owned();
                for (index, own) in view.answers.get(&name).into_iter().flatten() {
                    if *own == digest {
                        match observed.may_release(who, &record, *index) {
                            Ok(()) => return Ok(()),
                            Err(reason) => why = format!("{reason} ({index})"),
                        }
                    }
                }
                Err(format!("{who} answers {name:?} in epoch {}, but {why}", record.epoch))
            }
            _ => Ok(()),
        }
    }
}
