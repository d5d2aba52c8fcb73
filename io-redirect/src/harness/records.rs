//! Where a harness keeps a frozen state.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep::machine::{RecordSink, RecordSource, RestoreError, SinkError};

/// The records of a frozen state, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(VecDeque<Bytes>);

impl Records {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first few of them.
    #[must_use]
    pub fn truncated(mut self, records: usize) -> Self {
        self.0.truncate(records);
        self
    }

    /// The same with another record at this position.
    #[must_use]
    pub fn with(mut self, position: usize, bytes: &[u8]) -> Self {
        if let Some(record) = self.0.get_mut(position) {
            *record = Bytes::copy_from_slice(bytes);
        }
        self
    }
}

impl RecordSink for Records {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let (len, limit) = (bytes.len(), lockstep::limits::RECORD_BYTES);
        if len > limit {
            return Err(SinkError::TooLong { len, limit });
        }
        self.0.push_back(Bytes::copy_from_slice(bytes));
        Ok(())
    }
}

impl RecordSource for Records {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        Ok(self.0.pop_front())
    }
}
