//! Frames to stream and back.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};

use super::SendError;

/// Bytes of the length before each frame.
pub(super) const PREFIX: usize = 4;

/// Frames up to this size are copied together so that many leave as one write;
/// longer ones are handed on as they are.
const COPY_MAX: usize = 4 << 10;

/// Size of a run of copied frames from which the next begins a new one: moving
/// a longer one as it grows would cost more than a further write.
const RUN: usize = 64 << 10;

/// First piece of memory for a frame that comes in several packets. What its
/// prefix announces is not allocated before it arrives.
const FIRST_PIECE: usize = 64 << 10;

/// Frames waiting for the stream to take them.
pub(super) struct Outgoing {
    /// Oldest bytes first, then `run`.
    chunks: VecDeque<Bytes>,
    run: BytesMut,
    queued: usize,
    limit: usize,
}

impl Outgoing {
    pub(super) fn new(limit: usize) -> Self {
        Outgoing { chunks: VecDeque::new(), run: BytesMut::new(), queued: 0, limit }
    }

    /// Bytes, prefixes included, that can be taken.
    pub(super) fn room(&self) -> usize {
        self.limit - self.queued
    }

    /// Bytes, prefixes included, that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Takes a frame, which may be no longer than `max`, if there is room for it.
    pub(super) fn send(&mut self, frame: Bytes, max: usize) -> Result<(), SendError> {
        if frame.len() > max {
            return Err(SendError::TooLarge { size: frame.len(), max });
        }
        let (needed, budget) = (frame.len() + PREFIX, self.room());
        if needed > budget {
            return Err(SendError::Full { needed, budget });
        }
        self.push(frame);
        Ok(())
    }

    /// Appends a frame whose size with prefix is at most [`room`](Self::room).
    pub(super) fn push(&mut self, frame: Bytes) {
        let size = PREFIX + frame.len();
        assert!(size <= self.room(), "the caller compares with the room first");
        self.queued += size;
        let copied = if frame.len() <= COPY_MAX { size } else { PREFIX };
        if self.run.capacity() - self.run.len() < copied {
            if self.run.len() >= RUN {
                self.end_run();
            }
            self.run.reserve(copied.max(COPY_MAX));
        }
        self.run.put_u32_le(u32::try_from(frame.len()).expect("settings keep frames below 4 GiB"));
        if frame.len() <= COPY_MAX {
            self.run.put(frame);
        } else {
            self.end_run();
            self.chunks.push_back(frame);
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.chunks.push_back(self.run.split().freeze());
        }
    }

    /// Writes until nothing is left or the stream takes no more.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut SendStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        while !self.is_empty() {
            if self.chunks.is_empty() {
                self.end_run();
            }
            // A write that is pending has taken nothing, so the future may go.
            let write = pin!(stream.write_chunks(self.chunks.make_contiguous())).poll(cx);
            let written = std::task::ready!(write)?;
            self.chunks.drain(..written.chunks);
            self.queued -= written.bytes;
        }
        Poll::Ready(Ok(()))
    }
}

/// A frame whose announced size is over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge(pub(super) usize);

/// Why a stream gives no frame any more.
#[derive(Debug)]
pub(super) enum FrameLost {
    TooLarge(TooLarge),
    Read(ReadError),
}

/// Cuts the bytes of a stream into frames.
///
/// Each frame has memory of its own: a small one that its receiver keeps would
/// otherwise hold on to the packets that it came with.
pub(super) struct Decoder {
    chunk: Bytes,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// The size announced and what has come of it.
    partial: Option<(usize, BytesMut)>,
    max: usize,
}

impl Decoder {
    pub(super) fn new(max: usize) -> Self {
        Decoder { chunk: Bytes::new(), prefix: [0; PREFIX], prefix_len: 0, partial: None, max }
    }

    /// Takes the stream's next bytes; only after [`next`](Self::next) said that
    /// it needs them.
    pub(super) fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty());
        self.chunk = chunk;
    }

    /// The next whole frame of this stream, which nobody else reads; `None` once it has ended.
    pub(super) fn poll_frame(
        &mut self,
        source: &mut RecvStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, FrameLost>> {
        loop {
            if let Some(frame) = self.next().map_err(FrameLost::TooLarge)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            // A read that is pending has taken nothing, so the future may go.
            let read = pin!(source.read_chunk(usize::MAX, true)).poll(cx);
            match std::task::ready!(read).map_err(FrameLost::Read)? {
                Some(chunk) => self.feed(chunk.bytes),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// The next whole frame; `None` if more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        if self.partial.is_none() {
            let Some(size) = self.take_prefix() else { return Ok(None) };
            if size > self.max {
                return Err(TooLarge(size));
            }
            if self.chunk.len() >= size {
                let frame = Bytes::copy_from_slice(&self.chunk[..size]);
                self.chunk.advance(size);
                return Ok(Some(frame));
            }
            self.partial = Some((size, BytesMut::with_capacity(size.min(FIRST_PIECE))));
        }
        Ok(self.fill_partial())
    }

    fn take_prefix(&mut self) -> Option<usize> {
        let take = (PREFIX - self.prefix_len).min(self.chunk.len());
        let end = self.prefix_len + take;
        self.chunk.copy_to_slice(&mut self.prefix[self.prefix_len..end]);
        self.prefix_len = end;
        if end < PREFIX {
            return None;
        }
        self.prefix_len = 0;
        Some(u32::from_le_bytes(self.prefix) as usize)
    }

    fn fill_partial(&mut self) -> Option<Bytes> {
        let (size, body) = self.partial.as_mut()?;
        let take = (*size - body.len()).min(self.chunk.len());
        body.put(self.chunk.split_to(take));
        if body.len() < *size {
            return None;
        }
        self.partial.take().map(|(_, body)| body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(out: &mut Outgoing) -> Vec<u8> {
        out.end_run();
        out.queued = 0;
        out.chunks.drain(..).flatten().collect()
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            sizes in prop::collection::vec(prop_oneof![0usize..40, 4_000usize..4_200, 60_000usize..70_000], 0..12),
            cut in 1usize..20_000,
        ) {
            let frames: Vec<Bytes> =
                sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size].into()).collect();
            let mut out = Outgoing::new(1 << 20);
            for frame in &frames {
                out.push(frame.clone());
            }
            prop_assert_eq!((1 << 20) - out.room(), sizes.iter().map(|size| size + 4).sum::<usize>());
            let stream = bytes_of(&mut out);
            let mut decoder = Decoder::new(70_000);
            let mut got = Vec::new();
            for chunk in stream.chunks(cut) {
                decoder.feed(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.next().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_prefix() {
        let mut decoder = Decoder::new(10);
        decoder.feed(Bytes::from_static(&[10, 0, 0, 0]));
        assert_eq!(decoder.next(), Ok(None));
        let mut decoder = Decoder::new(10);
        decoder.feed(Bytes::from_static(&[11, 0, 0, 0]));
        assert_eq!(decoder.next(), Err(TooLarge(11)));
        let mut decoder = Decoder::new(10);
        decoder.feed(Bytes::from_static(&[0xff; 4]));
        assert_eq!(decoder.next(), Err(TooLarge(u32::MAX as usize)));
    }

    #[test]
    fn what_is_announced_is_not_allocated_before_it_comes() {
        let mut decoder = Decoder::new(1 << 30);
        decoder.feed(Bytes::copy_from_slice(&(1u32 << 30).to_le_bytes()));
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.partial.as_ref().unwrap().1.capacity() <= FIRST_PIECE);
    }

    #[test]
    fn small_frames_leave_as_one_chunk() {
        let mut out = Outgoing::new(1 << 20);
        for _ in 0..100 {
            out.push(Bytes::from_static(&[7; 64]));
        }
        out.end_run();
        assert_eq!(out.chunks.len(), 1);
    }
}
