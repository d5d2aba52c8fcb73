//! Sessions in a frozen unit: one record each, in the order of ids, followed by those of its
//! replies that are too large to stand in it.

use std::collections::VecDeque;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize, rancor, util::AlignedVec};

use super::UnitConfig;
use super::header::Header;
use super::records::{expect, invalid};
use super::sessions::{Answer, Session, Sessions, weight};
use crate::ids::{LogTime, Nonce, OwnerId, RequestNumber, SessionId};
use crate::limits::{ENTRY_INPUTS, RECORD_BYTES, REPLY_BYTES};
use crate::machine::{RecordSink, RecordSource, RestoreError, SinkError};
use crate::output::Refusal;

/// Replies stand in their session's record up to this many bytes in all, the others in records
/// of their own. Keeps a session's record well below the bound.
const INLINE_BYTES: usize = 256 << 10;

const _: () = {
    // A large reply is a record.
    assert!(REPLY_BYTES <= RECORD_BYTES);
    // A session's record: its replies, and what each costs beside its bytes.
    assert!(INLINE_BYTES + crate::limits::SESSION_REPLIES * 64 + 1024 <= RECORD_BYTES);
};

/// A session in its record.
#[derive(Archive, Serialize, Deserialize)]
struct SessionRecord {
    id: SessionId,
    owner: OwnerId,
    token: Nonce,
    last: LogTime,
    read: LogTime,
    lowest: RequestNumber,
    replies: Vec<ReplyRecord>,
}

/// A session's record of a version that named no owner.
#[derive(Archive, Serialize, Deserialize)]
struct Unowned {
    id: SessionId,
    token: Nonce,
    last: LogTime,
    lowest: RequestNumber,
    replies: Vec<ReplyRecord>,
}

/// A kept reply in its session's record.
#[derive(Archive, Serialize, Deserialize)]
enum ReplyRecord {
    Inline(Bytes),
    /// In a record of its own, of this length, after the session's.
    Apart(u32),
    Refused(Refusal),
}

/// Writes one session.
pub(super) fn write_session(
    id: SessionId,
    session: &Session,
    sink: &mut dyn RecordSink,
) -> Result<(), SinkError> {
    let mut inline = 0;
    let mut apart = Vec::new();
    let mut as_record = |answer: &Answer| match answer {
        Err(refusal) => ReplyRecord::Refused(*refusal),
        Ok(bytes) if inline + bytes.len() <= INLINE_BYTES => {
            inline += bytes.len();
            ReplyRecord::Inline(bytes.clone())
        }
        Ok(bytes) => {
            apart.push(bytes.clone());
            ReplyRecord::Apart(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        }
    };
    let record = SessionRecord {
        id,
        owner: session.owner,
        token: session.token,
        last: session.last,
        read: session.read,
        lowest: session.lowest,
        replies: session.replies.iter().map(&mut as_record).collect(),
    };
    let bytes = rkyv::to_bytes::<rancor::Error>(&record)
        .map_err(|error| SinkError::Io(std::io::Error::other(error.to_string())))?;
    sink.record(&bytes)?;
    apart.iter().try_for_each(|bytes| sink.record(bytes))
}

/// Reads as many sessions as the header says.
pub(super) fn restore_sessions(
    header: &Header,
    config: UnitConfig,
    source: &mut dyn RecordSource,
) -> Result<Sessions, RestoreError> {
    if header.sessions as usize > config.sessions {
        let why = format!("{} sessions are more than {}", header.sessions, config.sessions);
        return Err(invalid("header", why));
    }
    let mut sessions = Sessions::with_skipped(config, header.skipped);
    let mut before = SessionId(0);
    for _ in 0..header.sessions {
        let record = read_session(&expect(source, "sessions")?, header.owned)?;
        let id = record.id;
        check_session(&record, before, header, &sessions)?;
        let session = take_replies(record, sessions.config(), source)?;
        sessions.insert(id, session);
        if sessions.bytes() > sessions.config().reply_bytes {
            return Err(invalid("sessions", "they keep too many bytes of replies".into()));
        }
        before = id;
    }
    Ok(sessions)
}

fn read_session(bytes: &[u8], owned: bool) -> Result<SessionRecord, RestoreError> {
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    let read = match owned {
        true => rkyv::from_bytes::<SessionRecord, rancor::Error>(&aligned),
        false => rkyv::from_bytes::<Unowned, rancor::Error>(&aligned).map(SessionRecord::from),
    };
    read.map_err(|error| invalid("session", error.to_string()))
}

impl From<Unowned> for SessionRecord {
    fn from(Unowned { id, token, last, lowest, replies }: Unowned) -> Self {
        Self { id, owner: OwnerId::UNKNOWN, token, last, read: last, lowest, replies }
    }
}

fn check_session(
    record: &SessionRecord,
    before: SessionId,
    header: &Header,
    sessions: &Sessions,
) -> Result<(), RestoreError> {
    let replies = record.replies.len();
    // A session and each of its requests is an input.
    let executed = record.lowest.0.saturating_add(replies as u64).saturating_sub(1);
    let entries = header.index.0.saturating_sub(record.id.index().0) + 1;
    let inputs = entries.saturating_mul(ENTRY_INPUTS as u64);
    let why = if record.id <= before || record.id.index() > header.index {
        "its id is out of order"
    } else if sessions.has_token(record.token) {
        "its token is another session's too"
    } else if record.last.max(record.read).plus(header.skipped) > header.now {
        "its last entry is in the future"
    } else if record.lowest.0 == 0 || executed > inputs {
        "its request numbers are beyond what was executed"
    } else if replies > sessions.config().session_replies {
        "it keeps too many replies"
    } else {
        return Ok(());
    };
    Err(invalid("session", why.to_owned()))
}

fn take_replies(
    record: SessionRecord,
    config: &UnitConfig,
    source: &mut dyn RecordSource,
) -> Result<Session, RestoreError> {
    let mut bytes = 0;
    let mut replies = VecDeque::new();
    for reply in record.replies {
        let answer = match reply {
            ReplyRecord::Inline(bytes) => Ok(bytes),
            ReplyRecord::Refused(refusal) => Err(refusal),
            ReplyRecord::Apart(len) => {
                let bytes = expect(source, "kept replies")?;
                if bytes.len() != len as usize {
                    return Err(invalid("kept reply", "it has another length".into()));
                }
                Ok(bytes)
            }
        };
        bytes += weight(&answer);
        if bytes > config.session_reply_bytes {
            return Err(invalid("session", "it keeps too many bytes of replies".into()));
        }
        replies.push_back(answer);
    }
    let SessionRecord { owner, token, last, read, lowest, .. } = record;
    Ok(Session { owner, token, last, lowest, replies, bytes, read })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::ids::{Epoch, Index, ReplicaId};
    use crate::record::Members;
    use crate::unit::MembersView;
    use core::time::Duration;

    const HEADER: Header = Header {
        owned: true,
        index: Index(10),
        now: LogTime(100),
        digest: Digest::ZERO,
        wakeup: None,
        members: MembersView { epoch: Epoch(1), members: Members::NONE, sequencer: ReplicaId::A },
        sessions: 1,
        held: false,
        skipped: Duration::ZERO,
    };

    fn sound() -> SessionRecord {
        SessionRecord {
            id: SessionId(5),
            owner: OwnerId(1),
            token: Nonce(1),
            last: LogTime(100),
            read: LogTime(100),
            lowest: RequestNumber(4),
            replies: vec![ReplyRecord::Inline(Bytes::new()), ReplyRecord::Inline(Bytes::new())],
        }
    }

    fn check(record: &SessionRecord) -> Result<(), RestoreError> {
        let mut others = Sessions::new(UnitConfig::default());
        let _ = others.open(OwnerId(1), Nonce(2), SessionId(3), LogTime(1));
        check_session(record, SessionId(3), &HEADER, &others)
    }

    #[test]
    fn a_session_that_could_not_be_is_refused() {
        assert!(check(&sound()).is_ok());
        for absurd in [
            SessionRecord { id: SessionId(3), ..sound() },
            SessionRecord { id: SessionId(11), ..sound() },
            SessionRecord { token: Nonce(2), ..sound() },
            SessionRecord { last: LogTime(101), ..sound() },
            SessionRecord { read: LogTime(101), ..sound() },
            SessionRecord { lowest: RequestNumber(0), ..sound() },
            SessionRecord { lowest: RequestNumber(100_000), ..sound() },
            SessionRecord { lowest: RequestNumber(u64::MAX), ..sound() },
        ] {
            assert!(check(&absurd).is_err());
        }
    }

    #[test]
    fn a_session_is_written_within_the_bound_of_a_record() {
        struct Longest(usize);
        impl RecordSink for Longest {
            fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
                self.0 = self.0.max(bytes.len());
                Ok(())
            }
        }
        let replies = crate::limits::SESSION_REPLIES;
        let session = Session {
            owner: OwnerId(1),
            token: Nonce(1),
            last: LogTime(1),
            lowest: RequestNumber(1),
            replies: (0..replies).map(|_| Ok(Bytes::from(vec![0; 8000]))).collect(),
            bytes: 0,
            read: LogTime(1),
        };
        let mut longest = Longest(0);
        write_session(SessionId(1), &session, &mut longest).unwrap();
        assert!(longest.0 <= RECORD_BYTES, "{}", longest.0);
        assert!(longest.0 > INLINE_BYTES - 8000);
    }
}
