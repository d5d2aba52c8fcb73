//! What is to be sent on a connection and does not fit its window yet.

use std::collections::VecDeque;

use bytes::Bytes;
use io_redirect::Io;
use io_redirect::tcp::ConnId;
use rkyv::{Archive, Deserialize, Serialize};

/// Pieces in order. Those of a mail are slices of it, so waiting costs no copy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
pub(super) struct Backlog {
    pieces: VecDeque<Bytes>,
    bytes: u64,
}

impl Backlog {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Sends what fits. If something is left, the connection becomes writable later. For
    /// a connection that is over, of which the service is about to be told, all is dropped.
    pub(super) fn flush(&mut self, io: &mut Io<'_>, conn: ConnId) {
        while let Some(piece) = self.pieces.front_mut() {
            match io.tcp().send_prefix(conn, piece) {
                Ok(sent) => self.bytes -= sent as u64,
                Err(_) => return *self = Backlog::default(),
            }
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
