//! The lines that the parent and its parts exchange, JSON over stdin and stdout.
//!
//! 1. Every part says [`Said::Ready`] once its sockets are bound.
//! 2. When all are ready, the parent gives each of them one [`Go`] with what
//!    all of them said, in the order in which they were started.
//! 3. The part that drives the trips says [`Said::Measured`]. Any part may say
//!    [`Said::Failed`] at any time. Then the parent ends them all.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Changed with every change of these lines, so that a peers program built
/// earlier is told apart from a broken one.
pub const PROTOCOL: u32 = 1;

/// The longest line either side takes. A histogram of some thousands of
/// distinct values, the longest thing said, has some tens of kilobytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Trips longer than this count as this long: nothing here waits for a minute.
pub const LONGEST_NANOS: u64 = 60_000_000_000;

/// What a part tells the others before the trips begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// [`PROTOCOL`] of the program that speaks.
    pub protocol: u32,
    /// Where the part listens, if it does.
    pub address: Option<SocketAddr>,
    /// Whatever else the others must know of it (a certificate in hex, say).
    pub detail: String,
}

impl Ready {
    /// A part that listens at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self { protocol: PROTOCOL, address: Some(address), detail: String::new() }
    }

    /// A process that no other connects to.
    pub fn silent() -> Self {
        Self { protocol: PROTOCOL, address: None, detail: String::new() }
    }

    /// The same, with something that the others must know.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// What the parent tells every part when all are ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// What each part said, in the order in which they were started.
    pub parts: Vec<Ready>,
}

/// What a part says to the parent, one line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Sockets are bound.
    Ready(Ready),
    /// The trips are done: (nanoseconds, how many) in ascending order.
    Measured(Vec<(u64, u64)>),
    /// The part gives up, with the reason.
    Failed(String),
}

/// An empty histogram of nanoseconds, good to three digits.
pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("constant bounds are in range")
}

/// The pairs of [`Said::Measured`].
pub fn to_pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

/// The histogram of which [`to_pairs`] made the pairs; values beyond the
/// bounds are saturated, as they are when recorded.
pub fn from_pairs(pairs: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = empty_histogram();
    for (value, count) in pairs {
        histogram.saturating_record_n(*value, *count);
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_the_line() {
        let mut histogram = empty_histogram();
        for nanos in [0, 1, 77_000, 77_001, 1_234_567, LONGEST_NANOS * 2] {
            histogram.saturating_record(nanos);
        }
        let line = serde_json::to_string(&Said::Measured(to_pairs(&histogram))).unwrap();
        let Said::Measured(pairs) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let back = from_pairs(&pairs);
        assert_eq!(back.len(), histogram.len());
        assert_eq!(to_pairs(&back), to_pairs(&histogram));
    }
}
