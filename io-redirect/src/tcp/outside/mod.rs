//! The outside half: the kernel's sockets, on tokio.
//!
//! There is one task for each listen address, and one for each connection. A task says and hears
//! things in the order in which they happened on its connection; between connections there is no
//! order. Memory is bounded by the windows that the inside half keeps. A task holds at most one
//! chunk that the engine has not taken, and what the inside half has sent and not seen written.

use core::time::Duration;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep::device::{
    Descriptors, Device, Inputs, Outside, Released, Setup, Standing, StartError,
};
use lockstep::ids::Incarnation;
use tokio::net::TcpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::ListenerId;
use super::messages::{Command, Event, Handle, ListenOrder, Room};
use crate::limits;
use crate::wrapper::TCP;

mod conn;
mod dial;
mod door;
mod filter;
mod listener;
mod refusals;

use door::Door;
use refusals::{Refusals, RefusedBy};

/// What a CoServer's own configuration says about the TCP device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// The addresses on which this CoServer accepts, by the service's names for its listeners.
    pub listen: BTreeMap<String, Vec<SocketAddr>>,
    /// How long a far end is waited for after the service, or the CoServer, is done with it:
    /// to take what was still sent to it. Also how long clients are still turned away with a
    /// text after the CoServer has left the pair.
    pub linger: Duration,
    /// The connections that the service allows, [`TcpLimits::connections`](super::TcpLimits): for
    /// each one that may be there this CoServer needs a file descriptor, and says at its start
    /// if it has too few.
    pub connections: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            listen: BTreeMap::new(),
            linger: Duration::from_secs(5),
            connections: limits::CONNECTIONS,
        }
    }
}

/// A listener cannot be bound to its address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the address.
    #[error(
        "{address} (listener `{listener}`) is in use: stop what listens there, or configure \
         another address"
    )]
    InUse {
        /// The listener's name.
        listener: String,
        /// The address that is in use.
        address: SocketAddr,
    },
    /// This machine does not have the address.
    #[error(
        "{address} (listener `{listener}`) is not an address of this machine: configure one \
         that is, or 0.0.0.0"
    )]
    NotOurs {
        /// The listener's name.
        listener: String,
        /// The address that this machine does not have.
        address: SocketAddr,
    },
    /// The process may not listen on the address.
    #[error(
        "{address} (listener `{listener}`) is not permitted: use a port from 1024 on, or give \
         the process CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The listener's name.
        listener: String,
        /// The address that is not permitted.
        address: SocketAddr,
    },
    /// The system refuses the address for another reason.
    #[error("{address} (listener `{listener}`) cannot be bound")]
    Other {
        /// The listener's name.
        listener: String,
        /// The address that cannot be bound.
        address: SocketAddr,
        /// What the system reported.
        #[source]
        source: io::Error,
    },
}

/// The outside half, configured, its addresses taken; it listens once the service wants to and
/// the CoServer serves.
///
/// A program makes it in `Application::build` and hands it over, boxed, in `Devices::outsides`,
/// at the position that [`TCP`] has in the wrapper's table. The names in
/// [`TcpOptions::listen`] are those that the service gives to [`Tcp::listen`](super::Tcp::listen);
/// a listener without addresses here accepts nothing on this CoServer. The whole wiring is an
/// example at the [head of this crate](crate#from-a-service-to-a-program).
#[derive(Debug)]
pub struct TcpOutside {
    linger: Duration,
    connections: u32,
    bound: BTreeMap<String, Vec<Bound>>,
}

#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    /// Used up by the first `listen`.
    socket: Option<TcpSocket>,
}

impl TcpOutside {
    /// Takes the listen addresses, so that one that cannot be had is known at the start.
    ///
    /// # Errors
    /// Which address cannot be had, and what to do about it.
    pub fn bind(options: TcpOptions) -> Result<Self, BindError> {
        let mut bound = BTreeMap::new();
        for (name, addresses) in options.listen {
            let sockets: Result<Vec<Bound>, BindError> =
                addresses.into_iter().map(|address| bind(&name, address)).collect();
            bound.insert(name, sockets?);
        }
        Ok(Self { linger: options.linger, connections: options.connections, bound })
    }

    /// The addresses of a listener, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self, listener: &str) -> Vec<SocketAddr> {
        let bound = self.bound.get(listener);
        bound.into_iter().flatten().map(|bound| bound.address).collect()
    }
}

fn bind(listener: &str, address: SocketAddr) -> Result<Bound, BindError> {
    let taken = socket(address).and_then(|socket| {
        let address = socket.local_addr()?;
        Ok(Bound { address, socket: Some(socket) })
    });
    taken.map_err(|source| {
        let listener = listener.into();
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { listener, address },
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs { listener, address },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { listener, address },
            _ => BindError::Other { listener, address, source },
        }
    })
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted CoServer must not wait for old connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Outside for TcpOutside {
    fn start(self: Box<Self>, setup: Setup) -> Result<Box<dyn Device>, StartError> {
        if let Err(error) = tokio::runtime::Handle::try_current() {
            return Err(StartError { device: TCP.into(), cause: Box::new(error) });
        }
        let (mode, _) = watch::channel(Mode::Refusing);
        let descriptors = setup.descriptors;
        let spare = (descriptors.for_accepted() / SPARE_SHARE).min(limits::NEWCOMERS as u32);
        let accepted = descriptors.for_accepted() - spare;
        let room = Room { total: descriptors.total(), accepted };
        let room = (accepted < self.connections).then_some(room);
        let shared = Shared {
            process: setup.incarnation,
            refusals: Refusals::default(),
            descriptors,
            lookups: Arc::new(Semaphore::new(limits::LOOKUPS)),
            last_turned_away: Semaphore::new(limits::TURNED_AWAY_LAST),
            accepted: AtomicU64::new(0),
            inputs: setup.inputs,
            conns: Conns::default(),
            linger: self.linger,
            turning_away: Arc::new(Semaphore::new(limits::TURNED_AWAY)),
            accepts: accepted,
            spare,
            opening: AtomicUsize::new(0),
        };
        Ok(Box::new(Running {
            shared: Arc::new(shared),
            bound: self.bound,
            listeners: BTreeMap::new(),
            mode,
            closing: None,
            room,
        }))
    }

    fn connections(&self) -> u32 {
        self.connections.saturating_add(limits::NEWCOMERS as u32)
    }
}

/// What listeners do with those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serving,
    /// Each gets the listener's text, and is let go.
    Refusing,
    /// The listener does not listen any more.
    Closed,
}

/// What all tasks share.
struct Shared {
    process: Incarnation,
    accepted: AtomicU64,
    inputs: Inputs,
    conns: Conns,
    linger: Duration,
    turning_away: Arc<Semaphore>,
    /// For so many connections of clients there are descriptors, beside those of newcomers.
    accepts: u32,
    /// How many descriptors clients that are turned away leave for newcomers.
    spare: u32,
    /// How many addresses the service wants to listen on where no listener is open yet.
    opening: AtomicUsize,
    /// A descriptor is taken for each connection before it is made or served.
    descriptors: Descriptors,
    refusals: Refusals,
    lookups: Arc<Semaphore>,
    /// For telling some of those who are turned away for want of descriptors.
    last_turned_away: Semaphore,
}

impl Shared {
    fn next_handle(&self) -> Handle {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        Handle::accepted(self.process, number)
    }

    /// Lets one that is turned away stay until it has its text, unless too many do, or newcomers
    /// need their descriptors.
    fn may_wait(&self) -> Option<OwnedSemaphorePermit> {
        let left = self.descriptors.for_accepted().saturating_sub(self.descriptors.taken());
        let permit = || Arc::clone(&self.turning_away).try_acquire_owned().ok();
        if left > self.spare { permit() } else { None }
    }
}

/// An address that is to be listened on, until it is or is not wanted any more.
struct Opening(Arc<Shared>);

impl Opening {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.opening.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection's task is told.
#[derive(Debug)]
enum ConnectionCommand {
    Send(Bytes),
    Shutdown,
    Close,
    Reset,
    Credit(u32),
    /// There are too many connections: say so and let go.
    TurnAway,
    /// The same of one that was served and gives way to another.
    Displace,
    /// The connection belongs to no address's share any more.
    Protect,
    /// The CoServer has left the pair: say so and go.
    Farewell,
}

/// Where to reach each connection's task. The channel is unbounded because the inside half
/// bounds what it sends ahead.
#[derive(Default)]
#[expect(clippy::disallowed_types, reason = "shared between the tasks of an outside half")]
struct Conns(Mutex<BTreeMap<Handle, mpsc::UnboundedSender<ConnectionCommand>>>);

impl Conns {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Handle, mpsc::UnboundedSender<ConnectionCommand>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if there is one of that name: an order that came twice changes nothing.
    fn add(&self, handle: Handle) -> Option<mpsc::UnboundedReceiver<ConnectionCommand>> {
        match self.lock().entry(handle) {
            Entry::Vacant(vacant) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                vacant.insert(sender);
                Some(receiver)
            }
            Entry::Occupied(_) => None,
        }
    }

    fn remove(&self, handle: Handle) {
        self.lock().remove(&handle);
    }

    /// A connection that has just ended is not there; its end is on its way to the inside half.
    fn tell(&self, handle: Handle, command: ConnectionCommand) {
        if let Some(task) = self.lock().get(&handle) {
            let _ = task.send(command);
        }
    }
}

/// Of this many descriptors for clients, one at most is kept for newcomers.
const SPARE_SHARE: u32 = 8;

/// The outside half, running.
struct Running {
    shared: Arc<Shared>,
    bound: BTreeMap<String, Vec<Bound>>,
    listeners: BTreeMap<ListenerId, Vec<JoinHandle<()>>>,
    mode: watch::Sender<Mode>,
    closing: Option<JoinHandle<()>>,
    /// What the inside half is to be told, if the bounds allow more.
    room: Option<Room>,
}

impl Device for Running {
    fn release(&mut self, released: Released) {
        match Command::decode(&released.bytes) {
            Ok(order) if order.process() == self.shared.process => self.on_order(order),
            // After a restart the engine may release again what the process before this one may
            // have released already. What that one carried is over, and the inside half knows it.
            Ok(order) => tracing::debug!(
                index = released.index.0,
                process = %order.process(),
                "an output for another process of this CoServer is passed over"
            ),
            Err(_) => tracing::error!(
                event = "order_unknown",
                index = released.index.0,
                "an output for the TCP device makes no sense here and is dropped: do both \
                 CoServers run this version?"
            ),
        }
    }

    fn standing(&mut self, standing: Standing) {
        match standing {
            Standing::Serving { .. } => self.set_mode(Mode::Serving),
            Standing::Starting | Standing::Joining | Standing::Holding => {
                self.set_mode(Mode::Refusing);
            }
            Standing::Out => self.on_out(),
        }
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let Shared { accepted, refusals, conns, .. } = &*self.shared;
        vec![
            ("connections", conns.lock().len() as u64),
            ("accepted", accepted.load(Ordering::Relaxed)),
            ("refused", refusals.in_all()),
            ("displaced", refusals.displaced()),
            ("shut_out", refusals.shut_out()),
        ]
    }

    fn stands(&self) -> bool {
        self.shared.opening.load(Ordering::Relaxed) == 0
    }

    fn stop(&mut self) {
        self.set_mode(Mode::Closed);
        self.listeners.values().flatten().for_each(JoinHandle::abort);
        self.listeners.clear();
        self.closing.take().inspect(JoinHandle::abort);
        // The tasks end when no command can reach them any more.
        self.shared.conns.lock().clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// The inside half listens to the processes of members only, and so is told as soon as it
    /// says something to this one.
    fn tell_room(&mut self) {
        let Some(room) = self.room.take() else { return };
        let report = Event::Room { handle: Handle::of_process(self.shared.process), room };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.inputs.push(report.encode()).await });
    }

    fn on_order(&mut self, order: Command) {
        self.tell_room();
        let conns = &self.shared.conns;
        match order {
            Command::Listen { listener, options, .. } => self.on_listen(listener, options),
            Command::Unlisten { listener, .. } => {
                let tasks = self.listeners.remove(&listener);
                tasks.into_iter().flatten().for_each(|task| task.abort());
            }
            Command::Connect { handle, target, timeout_ms, windows } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                let Some(commands) = conns.add(handle) else { return };
                let shared = Arc::clone(&self.shared);
                tokio::spawn(dial::run(shared, handle, target, timeout, windows, commands));
            }
            Command::Send { handle, bytes } => conns.tell(handle, ConnectionCommand::Send(bytes)),
            Command::Shutdown { handle } => conns.tell(handle, ConnectionCommand::Shutdown),
            Command::Close { handle } => conns.tell(handle, ConnectionCommand::Close),
            Command::Reset { handle } => conns.tell(handle, ConnectionCommand::Reset),
            Command::Credit { handle, bytes } => {
                conns.tell(handle, ConnectionCommand::Credit(bytes))
            }
            Command::Refuse { handle } => {
                self.shared.refusals.note(RefusedBy::Pair);
                conns.tell(handle, ConnectionCommand::TurnAway);
            }
            Command::Displace { handle } => conns.tell(handle, ConnectionCommand::Displace),
            Command::Protect { handle } => conns.tell(handle, ConnectionCommand::Protect),
        }
    }

    fn on_listen(&mut self, listener: ListenerId, options: ListenOrder) {
        if self.listeners.contains_key(&listener) {
            return;
        }
        let Some(bound) = self.bound.get_mut(&options.name) else {
            tracing::warn!(
                event = "listener_unknown",
                listener = options.name,
                "the service listens under a name for which no address is configured here"
            );
            return;
        };
        let options = Arc::new(options);
        let door = Arc::new(Door::new(options.connections.min(self.shared.accepts)));
        let tasks = bound
            .iter_mut()
            .map(|bound| {
                let task = listener::Listener {
                    id: listener,
                    address: bound.address,
                    options: Arc::clone(&options),
                    door: Arc::clone(&door),
                    mode: self.mode.subscribe(),
                    shared: Arc::clone(&self.shared),
                    opening: Some(Opening::new(&self.shared)),
                };
                tokio::spawn(task.run(bound.socket.take()))
            })
            .collect();
        self.listeners.insert(listener, tasks);
    }

    fn set_mode(&mut self, mode: Mode) {
        self.mode.send_if_modified(|now| core::mem::replace(now, mode) != mode);
    }

    /// The CoServer is no member any more. All clients are told, newcomers for a while, then the
    /// door is shut.
    fn on_out(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.set_mode(Mode::Refusing);
        for task in self.shared.conns.lock().values() {
            let _ = task.send(ConnectionCommand::Farewell);
        }
        let (mode, linger) = (self.mode.clone(), self.shared.linger);
        self.closing = Some(tokio::spawn(async move {
            tokio::time::sleep(linger).await;
            mode.send_replace(Mode::Closed);
        }));
    }
}

#[cfg(test)]
mod tests;
