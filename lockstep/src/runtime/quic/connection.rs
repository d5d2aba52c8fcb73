//! One authenticated connection: frames out, frames in.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::frame::{Decoder, FrameLost, Outgoing, PREFIX, TooLarge};
use super::urgent::UrgentLane;
use super::{CloseCode, Lost, SendError, Settings};
use crate::runtime::keys::{PublicKey, Role};
use crate::runtime::tls::Purpose;

/// Who is at the other end, as proved by the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The role that the peer's key entitles it to.
    pub role: Role,
    /// The peer's key.
    pub key: PublicKey,
    /// The peer's address, which stays the same: connections do not migrate.
    pub remote: SocketAddr,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What QUIC knows about the way to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round trip.
    pub round_trip: Duration,
    /// UDP packets sent.
    pub packets_sent: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// UDP payload bytes sent.
    pub bytes_sent: u64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// Largest UDP payload of a packet at present, in bytes.
    pub mtu: u16,
    /// Bytes of frames that wait in this process until the stream takes more.
    pub queued: usize,
}

type Closed = Pin<Box<dyn Future<Output = ConnectionError> + Send + Sync>>;

/// A connection with one ordered stream of frames each way, and perhaps another for urgent ones.
///
/// Its owner polls it, on one task. [`send`](Self::send) queues, without
/// waiting; [`poll_flush`](Self::poll_flush) writes everything queued at once,
/// and the packets leave as soon as the owner's task yields;
/// [`poll_recv`](Self::poll_recv) gives the next frame. Whatever is pending
/// wakes the task that polled last. Once any of them gave [`Lost`], the
/// connection is over.
///
/// Dropping it closes it with [`CloseCode::DONE`]; what was queued is lost then.
pub struct Connection {
    inner: quinn::Connection,
    stream: SendStream,
    source: RecvStream,
    urgent: Option<UrgentLane>,
    peer: Peer,
    peer_max: usize,
    outgoing: Outgoing,
    decoder: Decoder,
    frame_max: usize,
    closed: Closed,
    closed_here: Option<Lost>,
}

impl Connection {
    pub(super) fn new(
        inner: quinn::Connection,
        (stream, source): (SendStream, RecvStream),
        urgent: Option<UrgentLane>,
        peer: Peer,
        peer_max: usize,
        settings: &Settings,
    ) -> Self {
        let watched = inner.clone();
        Connection {
            closed: Box::pin(async move { watched.closed().await }),
            outgoing: Outgoing::new(settings.queue),
            decoder: Decoder::new(settings.frame_max),
            frame_max: settings.frame_max,
            closed_here: None,
            // What does not fit the queue could never be sent either.
            peer_max: peer_max.min(settings.queue - PREFIX),
            inner,
            stream,
            source,
            urgent,
            peer,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Bytes that [`send`](Self::send) can take now. A frame takes its length
    /// and four more.
    pub fn budget(&self) -> usize {
        self.outgoing.room()
    }

    /// Whether frames wait for the stream to take them.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Takes a frame, to be written at the next flush.
    ///
    /// # Errors
    /// [`SendError::Full`] if it does not fit at present, and
    /// [`SendError::TooLarge`] if the peer takes no frame of its size.
    pub fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.outgoing.send(frame, self.peer_max)
    }

    /// Takes a frame that goes before those that wait, if the connection has a stream for such
    /// ones; otherwise it is sent like them.
    ///
    /// # Errors
    /// As [`send`](Self::send); an urgent frame is of no use later.
    pub fn send_urgent(&mut self, frame: Bytes) -> Result<(), SendError> {
        match &mut self.urgent {
            Some(urgent) => urgent.send(frame),
            None => self.send(frame),
        }
    }

    /// Writes what is queued; ready when nothing is left.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if let Some(lost) = &self.closed_here {
            return Poll::Ready(Err(lost.clone()));
        }
        let urgent = match &mut self.urgent {
            Some(urgent) => urgent.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        };
        let ordinary = self.outgoing.poll_write(&mut self.stream, cx);
        let written = match (urgent, ordinary) {
            (Poll::Ready(Ok(())), ordinary) => ordinary,
            (urgent, Poll::Ready(Ok(()))) => urgent,
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        };
        written.map_err(|error| match error {
            WriteError::ConnectionLost(error) => error.into(),
            other => Lost::Transport(other.to_string()),
        })
    }

    /// The next frame, an urgent one before all others.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Lost>> {
        if let Some(lost) = &self.closed_here {
            return Poll::Ready(Err(lost.clone()));
        }
        if let Some(urgent) = &mut self.urgent
            && let Poll::Ready(received) = urgent.poll_recv(cx)
        {
            let frame_max = urgent.frame_max();
            return Poll::Ready(
                received.map_err(|TooLarge(size)| self.refuse_frame(size, frame_max)),
            );
        }
        Poll::Ready(match ready!(self.decoder.poll_frame(&mut self.source, cx)) {
            Ok(Some(frame)) => Ok(frame),
            // The peer has said all; its closing tells why.
            Ok(None) => return self.poll_closed(cx).map(Err),
            Err(FrameLost::TooLarge(TooLarge(size))) => {
                Err(self.refuse_frame(size, self.frame_max))
            }
            Err(FrameLost::Read(ReadError::ConnectionLost(error))) => Err(error.into()),
            Err(FrameLost::Read(other)) => Err(Lost::Transport(other.to_string())),
        })
    }

    /// Ready when the connection is lost, also while no task reads.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        if let Some(lost) = &self.closed_here {
            return Poll::Ready(lost.clone());
        }
        // The future must not be polled again once it is ready.
        match self.inner.close_reason() {
            Some(error) => Poll::Ready(error.into()),
            None => self.closed.as_mut().poll(cx).map(Lost::from),
        }
    }

    fn refuse_frame(&mut self, size: usize, max: usize) -> Lost {
        let lost = Lost::FrameTooLarge { size, max };
        self.closed_here = Some(lost.clone());
        self.inner
            .close(VarInt::from_u32(CloseCode::FRAME_TOO_LARGE.0), lost.to_string().as_bytes());
        lost
    }

    /// Waits until everything queued is written.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Waits for the next frame, and before it waits, writes what is queued.
    /// Cancel-safe.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn recv(&mut self) -> Result<Bytes, Lost> {
        poll_fn(|cx| match self.poll_recv(cx) {
            Poll::Ready(received) => Poll::Ready(received),
            Poll::Pending => match self.poll_flush(cx) {
                Poll::Ready(Err(lost)) => Poll::Ready(Err(lost)),
                _ => Poll::Pending,
            },
        })
        .await
    }

    /// Closes at once. `reason` is for people, and cut to what fits a packet.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.closed_here.is_none() {
            self.closed_here = Some(Lost::Here { code });
            self.inner.close(VarInt::from_u32(code.0), reason.as_bytes());
        }
    }

    /// Writes what is queued, waits until the peer has it, and closes; closes
    /// anyhow after `within`.
    pub async fn finish(mut self, code: CloseCode, reason: &str, within: Duration) {
        let all_arrived = async {
            self.flush().await?;
            // Fails only if the stream is finished already.
            let _ = self.stream.finish();
            let _ = self.stream.stopped().await;
            Ok::<(), Lost>(())
        };
        let _ = tokio::time::timeout(within, all_arrived).await;
        self.close(code, reason);
    }

    /// What QUIC knows about the way to the peer.
    pub fn stats(&self) -> Stats {
        let stats = self.inner.stats();
        Stats {
            round_trip: stats.path.rtt,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            mtu: stats.path.current_mtu,
            queued: self.outgoing.queued(),
        }
    }

    /// Lets a test send what the peer said it does not take.
    #[cfg(test)]
    pub(super) fn ignore_peer_limit(&mut self) {
        self.peer_max = usize::MAX;
    }

    /// Resolves when the connection is lost, independently of its owner.
    pub(in crate::runtime) fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.inner.clone();
        async move {
            inner.closed().await;
        }
    }
}
