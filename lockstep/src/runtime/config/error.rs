//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::exhaustion::remedy_of_disk;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; check the path, and that this user may read it", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{}: larger than {limit} bytes, which no configuration is; check the path", file.display())]
    TooLarge {
        /// The configuration file.
        file: PathBuf,
        /// Most bytes that are read.
        limit: u64,
    },
    /// The file cannot be changed.
    #[error("{}: {source}; nothing is changed: {}", file.display(), remedy_of_disk(source))]
    Write {
        /// The configuration file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

/// A position in a file or on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// In the file.
    Line {
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
    },
    /// On the command line.
    Flag(String),
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The configuration file.
    pub file: PathBuf,
    /// The position in the file, or the flag that took its place.
    pub position: Position,
    /// The field, as in `timing.silence`; empty if the fault is not in one.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Position::Line { line, column } => {
                write!(f, "{}:{line}:{column}: ", self.file.display())?;
            }
            Position::Flag(flag) => write!(f, "{flag} (over {}): ", self.file.display())?,
        }
        if !self.field.is_empty() {
            write!(f, "`{}`: ", self.field)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}
