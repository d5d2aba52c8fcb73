//! The frames of all connections, and how they become bytes.
//!
//! Three rungs, and nothing skips one: bytes whose [`header`] and checksum are right, an archive
//! that rkyv has validated, a frame within the limits. Only the last is a type that the rest of
//! the crate can be given. `docs/wire.md` is the format's document.

pub mod codec;
pub mod error;
pub mod frames;
pub mod header;

pub(crate) mod check;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
