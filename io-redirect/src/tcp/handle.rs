//! What a service does with connections.

use core::time::Duration;

use bytes::{Buf, Bytes};
use lockstep::ids::ReplicaId;

use super::inside::TcpTable;
use super::messages::{Command, Handle, ListenOrder};
use super::table::{Conn, Phase};
use super::{ConnId, ConnectError, ListenError, ListenOptions, ListenerId, SendError, Target};
use crate::io::Outbox;
use crate::limits;

/// Listeners and connections; from [`Io::tcp`](crate::Io::tcp).
#[derive(Debug)]
pub struct Tcp<'a> {
    pub(crate) table: &'a mut TcpTable,
    pub(crate) outbox: &'a mut Outbox,
}

impl Tcp<'_> {
    /// Opens a listener on both CoServers: each accepts on the addresses that its own
    /// configuration gives for this name, on none if it gives none.
    ///
    /// # Errors
    /// If there is one of that name, or a bound is reached.
    pub fn listen(
        &mut self,
        name: &str,
        options: ListenOptions,
    ) -> Result<ListenerId, ListenError> {
        if self.table.device.is_none() {
            return Err(ListenError::NoDevice);
        }
        if name.is_empty() || name.len() > limits::LISTENER_NAME_BYTES {
            return Err(ListenError::Name);
        }
        if options.refusal.len() > limits::REFUSAL_BYTES {
            return Err(ListenError::Refusal);
        }
        let order = ListenOrder {
            name: name.into(),
            refusal: options.refusal,
            connections: options.connections.unwrap_or(limits::LISTENER_CONNECTIONS),
            windows: self.table.limits.windows(),
        };
        self.table.listen(order, self.outbox)
    }

    /// Closes a listener; connections that it accepted stay. Says whether there was one.
    pub fn unlisten(&mut self, listener: ListenerId) -> bool {
        self.table.unlisten(listener, self.outbox)
    }

    /// Makes a connection from the CoServer that is the sequencer now, or, should that go before it
    /// is made, from the one that is then. [`TcpEvent::Connected`](super::TcpEvent::Connected) or
    /// [`TcpEvent::ConnectFailed`](super::TcpEvent::ConnectFailed) follows. It comes within
    /// [`TcpLimits::connect_timeout`](super::TcpLimits::connect_timeout) for the name, if it is
    /// one, and the same for the connection.
    ///
    /// # Errors
    /// If the bound on connections is reached or the name cannot be one.
    pub fn connect(&mut self, target: impl Into<Target>) -> Result<ConnId, ConnectError> {
        self.table.connect(target.into(), None, None, self.outbox)
    }

    /// The same, with a time limit of its own (in whole milliseconds) and from a chosen
    /// CoServer and no other.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and if the chosen CoServer is not a member.
    pub fn connect_with(
        &mut self,
        target: impl Into<Target>,
        timeout: Duration,
        from: Option<ReplicaId>,
    ) -> Result<ConnId, ConnectError> {
        self.table.connect(target.into(), Some(timeout), from, self.outbox)
    }

    /// Sends all of `bytes` or nothing, at most half of the window at once (of more it could not
    /// be said when there is room: see [`send_prefix`](Self::send_prefix)). Copies them; what one
    /// step sends on a connection without doing something else in between leaves as one output.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) -> Result<(), SendError> {
        let window = self.table.limits.send_window as usize;
        let row = self.sendable(conn)?;
        if bytes.len() > window / 2 {
            return Err(SendError::TooLong { limit: window / 2 });
        }
        let room = window.saturating_sub(row.unwritten as usize);
        if bytes.len() > room {
            row.wants_room = true;
            return Err(SendError::Full { room });
        }
        self.push(conn, bytes);
        Ok(())
    }

    /// Sends as much of `bytes` as fits and advances it; says how much that was. If something
    /// is left, [`TcpEvent::Writable`](super::TcpEvent::Writable) follows.
    ///
    /// # Errors
    /// If the connection takes nothing at all, ever.
    pub fn send_prefix(&mut self, conn: ConnId, bytes: &mut Bytes) -> Result<usize, SendError> {
        let window = self.table.limits.send_window as usize;
        let row = self.sendable(conn)?;
        let fits = window.saturating_sub(row.unwritten as usize).min(bytes.len());
        row.wants_room |= fits < bytes.len();
        self.push(conn, &bytes[..fits]);
        bytes.advance(fits);
        Ok(fits)
    }

    /// How many bytes [`send_prefix`](Self::send_prefix) would take now; 0 for a connection that
    /// is over.
    pub fn room(&self, conn: ConnId) -> usize {
        let window = self.table.limits.send_window;
        self.table
            .open(conn)
            .filter(|row| !row.write_closed && row.phase == Phase::Open)
            .map_or(0, |row| window.saturating_sub(row.unwritten) as usize)
    }

    /// Closes the own direction, after everything sent. The far end may go on sending; when it
    /// closes too, [`TcpEvent::Ended`](super::TcpEvent::Ended) follows.
    pub fn shutdown(&mut self, conn: ConnId) {
        let Ok(row) = self.sendable(conn) else { return };
        row.write_closed = true;
        let (place, handle) = (row.place, row.handle);
        self.order(place, &Command::Shutdown { handle });
    }

    /// Is done with the connection: what was sent still goes out, what comes is thrown away.
    /// Nothing more is heard of it. A far end that does not take what was sent is waited for
    /// only as long as the CoServer's configuration says.
    pub fn close(&mut self, conn: ConnId) {
        self.let_go(conn, |handle| Command::Close { handle });
    }

    /// Breaks the connection off at once; the far end sees a reset. Nothing more is heard of it.
    pub fn reset(&mut self, conn: ConnId) {
        self.let_go(conn, |handle| Command::Reset { handle });
    }

    /// From now on bytes of this connection count as taken only when
    /// [`consume`](Self::consume) says so: for a service that cannot keep what it is given.
    /// At most [`TcpLimits::read_window`](super::TcpLimits::read_window) bytes come before.
    pub fn hold(&mut self, conn: ConnId) {
        if let Some(row) = self.table.open_mut(conn) {
            row.held = Some(row.held.unwrap_or(0));
        }
    }

    /// This many of the bytes held are taken; more than are held count as all of them.
    pub fn consume(&mut self, conn: ConnId, bytes: usize) {
        let Some(row) = self.table.open_mut(conn) else { return };
        let Some(held) = &mut row.held else { return };
        let taken = bytes.min(*held as usize);
        *held -= u32::try_from(taken).unwrap_or(*held);
        row.grant(taken);
        self.table.flush_grant(conn, self.outbox);
    }

    /// All that is held is taken, and from now on bytes count as taken when they are delivered.
    pub fn unhold(&mut self, conn: ConnId) {
        let Some(row) = self.table.open_mut(conn) else { return };
        if let Some(held) = row.held.take() {
            row.grant(held as usize);
            self.table.flush_grant(conn, self.outbox);
        }
    }

    /// From now on this connection gives way to no other while it is open, and belongs to no
    /// address's share. It counts towards the bounds as before. For a client of one's own, or one
    /// that has shown who it is. For a connection that the service made there is nothing to do.
    pub fn protect(&mut self, conn: ConnId) {
        if let Some((place, handle)) = self.table.protect(conn) {
            self.order(Some(place), &Command::Protect { handle });
        }
    }

    /// Whether the connection is made and not over.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.table.open(conn).is_some_and(|row| row.phase == Phase::Open)
    }

    /// The CoServer that carries it.
    pub fn place(&self, conn: ConnId) -> Option<ReplicaId> {
        self.table.open(conn).and_then(|row| row.place)
    }

    /// How many connections count towards the bound: also those that are being made, and those
    /// let go whose end the CoServer has not reported. Connections that a CoServer took with it
    /// do not count.
    pub fn connections(&self) -> usize {
        self.table.live()
    }

    fn sendable(&mut self, conn: ConnId) -> Result<&mut Conn, SendError> {
        let row = self.table.open_mut(conn).ok_or(SendError::Gone)?;
        match row.phase {
            Phase::Connecting => Err(SendError::NotConnected),
            Phase::Open if row.write_closed => Err(SendError::Closed),
            Phase::Open => Ok(row),
            Phase::Released | Phase::Lost { .. } => Err(SendError::Gone),
        }
    }

    fn push(&mut self, conn: ConnId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(device) = self.table.device else { return };
        let Some(row) = self.table.open_mut(conn) else { return };
        let Some(place) = row.place else { return };
        row.unwritten = row.unwritten.saturating_add(u32::try_from(bytes.len()).unwrap_or(0));
        self.outbox.append(device, place, row.handle, bytes);
    }

    fn let_go(&mut self, conn: ConnId, order: impl FnOnce(Handle) -> Command) {
        if let Some((place, handle)) = self.table.let_go(conn) {
            self.order(Some(place), &order(handle));
        }
    }

    fn order(&mut self, place: Option<ReplicaId>, order: &Command) {
        self.table.order(place, order, self.outbox);
    }
}
