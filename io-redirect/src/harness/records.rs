//! Where a harness keeps a frozen state.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes};
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

    /// As bytes, to be kept in a file: each after its length, a `u32` in little-endian. A service
    /// keeps a state of each version so, to show that later ones still restore it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in &self.0 {
            // At most `RECORD_BYTES`.
            bytes.put_u32_le(record.len() as u32);
            bytes.put_slice(record);
        }
        bytes
    }

    /// From what [`to_bytes`](Self::to_bytes) gave; `None` if that ends early.
    pub fn from_bytes(mut bytes: Bytes) -> Option<Self> {
        let mut records = VecDeque::new();
        while !bytes.is_empty() {
            let len = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
            if len > bytes.len() {
                return None;
            }
            records.push_back(bytes.split_to(len));
        }
        Some(Self(records))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_as_bytes_and_a_part_of_them_is_none() {
        let records = Records(VecDeque::from([Bytes::from_static(b"one"), Bytes::new()]));
        let bytes = records.to_bytes();
        assert_eq!(bytes, b"\x03\0\0\0one\0\0\0\0");
        assert_eq!(Records::from_bytes(bytes.clone().into()), Some(records));
        for end in [2, 5, bytes.len() - 1] {
            assert_eq!(Records::from_bytes(Bytes::copy_from_slice(&bytes[..end])), None);
        }
    }
}
