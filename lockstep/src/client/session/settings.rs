//! What a client needs to know to reach a pair.

use std::time::Duration;

use crate::client::io::Config;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::remote::Remote;
use crate::runtime::tls::Credentials;

/// How to reach a pair, and how patient to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The session's own bounds and times, and the pair that is meant.
    pub core: Config,
    /// Where the CoServers serve clients: place a's address, then b's. A name is looked up at each
    /// attempt to connect.
    pub addresses: [Remote; 2],
    /// The client's key, and the keys of the CoServers.
    pub credentials: Credentials,
    /// A session that is not open after this long is given up.
    pub open_within: Duration,
    /// A request without a reply after this long is given up, its outcome unknown. `None`, the
    /// default, waits for as long as it takes; [`Session::status`](super::Session::status) tells
    /// meanwhile who can be reached.
    pub patience: Option<Duration>,
    /// A session that is being closed waits this long for replies that are still due.
    pub close_within: Duration,
}

impl Settings {
    /// Settings with every choice at its default.
    pub fn new(pair: PairId, addresses: [impl Into<Remote>; 2], credentials: Credentials) -> Self {
        Self {
            core: Config::new(pair),
            addresses: addresses.map(Into::into),
            credentials,
            open_within: Duration::from_secs(10),
            patience: None,
            close_within: Duration::from_secs(5),
        }
    }

    /// The address of the CoServer at a place.
    pub fn address(&self, place: ReplicaId) -> &Remote {
        &self.addresses[place.slot()]
    }
}
