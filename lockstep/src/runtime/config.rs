//! Configuration files: TOML in, checked settings and credentials out.
//!
//! One file describes one process: [`CoServerConfig`], [`WitnessConfig`] or [`ClientConfig`].
//! What comes out has been checked, and its key files read; nothing is checked again later. A
//! file that cannot be used gives a [`ConfigError`], which names the file, the line, the field
//! and what to write instead.
//!
//! Paths in a file are relative to the directory that the file is in. [`Overrides`] take the
//! place of single fields, for flags on the command line.
//!
//! A program that embeds the library keeps its own settings in the same file, in the section
//! `[service]`; it reads them from a [`Section`], with the same kind of errors.

mod client;
mod clients;
mod coserver;
mod document;
mod error;
mod rekey;
mod section;
mod tree;
mod value;
mod witness;

pub use client::ClientConfig;
pub use coserver::CoServerConfig;
#[cfg(feature = "cli")]
pub(in crate::runtime) use coserver::witness as witness_address;
pub use document::{Document, Overrides};
pub use error::{ConfigError, Fault, Position};
pub use rekey::{replace_pair_key, replace_peer};
pub use section::Section;
pub use value::{Keys, Mismatch, Setting, duration_text, parse_duration};
pub use witness::{EnrolledPair, WitnessConfig};

#[cfg(test)]
mod tests;
