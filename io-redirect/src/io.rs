//! What a service does things with: time, timers, random numbers, connections, devices.

use bytes::{Bytes, BytesMut};
use lockstep::device::DeviceTable;
use lockstep::ids::{DeviceId, Index, LogTime, ReplicaId};
use lockstep::output::Carrier;

use crate::random::ServiceRng;
use crate::tcp::messages::{self, Handle, SEND_HEADER};
use crate::tcp::{Tcp, TcpTable};
use crate::timers::{TimerTable, Timers};

/// The inside halves of all devices.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) timers: TimerTable,
    pub(crate) rng: ServiceRng,
    pub(crate) tcp: TcpTable,
    pub(crate) devices: DeviceTable,
    pub(crate) outbox: Outbox,
}

/// The outside, as far as a service may know it. Lent to it for the time of one event.
#[derive(Debug)]
pub struct Io<'a> {
    pub(crate) now: LogTime,
    pub(crate) index: Index,
    pub(crate) inside: &'a mut Inside,
}

impl Io<'_> {
    /// Log time: the same on both CoServers, close to the wall clock. It never goes back; two
    /// events may share it. It goes on while no process runs: [`Service::on_resumed`] tells how
    /// long that was.
    ///
    /// [`Service::on_resumed`]: crate::Service::on_resumed
    pub fn now(&self) -> LogTime {
        self.now
    }

    /// The log entry that is being executed. Inputs that were ordered together share it.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Sets and cancels timers.
    pub fn timers(&mut self) -> Timers<'_> {
        Timers { table: &mut self.inside.timers, now: self.now }
    }

    /// The service's random numbers, the same on both CoServers.
    pub fn rng(&mut self) -> &mut ServiceRng {
        &mut self.inside.rng
    }

    /// The service's listeners and connections.
    pub fn tcp(&mut self) -> Tcp<'_> {
        Tcp { table: &mut self.inside.tcp, outbox: &mut self.inside.outbox }
    }

    /// A device of the user's own, by its place in the table that the wrapper was built with.
    ///
    /// # Errors
    /// If there is none, or it is one that has an interface of its own here.
    pub fn device(&mut self, id: DeviceId) -> Result<DevicePort<'_>, UnknownDevice> {
        let own = self.inside.tcp.device == Some(id);
        if own || self.inside.devices.get(id).is_none() {
            return Err(UnknownDevice(id));
        }
        Ok(DevicePort { id, outbox: &mut self.inside.outbox })
    }
}

/// There is no such device for a service to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("device {0} is not one of the service's own: add it when the wrapper is built")]
pub struct UnknownDevice(pub DeviceId);

/// The way to a device of the user's own.
#[derive(Debug)]
pub struct DevicePort<'a> {
    id: DeviceId,
    outbox: &'a mut Outbox,
}

impl DevicePort<'_> {
    /// Asks for something to be done, once both CoServers have computed that it should be.
    pub fn send(&mut self, carrier: Carrier, bytes: impl Into<Bytes>) {
        self.outbox.push(self.id, carrier, bytes.into());
    }
}

/// The outputs of one step, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    staged: Vec<Staged>,
    /// The connection whose bytes are being gathered in `buffer`.
    gathering: Option<(DeviceId, ReplicaId, Handle)>,
    buffer: BytesMut,
}

/// An output of the current step, not yet handed to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) device: DeviceId,
    pub(crate) carrier: Carrier,
    pub(crate) bytes: Bytes,
}

/// The buffer in which bytes are gathered is reserved in pieces of this size, from which several
/// outputs are cut without another allocation.
const GATHER_BYTES: usize = 8 << 10;

impl Outbox {
    pub(crate) fn push(&mut self, device: DeviceId, carrier: Carrier, bytes: Bytes) {
        self.seal();
        self.staged.push(Staged { device, carrier, bytes });
    }

    /// Sends on a connection: bytes for one connection in a row become one output.
    pub(crate) fn append(
        &mut self,
        device: DeviceId,
        place: ReplicaId,
        handle: Handle,
        bytes: &[u8],
    ) {
        let target = Some((device, place, handle));
        if self.gathering != target {
            self.seal();
            self.reserve(SEND_HEADER + bytes.len());
            messages::put_send_header(&mut self.buffer, handle);
            self.gathering = target;
        } else {
            self.reserve(bytes.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn reserve(&mut self, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() < bytes {
            self.buffer.reserve(bytes.max(GATHER_BYTES));
        }
    }

    fn seal(&mut self) {
        if let Some((device, place, _)) = self.gathering.take() {
            let bytes = self.buffer.split().freeze();
            self.staged.push(Staged { device, carrier: Carrier::Replica(place), bytes });
        }
    }

    /// Takes all outputs out, in order.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, Staged> {
        self.seal();
        self.staged.drain(..)
    }
}
