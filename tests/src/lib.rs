//! Tests across crates and across real processes.
//!
//! [`pair`] starts a witness and two CoServers as processes of their own, stops, kills and asks
//! them; [`process`] is what it does that with. [`attack`] is what takes all it can from such a
//! pair, and measures what honest clients notice. [`caller`] is a client whose requests tell
//! whether one was lost or repeated, and [`emulator`] a link that can be cut. [`rogue_peer`] speaks
//! QUIC and says what the test likes. [`ahead`] is a clock that is ahead, and [`s3`] a server that
//! speaks S3. The tests themselves are in `tests/`.

pub mod ahead;
pub mod attack;
pub mod caller;
pub mod clients;
pub mod disk;
pub mod echo;
pub mod emulator;
pub mod mail;
pub mod pair;
pub mod process;
pub mod rogue_peer;
pub mod s3;
pub mod said;
