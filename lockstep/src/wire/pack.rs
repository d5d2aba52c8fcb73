//! What of a client's connection can share a frame.

use crate::wire::frames::{ClientAnswer, ClientCall};

/// What can share a frame with its like.
pub(crate) trait Packed {
    /// Bytes of its payload.
    fn payload_len(&self) -> usize;
}

impl Packed for ClientCall {
    fn payload_len(&self) -> usize {
        match self {
            Self::Request { body, .. } => body.len(),
            _ => 0,
        }
    }
}

impl Packed for ClientAnswer {
    fn payload_len(&self) -> usize {
        match self {
            Self::Reply { result: Ok(bytes), .. } => bytes.len(),
            _ => 0,
        }
    }
}
