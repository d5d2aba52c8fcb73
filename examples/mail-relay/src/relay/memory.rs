//! What sessions hold, by blocks of addresses, and which session ends when it is too much.
//!
//! The memory is shared like connections are: when it is full, the block that holds most gives way,
//! and of its sessions the one that holds most. So a client that fills the memory loses it to the
//! others, and not they their mail. No network is exempt from it.
//!
//! All of this follows from the sessions, so none of it is frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use io_redirect::tcp::ConnId;
use lockstep::shares::AddressBlock;

use crate::limits::SESSION_BYTES_RESERVE;

/// The octets that sessions hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Memory {
    total: u64,
    blocks: BTreeMap<AddressBlock, Held>,
    /// All of `blocks`, by what they hold.
    by_size: BTreeSet<(u64, AddressBlock)>,
}

/// What the sessions of one block hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Held {
    bytes: u64,
    /// Each session, by what it holds.
    sessions: BTreeSet<(u64, ConnId)>,
}

impl Memory {
    /// The octets that all sessions hold together.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// A session that held `before` holds `now`. A session that holds nothing is not known.
    pub(super) fn change(&mut self, conn: ConnId, peer: IpAddr, before: u64, now: u64) {
        if before == now {
            return;
        }
        let name = AddressBlock::of(peer);
        let block = self.blocks.entry(name).or_default();
        self.by_size.remove(&(block.bytes, name));
        block.sessions.remove(&(before, conn));
        if now > 0 {
            block.sessions.insert((now, conn));
        }
        block.bytes = block.bytes - before + now;
        self.total = self.total - before + now;
        if block.sessions.is_empty() {
            self.blocks.remove(&name);
        } else {
            self.by_size.insert((block.bytes, name));
        }
    }

    /// The session that ends first when the memory is full.
    pub(super) fn largest(&self) -> Option<ConnId> {
        let (_, name) = self.by_size.last()?;
        self.blocks.get(name)?.sessions.last().map(|(_, conn)| *conn)
    }

    /// The block that holds most.
    pub(super) fn largest_block(&self) -> Option<AddressBlock> {
        self.by_size.last().map(|(_, name)| *name)
    }

    /// The octets that a mail of this client may have. That is what is free of `most`, but the
    /// last part of it ([`SESSION_BYTES_RESERVE`]) is only for blocks that hold less than such a
    /// part. Free or not, it is as much as leaves the client's block with half of what the largest
    /// block holds, since that one gives way.
    pub(super) fn room(&self, peer: IpAddr, most: u64) -> u64 {
        let own = self.blocks.get(&AddressBlock::of(peer)).map_or(0, |block| block.bytes);
        let largest = self.by_size.last().map_or(0, |(bytes, _)| *bytes);
        let reserve = most / SESSION_BYTES_RESERVE;
        let free = most.saturating_sub(self.total);
        let free = if own >= reserve && free < reserve { 0 } else { free };
        free.max((largest / 2).saturating_sub(own))
    }
}
