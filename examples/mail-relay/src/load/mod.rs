//! A sender that keeps book: mails that can be told apart and checked, sent over several
//! connections that turn to the other CoServer when theirs is lost.
//!
//! What a mail transfer agent would do, in little: a mail is the sender's until it is answered
//! with 250, and is sent again, elsewhere, when no answer comes.

mod sender;
mod text;

pub use sender::{Event, Job, Plan, Trouble, start};
pub use text::{Arrival, Condition, mail};
