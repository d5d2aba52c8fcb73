//! The first record of a frozen unit, laid out by hand and versioned.
//!
//! Little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `lockunit` |
//! | 2 | version |
//! | 8 | index of the last entry |
//! | 8 | time |
//! | 16 | running digest of the outputs |
//! | 1 + 8 | whether the service has set a wake-up, and when |
//! | 8 | epoch of the members |
//! | 8, 8 | incarnations of the members at `a` and `b`, 0 for none |
//! | 1 | place of the sequencer |
//! | 4 | number of sessions |
//! | 1 | whether wake-ups are held |
//! | 8 | time that counts for no session, in nanoseconds |
//!
//! Version 1 ends before the last two: nothing is held, no time is left out. Up to version 2 no
//! session names its owner.

use core::time::Duration;

use bytes::{Buf, BufMut};

use super::MembersView;
use super::records::invalid;
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Index, LogTime, ReplicaId};
use crate::machine::RestoreError;
use crate::record::Members;

const MAGIC: &[u8; 8] = b"lockunit";
const VERSION: u16 = 3;
const HEADER_BYTES: usize = UNHELD_BYTES + 1 + 8;

/// The last version that knew no owners of sessions.
const UNOWNED: u16 = 2;

/// The version before, which knew no gaps, and its length.
const UNHELD: u16 = 1;
const UNHELD_BYTES: usize = 8 + 2 + 8 + 8 + 16 + 9 + 8 + 16 + 1 + 4;

/// What comes before everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the sessions name their owners.
    pub(super) owned: bool,
    pub(super) index: Index,
    pub(super) now: LogTime,
    pub(super) digest: Digest,
    pub(super) wakeup: Option<LogTime>,
    pub(super) members: MembersView,
    pub(super) sessions: u32,
    pub(super) held: bool,
    pub(super) skipped: Duration,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.now.0);
        out.put_slice(&self.digest.0);
        out.put_u8(u8::from(self.wakeup.is_some()));
        out.put_u64_le(self.wakeup.map_or(0, |at| at.0));
        out.put_u64_le(self.members.epoch.0);
        for place in ReplicaId::BOTH {
            out.put_u64_le(self.members.members.at(place).map_or(0, |incarnation| incarnation.0));
        }
        out.put_u8(self.members.sequencer.slot() as u8);
        out.put_u32_le(self.sessions);
        out.put_u8(u8::from(self.held));
        out.put_u64_le(u64::try_from(self.skipped.as_nanos()).unwrap_or(u64::MAX));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        let wrong = |why: &str| invalid("header", why.to_owned());
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it is no unit's"))?;
        let version = rest.try_get_u16_le().map_err(|_| wrong("it ends early"))?;
        if !(UNHELD..=VERSION).contains(&version) {
            let why = format!("version {version} is unknown, {VERSION} was expected");
            return Err(invalid("header", why));
        }
        let len = if version == UNHELD { UNHELD_BYTES } else { HEADER_BYTES };
        if bytes.len() != len {
            return Err(wrong("it has the wrong length"));
        }
        let index = Index(rest.get_u64_le());
        if index > Index::LAST {
            return Err(wrong("its entry is beyond what a log has"));
        }
        let now = LogTime(rest.get_u64_le());
        let mut digest = Digest::ZERO;
        rest.copy_to_slice(&mut digest.0);
        let wakeup = match (rest.get_u8(), rest.get_u64_le()) {
            (0, 0) => None,
            (1, at) => Some(LogTime(at)),
            _ => return Err(wrong("the wake-up is neither set nor unset")),
        };
        let epoch = Epoch(rest.get_u64_le());
        let [a, b] = [rest.get_u64_le(), rest.get_u64_le()]
            .map(|member| (member != 0).then_some(Incarnation(member)));
        let sequencer = match rest.get_u8() {
            0 => ReplicaId::A,
            1 => ReplicaId::B,
            _ => return Err(wrong("the sequencer has no place")),
        };
        if index.0 == u64::MAX {
            return Err(wrong("no entry can follow its last one"));
        }
        let members = MembersView { epoch, members: Members { a, b }, sequencer };
        let sessions = rest.get_u32_le();
        let (held, skipped) = match version {
            UNHELD => (0, 0),
            _ => (rest.get_u8(), rest.get_u64_le()),
        };
        if held > 1 || skipped > now.0 {
            return Err(wrong("a gap in it is none"));
        }
        let (held, skipped) = (held == 1, Duration::from_nanos(skipped));
        let owned = version > UNOWNED;
        Ok(Self { owned, index, now, digest, wakeup, members, sessions, held, skipped })
    }
}
