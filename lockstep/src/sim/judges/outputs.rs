//! No output is ever released twice with different content, by anyone.

use std::collections::BTreeMap;

use super::ground::{Who, answered, content};
use super::{Bounds, Ground, OutputName, Seen};
use crate::digest::Digest;
use crate::sim::judges::ground::AnswerName;

/// What was released under each name.
#[derive(Debug)]
pub(super) struct Outputs {
    released: BTreeMap<OutputName, (Who, Digest)>,
    answers: BTreeMap<AnswerName, (Who, Digest)>,
}

impl Outputs {
    /// Nothing was released yet.
    pub(super) fn new(_: &Bounds) -> Self {
        Self { released: BTreeMap::new(), answers: BTreeMap::new() }
    }

    /// See [`Judges::see`](super::Judges::see).
    pub(super) fn see(&mut self, _: u64, seen: &Seen<'_>, _: &Ground) -> Result<(), String> {
        match *seen {
            Seen::Released { who, name, kind, .. } => {
                let digest = content(kind);
                let (first, before) = *self.released.entry(name).or_insert((who, digest));
                if before != digest {
                    return Err(format!(
                        "{who} releases {name} with another content than {first} before"
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

fn is_refusal(answer: &crate::wire::frames::ClientAnswer) -> bool {
    use crate::wire::frames::ClientAnswer as A;
    matches!(answer, A::Opened { result: Err(_), .. } | A::Reply { result: Err(_), .. })
}
