//! Names of the parts of a pair.

use std::fmt;

/// One of the two fixed places of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The lower place.
    A,
    /// The higher place.
    B,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::A => "a",
            Place::B => "b",
        })
    }
}
