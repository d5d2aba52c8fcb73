//! A session at a glance.

use super::error::Trouble;
use crate::client::Counters;
use crate::ids::{Epoch, ReplicaId, SessionId};

/// A session's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The session's id, while it is open.
    pub session: Option<SessionId>,
    /// Whether it has ended.
    pub over: bool,
    /// The CoServers, by place.
    pub places: [PlaceStatus; 2],
    /// Requests whose callers wait for a reply.
    pub waiting: usize,
    /// What the session has done so far.
    pub counters: Counters,
}

/// A CoServer as a client sees it.
#[derive(Clone, Debug)]
pub enum PlaceStatus {
    /// The CoServer serves.
    Serving {
        /// The CoServer's epoch when it said so.
        epoch: Epoch,
    },
    /// The CoServer does not serve; it is tried again and again.
    Away {
        /// Why it does not serve; `None` while nothing is known.
        trouble: Option<Trouble>,
    },
}

impl Status {
    /// Whether any CoServer serves this client.
    pub fn is_served(&self) -> bool {
        self.places.iter().any(|place| matches!(place, PlaceStatus::Serving { .. }))
    }

    /// The CoServer at a place.
    pub fn place(&self, place: ReplicaId) -> &PlaceStatus {
        &self.places[place.slot()]
    }
}
