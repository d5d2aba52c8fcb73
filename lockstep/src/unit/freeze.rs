//! Freezing a unit, and restoring it.
//!
//! A frozen unit is a sequence of records. First comes the header, which is laid out by hand and
//! versioned. Then comes one record per session, in the order of ids, each followed by those of its
//! replies that are too large to stand in it. The service's own records follow, up to the end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::header::Header;
use super::records::{Summer, Writer, expect, invalid};
use super::session_records::{restore_sessions, write_session};
use super::sessions::Table;
use super::{Unit, UnitConfig, chain, panic_message};
use crate::digest::Digest;
use crate::ids::Index;
use crate::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError, StateMachine};
use crate::output::Executed;

/// A consistent view of a unit. The frozen unit may be written out on another thread while the unit
/// goes on.
#[derive(Debug)]
pub struct FrozenUnit<F> {
    header: Header,
    sessions: Table,
    service: F,
}

impl<S: StateMachine> Unit<S> {
    /// Takes a view of everything replicated.
    ///
    /// # Panics
    /// If a step has panicked: the service's state is nothing to go on from.
    pub fn freeze(&self) -> FrozenUnit<S::Frozen> {
        assert!(!self.panicked, "a unit whose service panicked is not frozen");
        assert!(self.stage.is_none(), "a state within an entry is not frozen");
        let sessions = self.sessions.freeze();
        let header = Header {
            owned: true,
            index: self.index,
            now: self.now,
            digest: self.digest,
            wakeup: self.wakeup,
            held: self.held,
            skipped: self.sessions.skipped(),
            members: self.members,
            sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
        };
        FrozenUnit { header, sessions, service: self.service.freeze() }
    }

    /// Takes a view right after this entry was executed. If the service panics over it, it has
    /// panicked in the entry, and the result says so.
    pub fn freeze_after(&mut self, executed: &mut Executed) -> Option<FrozenUnit<S::Frozen>> {
        let payload = match catch_unwind(AssertUnwindSafe(|| self.freeze())) {
            Ok(view) => return Some(view),
            Err(payload) => payload,
        };
        self.panicked = true;
        self.digest = chain(self.digest, executed.index, &[], None, true);
        *executed = Executed {
            index: executed.index,
            digest: self.digest,
            outputs: Vec::new(),
            wakeup: None,
            panic: Some(format!("freezing its state panicked: {}", panic_message(payload))),
            sessions: self.session_use(core::mem::take(&mut executed.sessions.lost)),
        };
        None
    }

    /// A unit as a frozen view wrote it, around a fresh service.
    ///
    /// # Errors
    /// As for [`reload`](Self::reload).
    pub fn restore(
        service: S,
        config: UnitConfig,
        source: &mut dyn RecordSource,
    ) -> Result<Self, RestoreError> {
        let mut unit = Self::with_config(service, config);
        unit.reload(source)?;
        Ok(unit)
    }

    /// Takes the place of the unit's state, whatever that was, by one that a frozen view wrote.
    ///
    /// Nothing in the records is taken on trust. A panic of the service over them is an error
    /// like any other.
    ///
    /// # Errors
    /// If the records are no frozen unit within the bounds of the unit's configuration, or the
    /// service refuses its part, or leaves some of it unread. The unit then counts as one whose
    /// service panicked, until it is reloaded from something else.
    pub fn reload(&mut self, source: &mut dyn RecordSource) -> Result<(), RestoreError> {
        self.panicked = true;
        let header = Header::decode(&expect(source, "header")?)?;
        self.sessions = restore_sessions(&header, self.sessions.config().clone(), source)?;
        let service = &mut self.service;
        catch_unwind(AssertUnwindSafe(|| service.restore(source))).unwrap_or_else(|payload| {
            let why = format!("restoring it panicked: {}", panic_message(payload));
            Err(invalid("service", why))
        })?;
        if source.record()?.is_some() {
            return Err(invalid("service", "it left records of its own unread".into()));
        }
        self.members = header.members;
        self.index = header.index;
        self.now = header.now;
        self.wakeup = header.wakeup;
        self.held = header.held;
        self.digest = header.digest;
        self.panicked = false;
        Ok(())
    }
}

impl<F: Freeze> FrozenUnit<F> {
    /// The last entry that the view contains.
    pub fn index(&self) -> Index {
        self.header.index
    }

    /// The running digest of the outputs at that entry.
    pub fn outputs(&self) -> Digest {
        self.header.digest
    }

    /// Writes the view as records.
    ///
    /// # Errors
    /// The errors of the sink.
    pub fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        self.write_own(sink)?;
        self.service.write(sink)
    }

    fn write_own(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(&self.header.encode())?;
        self.sessions.iter().try_for_each(|(id, session)| write_session(*id, session, sink))
    }

    /// How many records come before the service's own.
    pub(crate) fn own_records(&self) -> usize {
        let mut counter = Counter(0);
        let wrote = self.write_own(&mut counter);
        wrote.map_or(0, |()| counter.0)
    }

    /// The records as one byte string; [`Reader`](super::records::Reader) takes it.
    ///
    /// # Errors
    /// If the service writes a record that is too long.
    pub fn to_bytes(&self) -> Result<Bytes, SinkError> {
        let mut writer = Writer::new();
        self.write(&mut writer)?;
        Ok(writer.finish())
    }

    /// The digest of all records: equal on two replicas at the same entry, or they
    /// have diverged.
    ///
    /// # Errors
    /// If the service writes a record that is too long.
    pub fn state_digest(&self) -> Result<Digest, SinkError> {
        let mut summer = Summer::default();
        self.write(&mut summer)?;
        Ok(summer.finish())
    }
}

/// Counts the records of a state without keeping them.
struct Counter(usize);

impl RecordSink for Counter {
    fn record(&mut self, _: &[u8]) -> Result<(), SinkError> {
        self.0 += 1;
        Ok(())
    }
}
