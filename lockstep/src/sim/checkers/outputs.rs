//! No output is ever released twice with different content, by anyone, and none by a replica that
//! is not to carry it out.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{AnswerName, Who, answered, content};
use super::{Bounds, Observation, ObservedState, OutputName};
use crate::digest::Digest;
use crate::ids::{Epoch, Lineage, Nonce, SessionId};
use crate::output::{Carrier, OutputKind};
use crate::wire::frames::ClientAnswer;

/// What was released under each name.
#[derive(Debug)]
pub(super) struct Outputs {
    released: BTreeMap<OutputName, Release>,
    replies: BTreeMap<AnswerName, (Who, Digest)>,
    /// The sessions that were opened for each token.
    opened: BTreeMap<Nonce, BTreeSet<SessionId>>,
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
        Self { released: BTreeMap::new(), replies: BTreeMap::new(), opened: BTreeMap::new() }
    }

    pub(super) fn see(
        &mut self,
        _: u64,
        seen: &Observation<'_>,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match *seen {
            Observation::Released { who, epoch, name, kind } => {
                let lineage = observed.view(who).map_or(Lineage(0), |view| view.lineage);
                let epoch = (lineage, epoch);
                self.is_carried_by(who, epoch, name, kind)?;
                // One alone has nobody who would notice a fault that strikes its service.
                let alone = observed.is_spoiled(who.place) && observed.is_alone(who);
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
            Observation::Answered {
                who,
                answer: ClientAnswer::Opened { token, result: Ok(session) },
            } => {
                self.opens(who, *token, *session, observed)?;
            }
            Observation::Answered {
                who,
                answer: answer @ ClientAnswer::Reply { result: Ok(_), .. },
            } => {
                let Some((name, digest)) = answered(answer) else { return Ok(()) };
                let (first, before) = *self.replies.entry(name).or_insert((who, digest));
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
    /// A token has one session at a time. What a client asks once more, after its session gave way
    /// (rule C9) and before it heard so, opens another.
    fn opens(
        &mut self,
        who: Who,
        token: Nonce,
        session: SessionId,
        observed: &ObservedState,
    ) -> Result<(), String> {
        let opened = self.opened.entry(token).or_default();
        if !opened.insert(session) {
            return Ok(());
        }
        let before = opened.range(..session).next_back().map(|before| (*before, session));
        let after = opened.range(session..).nth(1).map(|after| (session, *after));
        let view = observed.view(who);
        let live = |(first, second): &(SessionId, SessionId)| {
            !view.is_some_and(|view| view.ended_before(*first, *second))
        };
        match before.into_iter().chain(after).find(live) {
            Some((first, second)) => {
                Err(format!("{who} opens {second} for {token:?}, whose {first} has not ended"))
            }
            None => Ok(()),
        }
    }

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
            Carrier::Replica(place) if *place != who.place => {
                Err(format!("{who} carries out {name}, which is for {place}"))
            }
            Carrier::Sequencer if first.is_some_and(|first| first.by != who) => {
                Err(format!("{who} carries out {name}, and so does its peer"))
            }
            _ => Ok(()),
        }
    }
}
