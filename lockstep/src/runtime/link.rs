//! All connections of a process, owned and polled by one task.
//!
//! A [`Network`] has ports. A port that dials keeps one connection up, coming back after a pause
//! that doubles from failure to failure; a port that listens accepts one peer, or many. What
//! happens on any of them comes out of [`Network::next`] as an [`Event`], in the consumer's own
//! task. Between quinn and the consumer there is no other task and no channel for frames.
//!
//! **Sending.** [`Network::send`] queues a frame. What was queued is written,
//! one write per connection, when the consumer calls [`Network::flush`] or
//! waits for the next event, and quinn sends it as soon as the consumer yields.
//! [`Network::transmit`] does both, for a consumer that has something longer to
//! do before it waits again.
//!
//! **Back-pressure.** A connection whose queue is full refuses frames, by
//! [`Network::budget`] or with an error, and says when it is
//! [writable](Event::Writable) again; the others go on. A consumer that does not
//! take events, or that [pauses](Network::pause) a connection, lets QUIC's
//! flow-control window fill, which stops the peer.
//!
//! **Turns.** Links and the witness are looked at before all clients. While much of what was read
//! waits to be carried out ([`Network::set_room`]), the clients' keys are read in turn, each as
//! many bytes as the next (`fair`).
//!
//! **Strangers.** A handshake is one of a few that a port has in flight, and a connection one of
//! those that it admits. No peer can take all of either: when there is no more room, a newcomer
//! takes a place of the owner that holds most (`shares`).
//!
//! **CoServer links.** Place A listens and place B dials, one port per link. One side alone dials,
//! so there is never a pair of crossing connections to choose from. The listener, which knows the
//! other's address, ignores packets from anywhere else before it spends anything on them. If a peer
//! connects again while its old connection still seems up, it was restarted or knows better: the
//! newest wins.

mod crowd;
mod dial;
mod event;
mod handshakes;
mod listen;
mod names;
mod network;
mod port;
mod queues;
mod ready;

pub use dial::{Backoff, DialConfig};
pub use event::{ConnectionId, Event, PortId};
pub use listen::{Admit, ListenConfig, ListenStats};
pub use network::Network;

#[cfg(test)]
mod tests;
