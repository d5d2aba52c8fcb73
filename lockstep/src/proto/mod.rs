//! The replica core.

pub mod io;
