//! One member of a Raft group as raft-rs makes it, with its log in memory: what
//! goes in, what comes out. No sockets here.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message};
use raft::prelude::{Config, RawNode};
use raft::storage::MemStorage;
use raft::{Error, StateRole};

/// Ticks between heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Ticks without a leader before an election; raft-rs draws from this to twice
/// as many.
const ELECTION_TICKS: usize = 10;
/// Bytes of entries in one message. The default, 0, sends every entry alone.
const MAX_BYTES_PER_MESSAGE: u64 = 1 << 20;
/// Applied entries that stay in memory for a node that lags behind.
const KEEP_ENTRIES: u64 = 16_384;

/// The node that leads; the others hand leadership to it.
pub(crate) const LEADER: u64 = 1;

/// What one round of work gave.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// For other nodes.
    pub(crate) messages: Vec<Message>,
    /// Committed requests in log order: who asked, and what.
    pub(crate) committed: Vec<(u32, Bytes)>,
}

/// A member of the group.
pub(crate) struct Member {
    raw: RawNode<MemStorage>,
    compacted: u64,
}

impl Member {
    /// Member `id` of the group 1 to `nodes`.
    pub(crate) fn new(id: u64, nodes: u64) -> Result<Self, Error> {
        let config = Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: MAX_BYTES_PER_MESSAGE,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let voters: Vec<u64> = (1..=nodes).collect();
        let storage = MemStorage::new_with_conf_state((voters, Vec::new()));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        Ok(Self { raw: RawNode::new(&config, storage, &logger)?, compacted: 0 })
    }

    /// Time passes. A node that leads though it should not hands over.
    pub(crate) fn tick(&mut self) {
        self.raw.tick();
        if self.raw.raft.id != LEADER && self.raw.raft.state == StateRole::Leader {
            self.raw.transfer_leader(LEADER);
        }
    }

    /// Asks for leadership.
    pub(crate) fn campaign(&mut self) -> Result<(), Error> {
        self.raw.campaign()
    }

    /// Whether this node leads and can commit.
    pub(crate) fn is_serving(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.commit_to_current_term()
    }

    /// A message of another node. A message that raft-rs does not take (of an older term, say) is
    /// dropped: it is sent again if it still matters.
    pub(crate) fn step(&mut self, message: Message) {
        let _ = self.raw.step(message);
    }

    /// A client's request; refused where this node does not lead.
    pub(crate) fn propose(&mut self, client: u32, body: &[u8]) -> Result<(), Error> {
        self.raw.propose(client.to_le_bytes().to_vec(), body.to_vec())
    }

    /// Another node cannot be reached at present.
    pub(crate) fn unreachable(&mut self, node: u64) {
        self.raw.report_unreachable(node);
    }

    /// Works off all that is ready, in the order that raft-rs prescribes.
    pub(crate) fn work(&mut self) -> Result<Effects, Error> {
        let mut effects = Effects::default();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            effects.messages.append(&mut ready.take_messages());
            let storage = self.raw.store().clone();
            if !ready.snapshot().is_empty() {
                storage.wl().apply_snapshot(ready.snapshot().clone())?;
            }
            effects.take_committed(ready.take_committed_entries());
            storage.wl().append(ready.entries())?;
            if let Some(hard_state) = ready.hs() {
                storage.wl().set_hardstate(hard_state.clone());
            }
            effects.messages.append(&mut ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().set_commit(commit);
            }
            effects.messages.append(&mut light.take_messages());
            effects.take_committed(light.take_committed_entries());
            self.raw.advance_apply();
        }
        self.compact()?;
        Ok(effects)
    }

    /// Drops old entries, seldom enough to be off the path of a request.
    fn compact(&mut self) -> Result<(), Error> {
        let applied = self.raw.raft.raft_log.applied;
        if applied > self.compacted + 2 * KEEP_ENTRIES {
            self.compacted = applied - KEEP_ENTRIES;
            self.raw.store().wl().compact(self.compacted)?;
        }
        Ok(())
    }
}

impl Effects {
    fn take_committed(&mut self, entries: Vec<Entry>) {
        // A new leader's own entry carries neither context nor data.
        self.committed.extend(entries.into_iter().filter_map(|entry| {
            let client = u32::from_le_bytes(*entry.context.first_chunk()?);
            Some((client, entry.data.to_vec().into()))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes messages on until there are none; what each node committed.
    fn settle(members: &mut [Member]) -> Vec<Vec<(u32, Bytes)>> {
        let mut committed = vec![Vec::new(); members.len()];
        loop {
            let mut messages = Vec::new();
            for (member, committed) in members.iter_mut().zip(&mut committed) {
                let effects = member.work().unwrap();
                messages.extend(effects.messages);
                committed.extend(effects.committed);
            }
            if messages.is_empty() {
                return committed;
            }
            for message in messages {
                members[usize::try_from(message.to).unwrap() - 1].step(message);
            }
        }
    }

    fn group(nodes: u64) -> Vec<Member> {
        let mut members: Vec<_> = (1..=nodes).map(|id| Member::new(id, nodes).unwrap()).collect();
        members[0].campaign().unwrap();
        settle(&mut members);
        members
    }

    #[test]
    fn a_request_is_committed_on_every_node() {
        for nodes in [2, 3] {
            let mut members = group(nodes);
            assert!(members[0].is_serving());
            members[0].propose(9, b"request").unwrap();
            for committed in settle(&mut members) {
                assert_eq!(committed, [(9, Bytes::from_static(b"request"))]);
            }
        }
    }

    #[test]
    fn a_node_that_does_not_lead_refuses_requests() {
        let mut lonely = Member::new(2, 3).unwrap();
        assert!(!lonely.is_serving());
        lonely.propose(1, b"nobody listens").unwrap_err();
    }

    #[test]
    fn the_log_in_memory_stays_bounded() {
        let mut members = group(2);
        for _ in 0..3 * KEEP_ENTRIES {
            members[0].propose(1, b"x").unwrap();
            settle(&mut members);
        }
        let applied = members[0].raw.raft.raft_log.applied;
        let first = raft::Storage::first_index(members[0].raw.store()).unwrap();
        assert!(applied - first <= 2 * KEEP_ENTRIES, "{first} to {applied}");
    }
}
