//! The witness without a process of its own: each CoServer runs the rules itself, over objects in
//! a store that both reach.
//!
//! A pair's records are the objects `PAIR/epoch-0`, `PAIR/epoch-1` and so on, each created only if
//! it is absent, never deleted and never replaced. Creating one is what decides: of two CoServers
//! that ask at once, one creates the next object and the other finds it there. So rule E1 needs of
//! the store only that creating is atomic and that what was created is read from then on. The
//! present record is the one in the highest object.
//!
//! That one is found by reading upwards from the highest that is known until there is none. Stores
//! that create atomically (S3 and those compatible with it, file systems) answer a read by what was
//! created before it, while some list late. So a list only says where to begin, and whether an
//! object is missing among those that are there. Even that is believed only after a read.
//!
//! Objects are numbered without a gap even where a new lineage leaves numbers of epochs out.
//! Otherwise an operator and a CoServer could both write a record at once and not notice.
//!
//! What a witness's directory keeps about a pair that is not to be trusted is an object too,
//! `PAIR/behind-LINEAGE-EPOCH`: some CoServer knows of that epoch, and the records do not. It is
//! void once the present record is later. A started CoServer needs no grace: there is no process
//! that might have forgotten something.
//!
//! [`ObjectWitness`] does no I/O; a driver carries out its [`Action`]s.

mod core;
mod error;
mod format;

#[cfg(test)]
mod tests;

pub use self::core::{Action, Job, Listing, ObjectWitness, Outcome, Step};
pub use error::ObjectError;
pub use format::{Link, OBJECT_BYTES, VERSION, decode, encode};
