//! No output is ever released twice with different content, by anyone, and none by a replica that
//! is not to carry it out.

use std::collections::BTreeMap;

use super::ground::{Who, answered, content};
use super::{Bounds, Ground, OutputName, Seen};
use crate::digest::Digest;
use crate::ids::{Epoch, Lineage};
use crate::output::{Carrier, OutputKind};
use crate::sim::judges::ground::AnswerName;

/// What was released under each name.
#[derive(Debug)]
pub(super) struct Outputs {
    released: BTreeMap<OutputName, Release>,
    answers: BTreeMap<AnswerName, (Who, Digest)>,
}

#[derive(Clone, Copy, Debug)]
struct Release {
    by: Who,
    /// A new lineage counts its epochs on from what the adopted disk knows.
    epoch: (Lineage, Epoch),
    content: Digest,
    alone: bool,
}

impl Outputs {
    /// Nothing was released yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { released: BTreeMap::new(), answers: BTreeMap::new() }
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, ground: &Ground) -> Result<(), String> {
        match *seen {
            Seen::Released { who, epoch, name, kind } => {
                let lineage = ground.view(who).map_or(Lineage(0), |view| view.lineage);
                let epoch = (lineage, epoch);
                self.is_carried_by(who, epoch, name, kind)?;
                // One alone has nobody who would notice a fault that strikes its service.
                let alone = ground.is_spoiled(who.place) && ground.is_alone(who);
                let release = Release { by: who, epoch, content: content(kind), alone };
                let first = *self.released.entry(name).or_insert(release);
                if first.content != release.content && !first.alone && !alone {
                    return Err(format!(
                        "{who} releases {name} with another content than {} before",
                        first.by
                    ));
                }
            }
            // A refusal may be followed by the answer, when what was missing has come; and an
            // unknown session is refused under whatever number.
            Seen::Answered { who, answer } if !is_refusal(answer) => {
                let Some((name, digest)) = answered(answer) else { return Ok(()) };
                let (first, before) = *self.answers.entry(name).or_insert((who, digest));
                if before != digest {
                    return Err(format!("{who} answers {name:?} otherwise than {first} before"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Outputs {
    /// What one replica is to carry out, the other does not in the same epoch. In different ones
    /// it may: who goes on alone cannot know what its peer had still done.
    fn is_carried_by(
        &self,
        who: Who,
        epoch: (Lineage, Epoch),
        name: OutputName,
        kind: &OutputKind,
    ) -> Result<(), String> {
        let OutputKind::Device { carrier, .. } = kind else { return Ok(()) };
        let first = self.released.get(&name).filter(|first| first.epoch == epoch);
        match carrier {
            Carrier::Place(place) if *place != who.place => {
                Err(format!("{who} carries out {name}, which is for {place}"))
            }
            Carrier::Sequencer if first.is_some_and(|first| first.by != who) => {
                Err(format!("{who} carries out {name}, and so does its peer"))
            }
            _ => Ok(()),
        }
    }
}

fn is_refusal(answer: &crate::wire::frames::ClientAnswer) -> bool {
    use crate::wire::frames::ClientAnswer as A;
    matches!(answer, A::Opened { result: Err(_), .. } | A::Reply { result: Err(_), .. })
}
