//! Accepts on one address.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lockstep::device::{Flow, Lease, Want};
use lockstep::event::Reminder;
use lockstep::exhaustion::Exhaustion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::conn::{Conn, Socket};
use super::door::{Door, NoPlace, Seat};
use super::filter::Filter;
use super::{Mode, Opening, RefusedBy, Shared, socket};
use crate::limits;
use crate::tcp::ListenerId;
use crate::tcp::messages::{Event, ListenOrder};

/// Between two tries after an error that repeats itself (no descriptors, no memory, the address
/// taken by another): doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);

pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) address: SocketAddr,
    pub(super) options: Arc<ListenOrder>,
    /// The places that it has here, whichever address it listens on.
    pub(super) door: Arc<Door>,
    pub(super) mode: watch::Receiver<Mode>,
    pub(super) shared: Arc<Shared>,
    pub(super) opening: Option<Opening>,
}

impl Listener {
    /// Listens until the mode is [`Mode::Closed`].
    pub(super) async fn run(mut self, socket: Option<TcpSocket>) {
        let Some(listener) = self.listen(socket).await else { return };
        self.opening = None;
        let mut retry = RETRY_FIRST;
        let (mut shut_out, mut filter) = (self.door.watch(), Filter::default());
        shut_out.mark_changed();
        loop {
            let mode = *self.mode.borrow_and_update();
            if mode == Mode::Closed {
                return;
            }
            tokio::select! {
                changed = self.mode.changed() => if changed.is_err() { return },
                Ok(()) = shut_out.changed() => {
                    let blocks = shut_out.borrow_and_update().clone();
                    if let Err(error) = filter.keep_out(&listener, blocks) {
                        self.shared.refusals.note_no_filter(&self.options.name, &error);
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        retry = RETRY_FIRST;
                        filter.let_in(&stream);
                        self.on_accepted(mode, stream, peer);
                        // The CoServer's loop is on this thread: a client that knocks all the time
                        // must not keep it from its turn.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => self.on_error(&error, &mut retry).await,
                },
            }
        }
    }

    /// The address was free when the CoServer started; should it be taken now, it is waited for.
    async fn listen(&mut self, mut first: Option<TcpSocket>) -> Option<TcpListener> {
        let (mut retry, mut said) = (RETRY_FIRST, Reminder::at_once(Instant::now()));
        loop {
            let bound = first.take().map_or_else(|| socket(self.address), Ok);
            match bound.and_then(|socket| socket.listen(limits::BACKLOG)) {
                Ok(listener) => return Some(listener),
                Err(error) => {
                    let exhausted = Exhaustion::of(&error);
                    exhausted.inspect(|what| what.note());
                    if said.is_due(Instant::now()) {
                        tracing::error!(
                            event = "cannot_listen",
                            listener = self.options.name,
                            address = %self.address,
                            %error,
                            why = exhausted.map(tracing::field::display),
                            "trying again"
                        );
                    }
                    wait(&mut retry).await;
                }
            }
            if *self.mode.borrow() == Mode::Closed {
                return None;
            }
        }
    }

    fn on_accepted(&self, mode: Mode, stream: TcpStream, peer: SocketAddr) {
        if mode != Mode::Serving {
            self.shared.refusals.count();
            return self.turn_away(stream);
        }
        let Some(descriptor) = self.shared.descriptors.try_take(Want::Accepted, 1) else {
            self.shared.refusals.note(RefusedBy::Descriptors);
            return self.turn_away(stream);
        };
        match self.door.admit(peer.ip(), Instant::now(), || self.shared.next_handle()) {
            Ok(seat) => self.serve(stream, peer, seat, descriptor),
            Err(why) => {
                self.shared.refusals.note(RefusedBy::Listener);
                if why == NoPlace::HasItsShare
                    && let Some(block) = self.door.refused(peer.ip(), Instant::now())
                {
                    self.shared.refusals.note_shut_out(block);
                }
                self.turn_away(stream);
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, seat: Seat, descriptor: Lease) {
        let _ = stream.set_nodelay(true);
        // A connection that was reset meanwhile has no address, and no half has heard of it yet.
        let Ok(local) = stream.local_addr() else { return };
        let handle = seat.handle;
        let Some(commands) = self.shared.conns.add(handle) else { return };
        let first = Event::Accepted { handle, listener: self.id, peer, local };
        let shared = Arc::clone(&self.shared);
        let windows = self.options.windows;
        let socket = Socket { stream, flow: Flow::of_peer(peer.ip()), descriptor };
        let mut conn = Conn::new(shared, handle, socket, windows, commands, &first);
        conn.farewell = self.options.refusal.clone();
        conn.seat = Some(seat);
        tokio::spawn(conn);
    }

    /// Says why, waits a little until the client has it, and closes. Closing at once would make
    /// the kernel send a reset if the client has sent something, and the text would be lost.
    ///
    /// While that lasts it takes a descriptor, too: one of those for connections, if enough are
    /// left for newcomers, or else one of a few that are kept for this.
    fn turn_away(&self, stream: TcpStream) {
        let shared = Arc::clone(&self.shared);
        let refusal = self.options.refusal.clone();
        if refusal.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let lease = || shared.descriptors.try_take(Want::Accepted, 1);
            let _kept = match shared.may_wait().and_then(|permit| Some((permit, lease()?))) {
                Some(kept) => (Some(kept), None),
                None => match shared.last_turned_away.try_acquire() {
                    Ok(last) => (None, Some(last)),
                    Err(_) => return,
                },
            };
            let _ = tokio::time::timeout(shared.linger, say_goodbye(stream, refusal)).await;
        });
    }

    /// An error of one connection is passed over; one of the system is waited out, so that it
    /// does not take a processor.
    async fn on_error(&self, error: &io::Error, retry: &mut Duration) {
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if of_one_connection {
            return;
        }
        let (listener, address) = (&self.options.name, self.address);
        if let Some(why) = Exhaustion::of(error) {
            why.note();
            tracing::warn!(event = "exhausted", listener, %address, %why, "cannot accept");
        } else {
            tracing::warn!(event = "cannot_accept", listener, %address, %error, "trying again");
        }
        wait(retry).await;
    }
}

async fn wait(retry: &mut Duration) {
    tokio::time::sleep(*retry).await;
    *retry = (*retry * 2).min(RETRY_LAST);
}

async fn say_goodbye(mut stream: TcpStream, refusal: Bytes) -> io::Result<()> {
    stream.write_all(&refusal).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
