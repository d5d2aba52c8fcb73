//! Gathering what clients say, or are told, at once: it shares frames.

use crate::limits;
use crate::wire::check::Packed;

/// Gathers what is to share the next frame.
#[derive(Debug)]
pub(crate) struct Pack<T> {
    items: Vec<T>,
    payload: usize,
}

impl<T> Default for Pack<T> {
    fn default() -> Self {
        Self { items: Vec::new(), payload: 0 }
    }
}

impl<T: Packed> Pack<T> {
    /// Adds to it. Returns what was gathered so far if this does not go into the same frame.
    pub(crate) fn add(&mut self, item: T) -> Option<Vec<T>> {
        let payload = item.payload_len();
        let fits = self.items.len() < limits::PACK
            && limits::may_share(self.items.len() + 1, self.payload + payload);
        let before = if fits { None } else { self.take() };
        self.payload += payload;
        self.items.push(item);
        before
    }

    /// What was gathered, if anything.
    pub(crate) fn take(&mut self) -> Option<Vec<T>> {
        self.payload = 0;
        (!self.items.is_empty()).then(|| core::mem::take(&mut self.items))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::{Nonce, RequestNumber, SessionId};
    use crate::wire::codec::encode_client_calls;
    use crate::wire::frames::ClientCall;

    fn request(len: usize) -> ClientCall {
        ClientCall::Request {
            session: SessionId(1),
            token: Nonce(1),
            number: RequestNumber(1),
            lowest: RequestNumber(1),
            alone: false,
            body: Bytes::from(vec![0; len]),
        }
    }

    /// The numbers of calls in the frames that these become.
    fn frames(lens: &[usize]) -> Vec<usize> {
        let mut pack = Pack::default();
        let mut frames: Vec<_> = lens.iter().filter_map(|len| pack.add(request(*len))).collect();
        frames.extend(pack.take());
        for frame in &frames {
            encode_client_calls(frame).expect("what is gathered is a frame");
        }
        frames.iter().map(Vec::len).collect()
    }

    #[test]
    fn what_is_small_shares_frames_within_their_bounds() {
        assert!(frames(&[]).is_empty());
        assert_eq!(frames(&[1; 10]), [10]);
        assert_eq!(frames(&[0; limits::PACK + 1]), [limits::PACK, 1]);
        assert_eq!(frames(&[limits::BULK_BYTES / 2; 3]), [1, 1, 1]);
        assert_eq!(frames(&[limits::BULK_BYTES / 3; 4]), [3, 1]);
    }

    #[test]
    fn what_is_bulk_has_a_frame_of_its_own() {
        assert_eq!(frames(&[1, limits::INPUT_BYTES, 1]), [1, 1, 1]);
    }
}
