//! A small service of registers and queues, for driving a pair and checking what it did.
//!
//! It shows the engine as it is, without redirected devices: [`service`] implements
//! [`lockstep::machine::StateMachine`] directly. Clients name registers, which hold a number, and
//! queues, which hold texts; reminders put a text into a queue later, so that wake-ups are used.
//!
//! - [`ops`]: what can be asked and answered, and how it is laid out in bytes ([`layout`]).
//! - [`service`]: the state machine; [`frozen`]: its state as records; [`limits`]: its bounds.

pub mod check;
pub mod cli;
pub mod frozen;
pub mod history;
pub mod layout;
pub mod limits;
pub mod ops;
pub mod record;
pub mod service;
