//! An always-on SMTP relay, run in lockstep on two CoServers.
