//! A stream each way for short frames that must not wait behind long ones.
//!
//! Its bytes leave before those of the other stream that wait (a stream's priority), and are read
//! before those that have come. Between the two there is no order.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{ConnectionError, RecvStream, SendStream, WriteError};

use super::SendError;
use super::frame::{Decoder, FrameLost, Outgoing, PREFIX, TooLarge};

/// Above that of the stream of all other frames, which is zero.
const PRIORITY: i32 = 1;

type Arriving = Pin<Box<dyn Future<Output = Result<RecvStream, ConnectionError>> + Send + Sync>>;

/// One end of both streams.
pub(super) struct UrgentLane {
    stream: SendStream,
    outgoing: Outgoing,
    source: Source,
    decoder: Decoder,
    frame_max: usize,
}

/// The peer's stream comes with its first frame.
enum Source {
    Awaited(Arriving),
    Open(RecvStream),
    Ended,
}

impl UrgentLane {
    /// Opens this end's stream, if the peer said in its handshake that it takes one: what does not
    /// may have another version, and is to be told so. At most `bytes` of frames wait here, and no
    /// frame is longer.
    ///
    /// # Errors
    /// If the connection is lost.
    pub(super) async fn open(
        connection: &quinn::Connection,
        bytes: usize,
    ) -> Result<Option<Self>, ConnectionError> {
        let mut opening = pin!(connection.open_uni());
        let opened = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
        let Poll::Ready(stream) = opened else { return Ok(None) };
        let stream = stream?;
        // Fails only for a stream that is closed.
        let _ = stream.set_priority(PRIORITY);
        let connection = connection.clone();
        let frame_max = bytes - PREFIX;
        Ok(Some(Self {
            stream,
            outgoing: Outgoing::new(bytes),
            source: Source::Awaited(Box::pin(async move { connection.accept_uni().await })),
            decoder: Decoder::new(frame_max),
            frame_max,
        }))
    }

    /// The longest frame.
    pub(super) fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// Queues a frame, as [`Connection::send`](super::Connection::send) does.
    pub(super) fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.outgoing.send(frame, self.frame_max)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.outgoing.poll_write(&mut self.stream, cx)
    }

    /// The next frame. Never ready once the peer's stream has ended, or the connection: the other
    /// stream tells how, and may still have what the peer said before.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, TooLarge>> {
        loop {
            match &mut self.source {
                Source::Awaited(arriving) => match ready!(arriving.as_mut().poll(cx)) {
                    Ok(stream) => self.source = Source::Open(stream),
                    Err(_) => self.source = Source::Ended,
                },
                Source::Open(stream) => match ready!(self.decoder.poll_frame(stream, cx)) {
                    Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                    Err(FrameLost::TooLarge(large)) => return Poll::Ready(Err(large)),
                    Ok(None) | Err(FrameLost::Read(_)) => self.source = Source::Ended,
                },
                Source::Ended => return Poll::Pending,
            }
        }
    }
}
