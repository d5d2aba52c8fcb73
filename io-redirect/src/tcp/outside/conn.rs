//! One connection: a task that moves bytes between a socket and the log.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use lockstep::device::{Flow, Inputs, Lease, Refused};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep};

use super::door::Seat;
use super::{ConnectionCommand, Shared};
use crate::limits::{CHUNK_BYTES, PARTIAL, PARTIAL_BYTES, THROWN_AWAY};
use crate::tcp::ResetCause;
use crate::tcp::flow::Tally;
use crate::tcp::messages::{DATA_HEADER, Event, Handle, Windows, put_data_header};

/// Most pieces given to the kernel in one call.
const SLICES: usize = 16;

thread_local! {
    /// Where bytes are read to before it is known how many there are: one for all connections,
    /// so that idle ones hold no memory.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into_boxed_slice());
}

/// A connection that was made or accepted.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// The share of the way into the log that the connection has.
    pub(super) flow: Flow,
    pub(super) descriptor: Lease,
}

/// A future that ends with the connection. Polled again whenever the socket, the engine, the
/// service or the deadline lets something move.
pub(super) struct Conn {
    shared: Arc<Shared>,
    handle: Handle,
    stream: TcpStream,
    /// Peers of one block of addresses share what each of them would get.
    inputs: Inputs,
    commands: mpsc::UnboundedReceiver<ConnectionCommand>,
    /// Bytes that may be read before the inside half grants more.
    credit: u32,
    writes: Tally,
    /// What the engine has not taken yet; while there is something, nothing is read.
    report: Option<Bytes>,
    /// When the last report of a few bytes was made, unless the service has said something since.
    partial: Option<Instant>,
    more: Option<Pin<Box<Sleep>>>,
    /// What is reported after that, when it is over.
    last: Option<Bytes>,
    out: VecDeque<Bytes>,
    own: Closing,
    far_closed: bool,
    phase: Phase,
    /// Bytes that came after the service was done with it.
    thrown_away: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Said to the far end when the CoServer leaves, or has too many connections.
    pub(super) farewell: Bytes,
    /// What an accepted connection has, until it is turned away.
    pub(super) seat: Option<Seat>,
    turned_away: bool,
    /// What it has from then on, if it may stay until the far end has its text.
    waits: Option<OwnedSemaphorePermit>,
    _descriptor: Lease,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// After what is in `out`.
    Wanted,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Live,
    /// The service is done with it: what comes is thrown away, its end is reported.
    Released,
    /// The CoServer is out: the same, and nothing is reported.
    Leaving,
    /// The connection is over; the last report waits to be taken.
    Over,
}

impl Conn {
    pub(super) fn new(
        shared: Arc<Shared>,
        handle: Handle,
        socket: Socket,
        windows: Windows,
        commands: mpsc::UnboundedReceiver<ConnectionCommand>,
        first: &Event,
    ) -> Self {
        let Socket { stream, flow, descriptor } = socket;
        Self {
            inputs: shared.inputs.of(flow),
            shared,
            handle,
            stream,
            commands,
            credit: windows.read,
            writes: Tally::of_writes(windows.send),
            report: Some(first.encode()),
            partial: None,
            more: None,
            last: None,
            out: VecDeque::new(),
            own: Closing::No,
            far_closed: false,
            phase: Phase::Live,
            thrown_away: 0,
            deadline: None,
            farewell: Bytes::new(),
            seat: None,
            turned_away: false,
            waits: None,
            _descriptor: descriptor,
        }
    }

    /// Takes what it was told. `Ready` when no command can come any more.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.on_command(command),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn on_command(&mut self, command: ConnectionCommand) {
        match command {
            ConnectionCommand::Send(bytes) if self.own == Closing::No && !bytes.is_empty() => {
                self.partial = None;
                self.out.push_back(bytes);
            }
            ConnectionCommand::Send(_) => {}
            ConnectionCommand::Shutdown => {
                self.partial = None;
                self.close_own();
            }
            ConnectionCommand::Credit(bytes) => self.credit = self.credit.saturating_add(bytes),
            ConnectionCommand::Close => {
                self.close_own();
                self.let_go(Phase::Released);
            }
            // The inside half has forgotten it, and disowns what came just before: that is no
            // reason to take its text away.
            ConnectionCommand::Reset if self.turned_away => {}
            ConnectionCommand::Reset => {
                self.break_off();
                self.end(Event::Ended { handle: self.handle });
            }
            ConnectionCommand::TurnAway => {
                self.seat.iter_mut().for_each(|seat| seat.turned_away(Instant::now()));
                self.turn_away();
            }
            ConnectionCommand::Displace => {
                self.seat.iter().for_each(|seat| {
                    seat.gives_way(Instant::now());
                    self.shared.refusals.note_displaced(seat.peer);
                });
                self.turn_away();
            }
            ConnectionCommand::Protect => self.seat.iter_mut().for_each(Seat::protect),
            ConnectionCommand::Farewell => {
                self.say_farewell();
                self.report = None;
                self.let_go(Phase::Leaving);
            }
        }
    }

    fn say_farewell(&mut self) {
        if self.own == Closing::No && !self.farewell.is_empty() {
            self.out.push_back(self.farewell.clone());
        }
        self.close_own();
    }

    /// Makes room at once. The text goes to the kernel in any case; whether the far end is waited
    /// for depends on how many others are.
    fn turn_away(&mut self) {
        self.say_farewell();
        self.turned_away = true;
        self.seat = None;
        self.waits = self.shared.may_wait();
        if self.waits.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
        }
        self.let_go(Phase::Released);
    }

    fn close_own(&mut self) {
        if self.own == Closing::No {
            self.own = Closing::Wanted;
        }
    }

    fn let_go(&mut self, phase: Phase) {
        if self.phase != Phase::Over {
            self.phase = phase;
        }
        let linger = self.shared.linger;
        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(linger)));
    }

    /// Makes the kernel send a reset when the socket is closed.
    fn break_off(&mut self) {
        let _ = self.stream.set_zero_linger();
    }

    /// The connection is over; `last` is said after what still waits.
    fn end(&mut self, last: Event) {
        match self.phase {
            Phase::Over => return,
            Phase::Leaving => {}
            Phase::Live | Phase::Released if self.report.is_none() => {
                self.report = Some(last.encode());
            }
            Phase::Live | Phase::Released => self.last = Some(last.encode()),
        }
        self.out.clear();
        self.phase = Phase::Over;
    }

    fn on_error(&mut self, error: &io::Error) {
        let handle = self.handle;
        let cause = match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => ResetCause::Peer,
            io::ErrorKind::TimedOut => ResetCause::TimedOut,
            _ => ResetCause::Network,
        };
        self.end(match self.phase {
            Phase::Live => Event::Reset { handle, cause },
            _ => Event::Ended { handle },
        });
    }

    /// Pushes the waiting report. `Ready(true)` if one went.
    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.report.is_none() {
            return Poll::Ready(false);
        }
        match self.inputs.poll_push(cx, &mut self.report) {
            Poll::Ready(Ok(())) => {
                self.report = self.last.take();
                Poll::Ready(true)
            }
            Poll::Ready(Err(Refused::Full(_))) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => {
                // The engine is stopping: how the connection ends is of no interest.
                self.last = None;
                self.let_go(Phase::Leaving);
                Poll::Ready(true)
            }
        }
    }

    /// Writes what the socket takes, then closes the own direction if that is wanted. True if
    /// something moved.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.out.is_empty() {
            return self.poll_close(cx);
        }
        match self.stream.poll_write_ready(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.on_error(&error);
                return true;
            }
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, bytes) in slices.iter_mut().zip(&self.out) {
            *slice = IoSlice::new(bytes);
        }
        let filled = self.out.len().min(SLICES);
        match self.stream.try_write_vectored(&slices[..filled]) {
            Ok(written) => self.on_written(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.on_error(&error),
        }
        true
    }

    fn on_written(&mut self, written: usize) {
        self.writes.add(written);
        let mut left = written;
        while let Some(front) = self.out.front_mut().filter(|_| left > 0) {
            let part = left.min(front.len());
            front.advance(part);
            left -= part;
            if front.is_empty() {
                self.out.pop_front();
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> bool {
        if self.own != Closing::Wanted {
            return false;
        }
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => self.own = Closing::Done,
            Poll::Ready(Err(error)) => self.on_error(&error),
        }
        true
    }

    /// Reads what may be read. True if something moved.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let allowed = match self.phase {
            Phase::Live => (self.credit as usize).min(CHUNK_BYTES),
            Phase::Released | Phase::Leaving => CHUNK_BYTES,
            Phase::Over => 0,
        };
        if allowed == 0 || self.far_closed || self.report.is_some() || self.waits_for_more(cx) {
            return false;
        }
        match self.stream.poll_read_ready(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.on_error(&error);
                return true;
            }
        }
        SCRATCH.with_borrow_mut(|scratch| match self.stream.try_read(&mut scratch[..allowed]) {
            Ok(0) => self.on_far_closed(),
            Ok(len) => self.on_read(&scratch[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.on_error(&error),
        });
        true
    }

    /// Whether what has come is left in the kernel for a while, for more to come; an end as well.
    fn waits_for_more(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(partial), Phase::Live) = (self.partial, self.phase) else { return false };
        let (now, due) = (Instant::now(), partial + PARTIAL);
        if due <= now || !self.seat.as_ref().is_some_and(|seat| seat.is_crowded(now)) {
            return false;
        }
        let more = self.more.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if more.deadline() != due {
            more.as_mut().reset(due);
        }
        more.as_mut().poll(cx).is_pending()
    }

    fn on_read(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Live {
            return self.throw_away(bytes.len());
        }
        self.credit -= u32::try_from(bytes.len()).unwrap_or(self.credit);
        self.partial = (bytes.len() < PARTIAL_BYTES).then(Instant::now);
        let mut report = BytesMut::with_capacity(DATA_HEADER + bytes.len());
        put_data_header(&mut report, self.handle, self.writes.take());
        report.extend_from_slice(bytes);
        self.report = Some(report.freeze());
    }

    /// Bounded in size, as the deadline bounds it in time.
    fn throw_away(&mut self, len: usize) {
        self.thrown_away += len as u64;
        if self.thrown_away > THROWN_AWAY {
            self.break_off();
            self.end(Event::Ended { handle: self.handle });
        }
    }

    fn on_far_closed(&mut self) {
        self.far_closed = true;
        if self.phase == Phase::Live {
            self.report = Some(Event::PeerClosed { handle: self.handle }.encode());
        }
    }

    /// What follows from what has moved: a report of bytes written, or the end.
    fn conclude(&mut self) -> bool {
        if self.phase == Phase::Over || self.report.is_some() {
            return false;
        }
        if self.own == Closing::Done && self.far_closed {
            self.end(Event::Ended { handle: self.handle });
            return true;
        }
        if self.phase != Phase::Live {
            return false;
        }
        let due = self.writes.take_if_due();
        self.report = due.map(|written| Event::Written { handle: self.handle, written }.encode());
        self.report.is_some()
    }

    /// The far end was waited for long enough.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let passed = match &mut self.deadline {
            Some(deadline) if self.phase != Phase::Over => deadline.as_mut().poll(cx).is_ready(),
            _ => false,
        };
        if passed {
            // Once the kernel has everything it goes on by itself, without us.
            if self.own != Closing::Done {
                self.break_off();
            }
            self.end(Event::Ended { handle: self.handle });
        }
        passed
    }
}

impl Future for Conn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.poll_commands(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut moved = matches!(this.poll_report(cx), Poll::Ready(true));
            if this.phase == Phase::Over && this.report.is_none() {
                return Poll::Ready(());
            }
            if this.phase != Phase::Over {
                moved |= this.poll_write(cx);
                moved |= this.poll_read(cx);
                moved |= this.conclude();
                moved |= this.poll_deadline(cx);
            }
            if !moved && (this.phase != Phase::Over || this.report.is_some()) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.shared.conns.remove(self.handle);
    }
}
