//! Makes a state machine for the engine of a service with redirected devices.

use bytes::Bytes;
use lockstep::device::{DeviceTable, OutputClass, TableError};
use lockstep::digest::{Digest, Hasher};
use lockstep::ids::{DeviceId, Index, LogTime};
use lockstep::machine::{Context, Identity, RecordSource, RestoreError, StateMachine, Step};

use crate::io::{Inside, Io, Outbox};
use crate::limits;
use crate::random::ServiceRng;
use crate::requests::Request;
use crate::service::{DeviceEvent, Members, Service};
use crate::snapshot::{FrozenWrapper, restore};
use crate::tcp::{TcpEvent, TcpLimits, TcpLimitsError, TcpTable, messages};
use crate::timers::TimerTable;

/// The name of the TCP device in the table.
pub const TCP: &str = "tcp";

/// A service and the inside halves of its devices: what the engine runs.
#[derive(Debug)]
pub struct Wrapper<S> {
    service: S,
    inside: Inside,
}

/// Chooses a service's devices. The order of devices is part of what the CoServers must agree on.
#[derive(Debug)]
pub struct Builder<S> {
    service: S,
    devices: DeviceTable,
    tcp: Option<(DeviceId, TcpLimits)>,
}

/// The devices cannot be had so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A device cannot be in the table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A bound of the TCP device is out of range.
    #[error(transparent)]
    Tcp(#[from] TcpLimitsError),
}

impl<S: Service> Builder<S> {
    /// Adds the TCP device.
    ///
    /// # Errors
    /// If it is there already, or a bound is out of range.
    pub fn tcp(mut self, limits: TcpLimits) -> Result<Self, BuildError> {
        limits.check()?;
        let id = self.devices.add(TCP, OutputClass::CarrierBound)?;
        self.tcp = Some((id, limits));
        Ok(self)
    }

    /// Adds a device of the user's own; its id is the number of devices added before.
    ///
    /// # Errors
    /// If the name is taken or cannot be one.
    pub fn device(mut self, name: &str, outputs: OutputClass) -> Result<Self, BuildError> {
        self.devices.add(name, outputs)?;
        Ok(self)
    }

    /// The state machine.
    pub fn build(self) -> Wrapper<S> {
        let Self { service, devices, tcp } = self;
        let (device, tcp_limits) = match tcp {
            Some((id, tcp_limits)) => (Some(id), tcp_limits),
            None => (None, TcpLimits::default()),
        };
        let inside = Inside {
            timers: TimerTable::default(),
            rng: ServiceRng::from_seed([0; 32]),
            tcp: TcpTable::new(device, tcp_limits),
            devices,
            outbox: Outbox::default(),
        };
        Wrapper { service, inside }
    }
}

impl<S: Service> Wrapper<S> {
    /// Begins to choose the service's devices.
    pub fn builder(service: S) -> Builder<S> {
        Builder { service, devices: DeviceTable::new(), tcp: None }
    }

    /// A service with the TCP device and no other.
    ///
    /// # Errors
    /// If a bound is out of range.
    pub fn with_tcp(service: S, limits: TcpLimits) -> Result<Self, BuildError> {
        Ok(Self::builder(service).tcp(limits)?.build())
    }

    /// The devices, for a program that starts their outside halves.
    pub fn devices(&self) -> &DeviceTable {
        &self.inside.devices
    }

    /// The service itself, to look at.
    pub fn service(&self) -> &S {
        &self.service
    }

    #[cfg(test)]
    pub(crate) fn inside(&self) -> &Inside {
        &self.inside
    }

    /// Runs one step; its outputs are in the outbox afterwards.
    pub(crate) fn run(&mut self, index: Index, now: LogTime, step: Step<'_>) -> Bytes {
        let Self { service, inside } = self;
        match step {
            Step::Request { session, number, body } => {
                let io = &mut Io { now, index, inside };
                return service.on_request(io, Request { session, number, body });
            }
            Step::Start { seed } => {
                inside.rng = ServiceRng::from_seed(*seed);
                service.on_start(&mut Io { now, index, inside });
            }
            Step::Wake => self.on_wake(index, now),
            Step::Resumed { gap } => service.on_resumed(&mut Io { now, index, inside }, gap),
            Step::SessionOpened { session } => {
                service.on_session_opened(&mut Io { now, index, inside }, session);
            }
            Step::SessionEnded { session } => {
                service.on_session_ended(&mut Io { now, index, inside }, session);
            }
            Step::Device { device, place, bytes } if inside.tcp.device == Some(device) => {
                let events = inside.tcp.on_report(place, index, bytes, &mut inside.outbox);
                for event in events.into_iter().flatten() {
                    service.on_tcp(&mut Io { now, index, inside }, event);
                }
            }
            Step::Device { device, place, bytes } => {
                if inside.devices.get(device).is_some() {
                    let event = DeviceEvent { device, place, bytes };
                    service.on_device(&mut Io { now, index, inside }, event);
                }
            }
            Step::Members { members: processes, sequencer } => {
                let members = Members { before: inside.tcp.members(), now: processes, sequencer };
                inside.tcp.on_members(processes, sequencer, &mut inside.outbox);
                service.on_members(&mut Io { now, index, inside }, members);
                self.tell_lost(index, now);
            }
        }
        Bytes::new()
    }

    /// What is due: first what was left of lost connections, then one timer.
    fn on_wake(&mut self, index: Index, now: LogTime) {
        if self.inside.tcp.has_lost() {
            self.tell_lost(index, now);
        } else if let Some((timer, token)) = self.inside.timers.take_due(now) {
            let io = &mut Io { now, index, inside: &mut self.inside };
            self.service.on_timer(io, timer, token);
        }
    }

    fn tell_lost(&mut self, index: Index, now: LogTime) {
        for _ in 0..limits::LOST_PER_STEP {
            let Some(event) = self.inside.tcp.take_lost() else { return };
            let event: TcpEvent = event;
            self.service.on_tcp(&mut Io { now, index, inside: &mut self.inside }, event);
        }
    }

    /// When the engine is to wake the service next. A time that has come means right after
    /// this step.
    pub(crate) fn next_wakeup(&self, now: LogTime) -> Option<LogTime> {
        if self.inside.tcp.has_lost() { Some(now) } else { self.inside.timers.next_deadline() }
    }

    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.inside.outbox
    }

    fn configuration(&self, service: Digest) -> Digest {
        let TcpLimits { connections, read_window, send_window, connect_timeout } =
            self.inside.tcp.limits;
        let timeout = u64::try_from(connect_timeout.as_nanos()).unwrap_or(u64::MAX);
        Hasher::after(service)
            .bytes(&self.inside.devices.digest().0)
            .number(messages::VERSION.into())
            .number(connections.into())
            .number(read_window.into())
            .number(send_window.into())
            .number(timeout)
            .finish()
    }
}

impl<S: Service> StateMachine for Wrapper<S> {
    type Frozen = FrozenWrapper<S::Frozen>;

    fn identity(&self) -> Identity {
        let identity = self.service.identity();
        let configuration = self.configuration(identity.configuration);
        Identity { configuration, ..identity }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let now = context.now();
        let reply = self.run(context.index(), now, step);
        for output in self.inside.outbox.drain() {
            context.send(output.device, output.carrier, output.bytes);
        }
        context.set_wakeup(self.next_wakeup(now));
        reply
    }

    fn is_read_only(request: &[u8]) -> bool {
        S::is_read_only(request)
    }

    fn memory_bound(&self) -> u64 {
        let TcpLimits { connections, read_window, send_window, .. } = self.inside.tcp.limits;
        let windows = u64::from(read_window) + u64::from(send_window);
        self.service.memory_bound().saturating_add(u64::from(connections) * windows)
    }

    fn freeze(&self) -> Self::Frozen {
        FrozenWrapper::new(&self.inside, self.service.freeze())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        restore(&mut self.inside, records)?;
        self.service.restore(records)
    }
}
