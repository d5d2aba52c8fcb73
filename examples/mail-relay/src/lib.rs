//! An always-on SMTP relay, run in lockstep on two CoServers.
pub mod date;
pub mod limits;
pub mod net;
pub mod smtp;
