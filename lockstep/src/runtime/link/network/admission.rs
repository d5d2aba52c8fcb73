//! Which peer gets a place at a port.

use super::{
    AddressBlock, Admit, CloseCode, ConnectionId, Network, Peer, PortId, PublicKey, SetupError,
};

impl Network {
    /// Finds a place for a peer. A peer that has what its key may have is refused. If an older
    /// connection gave way, peers that share a key would displace each other for ever.
    pub(super) fn admit(&mut self, port: PortId, peer: &Peer) -> Result<(), SetupError> {
        self.sweep();
        let Peer { key, remote, .. } = *peer;
        let held = self.ports.get(&port).map_or(0, |opened| opened.shares.held(key));
        let roster = self.credentials.roster();
        let most = roster.client(&key).and_then(|terms| terms.connections);
        if let Some(most) = most.filter(|most| held >= *most) {
            return Err(SetupError::Bounded { remote, key, most });
        }
        self.make_room(port, peer).then_some(()).ok_or(SetupError::Full { remote, key })
    }

    /// Sees to it that a port has room for this peer, or says that it has none. On a port for one
    /// peer the newest wins. On a port for many the peer that has most gives way (rule F8), with
    /// the connection that was made last.
    fn make_room(&mut self, port: PortId, peer: &Peer) -> bool {
        let Some(opened) = self.ports.get_mut(&port) else { return false };
        let most = match opened.admit {
            Admit::UpTo(most) => most,
            Admit::Newest => {
                if let Some(old) = *opened.newest(peer.purpose) {
                    self.close(old, CloseCode::REPLACED, "the same peer connected again");
                }
                return true;
            }
        };
        if opened.shares.len() < most {
            return true;
        }
        let (key, block) = share_of(peer);
        // A connection that is finishing keeps its place until it is gone.
        let is_up = |id: &&ConnectionId| self.slots.contains_key(id);
        let claimed = opened.shares.claim(key, block);
        let claimed = claimed.and_then(|places| places.iter().rev().find(is_up));
        let Some(&claimed) = claimed else { return false };
        self.close(claimed, CloseCode::TOO_MANY, "its place is the share of somebody else");
        self.ports.get(&port).is_some_and(|opened| opened.shares.len() < most)
    }
}

/// The owner of a connection's place: its key, and within that the addresses around its own.
pub(super) fn share_of(peer: &Peer) -> (PublicKey, AddressBlock) {
    (peer.key, AddressBlock::of(peer.remote.ip()))
}
