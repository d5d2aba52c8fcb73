//! The trait of a service that uses redirected devices.

use core::time::Duration;

use bytes::Bytes;
use lockstep::ids::{DeviceId, Incarnation, ReplicaId, SessionId};
use lockstep::machine::{Freeze, Identity, RecordSource, RestoreError};
use lockstep::record;

use crate::io::Io;
use crate::requests::Request;
use crate::tcp::TcpEvent;
use crate::timers::{TimerId, Token};

/// A deterministic service: it is told what happens, one thing at a time, and acts through
/// [`Io`]. [`Wrapper`](crate::Wrapper) makes a state machine for the engine of it.
///
/// What a service must not do is listed at [`lockstep::machine`]. Each call is a transaction:
/// what it asks of [`Io`] takes effect when it returns.
pub trait Service: Send + 'static {
    /// A consistent view of the service's state, cheap to take;
    /// [`Snapshot`](crate::snapshot::Snapshot) will do for many.
    type Frozen: Freeze;

    /// What both CoServers must agree on before they run together. The wrapper adds the device
    /// table and the bounds of the devices.
    fn identity(&self) -> Identity;

    /// The first thing of all, once in a lineage: open listeners, set timers.
    fn on_start(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// A request of one of lockstep's own clients; returns the reply, at most
    /// [`REPLY_BYTES`](lockstep::limits::REPLY_BYTES).
    fn on_request(&mut self, io: &mut Io<'_>, request: Request<'_>) -> Bytes {
        let _ = (io, request);
        Bytes::new()
    }

    /// Whether a request changes nothing, by its bytes alone: see
    /// [`StateMachine::is_read_only`](lockstep::machine::StateMachine::is_read_only). By default
    /// nothing is.
    fn is_read_only(request: &[u8]) -> bool
    where
        Self: Sized,
    {
        let _ = request;
        false
    }

    /// A session was opened; its requests follow.
    fn on_session_opened(&mut self, io: &mut Io<'_>, session: SessionId) {
        let _ = (io, session);
    }

    /// A session ended: its client closed it, or it was idle for too long.
    fn on_session_ended(&mut self, io: &mut Io<'_>, session: SessionId) {
        let _ = (io, session);
    }

    /// A timer fired; it is no longer set.
    fn on_timer(&mut self, io: &mut Io<'_>, timer: TimerId, token: Token) {
        let _ = (io, timer, token);
    }

    /// Something happened on a TCP connection.
    fn on_tcp(&mut self, io: &mut Io<'_>, event: TcpEvent) {
        let _ = (io, event);
    }

    /// Something happened on a device of the user's own.
    fn on_device(&mut self, io: &mut Io<'_>, event: DeviceEvent<'_>) {
        let _ = (io, event);
    }

    /// The members or the sequencer changed: a process left, came, or took another one's place.
    /// Comes before what follows from it, such as connections that are lost.
    fn on_members(&mut self, io: &mut Io<'_>, members: Members) {
        let _ = (io, members);
    }

    /// No process ran for a while: every process had ended, and one was started again with
    /// everything that it had on disk. Or they stood still, or none could order after a timer was
    /// due, for more than [`GAP_LEAST`](lockstep::limits::GAP_LEAST). [`Io::now`] has gone on by
    /// `gap`, which is at least as long as no process ran; no timer has fired and nothing was said
    /// meanwhile. Comes before whatever the gap made late, and after processes had ended before the
    /// members do.
    ///
    /// Nothing outside could happen during the gap, so a service moves on by it what it grants to
    /// the outside. That is the age at which it gives something up, or the time it waits for an
    /// answer. What is due by the calendar stays. Timers of the gap fire once each, late. After
    /// processes had ended they fire when the devices stand again, and at the latest
    /// [`DEVICES_WAIT`](lockstep::limits::DEVICES_WAIT) after this, so that requests and events of
    /// devices may come in between. Otherwise they fire right after this. Connections that were
    /// there before are lost with the processes, and stay where those only stood still.
    fn on_resumed(&mut self, io: &mut Io<'_>, gap: Duration) {
        let _ = (io, gap);
    }

    /// The most bytes that its settings let its state take, and a view keep of what it gives up
    /// meanwhile; 0 where it cannot say: see
    /// [`StateMachine::memory_bound`](lockstep::machine::StateMachine::memory_bound). The wrapper
    /// adds what the windows of TCP connections hold.
    fn memory_bound(&self) -> u64 {
        0
    }

    /// Takes a view of the whole state; must not be slow.
    fn freeze(&self) -> Self::Frozen;

    /// Replaces the state by one that a frozen view has written. The devices' own state is
    /// restored by the wrapper.
    ///
    /// # Errors
    /// If the records are not a state of this service.
    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError>;
}

/// Something happened on a device of the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEvent<'a> {
    /// The device that brought the input.
    pub device: DeviceId,
    /// The CoServer on which the device is.
    pub place: ReplicaId,
    /// The input, in the device's own encoding.
    pub bytes: &'a Bytes,
}

/// Which processes run the service, before and after a change of members or sequencer.
///
/// The service itself goes on through every such change with its whole state. What does not is
/// whatever was tied to a process: its sockets, its files, what was said to a device there. A place
/// may also have a member before and after, yet another process. A CoServer may have been removed
/// and be back, or been started again with its disk after both had ended. So a service asks which
/// *processes* came and left, not which places are taken:
///
/// ```
/// use io_redirect::{Io, Members};
/// use lockstep::ids::ReplicaId;
///
/// fn on_members(io: &mut Io<'_>, members: Members) {
///     for place in ReplicaId::BOTH {
///         if members.left(place).is_some() {
///             // What only that process could still do is done no more: do it elsewhere, or count
///             // it as lost. Connections need nothing: each is reset by an event of its own.
///         }
///         if members.came(place).is_some() {
///             // A process that knows nothing: tell it again what it has to know.
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// The process that was a member at each place until now.
    pub before: record::Members,
    /// The process that is one from here on.
    pub now: record::Members,
    /// Who orders the inputs from here on.
    pub sequencer: ReplicaId,
}

impl Members {
    /// Whether the CoServer at this place is a member.
    pub fn has(&self, place: ReplicaId) -> bool {
        self.now.at(place).is_some()
    }

    /// The process at this place that is a member only now.
    pub fn came(&self, place: ReplicaId) -> Option<Incarnation> {
        self.now.at(place).filter(|process| !self.before.has(place, *process))
    }

    /// The process at this place that is no member any more. Nothing of it comes back: if the
    /// CoServer does, it is as another process.
    pub fn left(&self, place: ReplicaId) -> Option<Incarnation> {
        self.before.at(place).filter(|process| !self.now.has(place, *process))
    }
}
