//! The frames of all connections, and how they become bytes.

pub mod frames;
pub mod header;
