//! What happened, in order: a digest always, the last lines in words on demand.

use std::collections::VecDeque;

use crate::digest::Digest;
use xxhash_rust::xxh3::Xxh3;

/// How many lines before a failure are shown.
const TAIL: usize = 80;

/// The trace of one run.
pub(super) struct Trace {
    hasher: Box<Xxh3>,
    steps: u64,
    tail: Option<VecDeque<String>>,
    all: Option<Vec<String>>,
}

/// How much of a trace is kept in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// Nothing: a run that passes needs none, and a run that fails is repeated.
    #[default]
    None,
    /// The last lines of the trace.
    Tail,
    /// Every line of the trace.
    All,
}

impl Trace {
    /// An empty trace.
    pub(super) fn new(words: Words) -> Self {
        Self {
            hasher: Box::new(Xxh3::new()),
            steps: 0,
            tail: (words == Words::Tail).then(VecDeque::new),
            all: (words == Words::All).then(Vec::new),
        }
    }

    /// One step: when, what kind of thing, and what tells it apart from others of its kind.
    pub(super) fn step(&mut self, at: u64, kind: u8, detail: u64) {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8] = kind;
        bytes[9..].copy_from_slice(&detail.to_le_bytes());
        self.hasher.update(&bytes);
        self.steps += 1;
    }

    /// Bytes that went with the last step.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Whether anyone reads the words.
    pub(super) fn is_read(&self) -> bool {
        self.tail.is_some() || self.all.is_some()
    }

    /// A line in words; only made if somebody reads it.
    pub(super) fn say(&mut self, at: u64, line: impl FnOnce() -> String) {
        if !self.is_read() {
            return;
        }
        let line = format!("{:>12.6} ms  {}", at as f64 / 1e6, line());
        if let Some(all) = &mut self.all {
            all.push(line);
        } else if let Some(tail) = &mut self.tail {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }

    /// How many steps there were.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Names the whole run: two runs with one digest went the same way.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hasher.digest128().to_le_bytes())
    }

    /// The lines that were kept.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.all.or_else(|| self.tail.map(Vec::from)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_detail_or_another_order_gives_another_digest() {
        let digest = |steps: &[(u64, u8, u64)]| {
            let mut trace = Trace::new(Words::None);
            steps.iter().for_each(|(at, kind, detail)| trace.step(*at, *kind, *detail));
            trace.digest()
        };
        let base = digest(&[(1, 1, 1), (2, 2, 2)]);
        assert_eq!(base, digest(&[(1, 1, 1), (2, 2, 2)]));
        assert_ne!(base, digest(&[(2, 2, 2), (1, 1, 1)]));
        assert_ne!(base, digest(&[(1, 1, 1), (2, 2, 3)]));
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut trace = Trace::new(Words::Tail);
        (0..1000).for_each(|n| trace.say(n, || format!("line {n}")));
        let lines = trace.into_lines();
        assert_eq!(lines.len(), TAIL);
        assert!(lines.last().is_some_and(|line| line.ends_with("line 999")));
    }
}
