//! What stands between the protocol cores and the world.

pub mod keys;
pub mod tls;
