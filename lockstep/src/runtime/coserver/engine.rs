//! The loop: one task that waits for everything, feeds the replica, and does what it says.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use super::connections::Connections;
use super::echoes::{Echo, Marking};
use super::executor::{Executor, Outgoing, Step};
use super::handle::{Handle, Handled, Request};
use super::intake::DeviceInputs;
use super::metrics::Metrics;
use super::persistence::Recovery;
use crate::device::{Descriptors, Device, Released};
use crate::entry::{Entry, EntryKind};
use crate::event::Event;
use crate::event::StopCause;
use crate::ids::{DeviceId, MonotonicTime, ReplicaId};
use crate::limits;
use crate::machine::StateMachine;
use crate::output::OutputKind;
use crate::proto::{Command, Input, Output, Replica, Standing};
use crate::runtime::clock::Clock;
use crate::runtime::link::Event as NetworkEvent;
use crate::runtime::memory::Memory;
use crate::runtime::storage::{Answer, Storage};
use crate::store::replica::Durability;
use crate::sync::Watermark;

/// Inputs taken in one round before anything is done about them: enough to share a frame.
const ROUND: usize = 256;

/// Inputs executed in one round.
const EXECUTIONS: usize = 1024;

/// No input is taken in a round after this long, and no execution begins after as long again: a few
/// of them fit between two heartbeats.
const EXECUTION_BUDGET: Duration = Duration::from_millis(2);

/// After a round of this length the sockets are looked at before the next one begins. The runtime
/// does so by itself only when it has nothing else to do, or now and then.
const YIELD_AFTER: Duration = Duration::from_millis(1);

/// Steps that take no longer than this together are executed before their entries are sent. One
/// frame less on each link saves both CoServers more.
const INLINE_THRESHOLD: Duration = Duration::from_micros(20);

/// A running CoServer.
pub(super) struct Engine<S: StateMachine> {
    pub(super) replica: Replica,
    pub(super) connections: Connections,
    pub(super) executor: Executor<S>,
    pub(super) storage: Storage<S>,
    pub(super) recovery: Recovery,
    /// An operator wants what is on the disk for a new lineage.
    pub(super) adopts: bool,
    pub(super) devices: Vec<Box<dyn Device>>,
    /// By position, as in the service's table.
    pub(super) device_names: Vec<String>,
    /// What the devices may have for their connections.
    pub(super) descriptors: Descriptors,
    pub(super) memory: Memory,
    pub(super) inputs: DeviceInputs,
    pub(super) handled: Handled,
    /// Kept so that the requests' mailbox does not close while no task asks.
    pub(super) _handle: Handle,
    pub(super) clock: Clock,
    /// When the replica was last told something.
    pub(super) handled_at: MonotonicTime,
    pub(super) metrics: Metrics,
    pub(super) sleep: Pin<Box<Sleep>>,
    pub(super) sleep_until: Option<MonotonicTime>,
    /// Each with why what is logged in it is no news.
    pub(super) to_execute: std::collections::VecDeque<(Entry, Option<Echo>)>,
    pub(super) place: ReplicaId,
    /// What entries given out now are.
    pub(super) echo: Option<Echo>,
    /// The longest step of late; forgotten by parts.
    pub(super) longest_step: Duration,
    pub(super) stopped: Option<StopCause>,
}

/// What the loop waited for.
enum Wake {
    /// A store that is the witness.
    Witness(Input),
    Network(NetworkEvent),
    /// What a client has said, and the replica did not take.
    Calls,
    Device(DeviceId, Bytes),
    Request(Request),
    Service(Outgoing),
    Storage(Answer),
    Timer,
    /// There was nothing else, and there are entries to be executed.
    Nothing,
}

impl<S: StateMachine> Engine<S> {
    /// Runs until the replica is out. Returns why; devices and connections are still there.
    pub(super) async fn run(&mut self) -> StopCause {
        loop {
            if let Some(cause) = self.stopped.take() {
                return cause;
            }
            self.round().await;
        }
    }

    /// Goes on refusing clients until then.
    pub(super) async fn linger(&mut self, until: MonotonicTime) {
        self.to_execute.clear();
        while self.clock.mono() < until {
            self.set_timer(Some(until));
            let wake = self.wait().await;
            self.take(wake);
            self.drain();
            self.storage.flush(self.replica.mark());
            self.connections.flush();
        }
    }

    async fn round(&mut self) {
        self.set_timer(self.replica.next_timeout());
        let wake = self.wait().await;
        let began = self.clock.mono();
        self.take(wake);
        self.take_more(began);
        self.settle().await;
        if !self.to_execute.is_empty() || self.clock.mono().since(began) >= YIELD_AFTER {
            tokio::task::yield_now().await;
        }
    }

    fn set_timer(&mut self, due: Option<MonotonicTime>) {
        if due != self.sleep_until
            && let Some(due) = due
        {
            self.sleep_until = Some(due);
            self.sleep.as_mut().reset(self.clock.instant(due).into());
        }
    }

    /// Clients and devices are read in turn each while much of what they said waits to be carried
    /// out: it waits in one line.
    fn read_in_turn(&mut self) {
        let Self { replica, connections, inputs, .. } = self;
        let room = replica.room_for_inputs(match self.storage.durability() {
            Durability::Journal => limits::TURNS_BYTES_JOURNAL,
            Durability::Memory => limits::TURNS_BYTES,
        });
        let now = self.handled_at;
        let (from_clients, from_devices) =
            (connections.network().clients_read(), inputs.last_taken());
        inputs.set_room(room, now, from_clients);
        connections.network().set_room(room, now, from_devices);
        connections.read_clients(replica.reads_clients() && !connections.has_calls());
    }

    async fn wait(&mut self) -> Wake {
        let takes_input = self.replica.takes_input();
        let has_calls = self.connections.has_calls() && self.replica.reads_clients();
        self.read_in_turn();
        poll_fn(|cx| {
            if has_calls {
                return Poll::Ready(Wake::Calls);
            }
            if let Poll::Ready(done) = self.executor.poll(cx) {
                return Poll::Ready(Wake::Service(done));
            }
            if let Poll::Ready(answer) = self.storage.poll(cx) {
                return Poll::Ready(Wake::Storage(answer));
            }
            if let Poll::Ready(Some(request)) = self.handled.requests.poll_pop(cx) {
                return Poll::Ready(Wake::Request(request));
            }
            if takes_input && let Poll::Ready((device, bytes)) = self.inputs.poll_pop(cx) {
                return Poll::Ready(Wake::Device(device, bytes));
            }
            if let Poll::Ready(event) = self.connections.network().poll_next(cx) {
                return Poll::Ready(Wake::Network(event));
            }
            if let Poll::Ready(input) = self.connections.poll_objects(cx) {
                return Poll::Ready(Wake::Witness(input));
            }
            if self.sleep.as_mut().poll(cx).is_ready() {
                self.sleep_until = None;
                return Poll::Ready(Wake::Timer);
            }
            if !self.to_execute.is_empty() {
                return Poll::Ready(Wake::Nothing);
            }
            Poll::Pending
        })
        .await
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Network(event) => {
                if let Some(input) = self.connections.on_event(event, &mut self.metrics.counters) {
                    self.handle(input);
                }
                self.take_calls();
            }
            Wake::Calls => self.take_calls(),
            Wake::Device(device, bytes) => self.handle(Input::Device { device, bytes }),
            Wake::Witness(input) => self.handle(input),
            Wake::Service(done) => self.on_service(done),
            Wake::Storage(answer) => self.on_storage(answer),
            Wake::Timer => {
                self.storage.hurry();
                self.handle(Input::Timeout);
            }
            Wake::Request(Request::Status(answer)) => {
                let _ = answer.send(self.replica.status());
            }
            Wake::Request(Request::Metrics(answer)) => {
                let _ = answer.send(Box::new(self.snapshot()));
            }
            Wake::Request(Request::HandOver(answer)) => {
                let may = self.replica.may_hand_over();
                self.handle(Input::Command(Command::HandOver));
                let _ = answer.send(may);
            }
            Wake::Request(Request::Readmit(answer)) => {
                let may = self.replica.may_readmit();
                self.handle(Input::Command(Command::Readmit));
                let _ = answer.send(may);
            }
            Wake::Request(Request::Command(command)) => self.handle(Input::Command(command)),
            Wake::Request(Request::Repinned) => self.connections.repinned(),
            Wake::Nothing => {}
        }
    }

    /// Takes the calls that came in one frame, as far as the replica takes them.
    fn take_calls(&mut self) {
        while self.replica.reads_clients()
            && let Some(input) = self.connections.next_call()
        {
            self.handle(input);
        }
    }

    /// Takes what else is there already, so that it shares frames with what came first.
    fn take_more(&mut self, began: MonotonicTime) {
        for _ in 0..ROUND {
            if self.handled_at.since(began) >= EXECUTION_BUDGET {
                return;
            }
            let takes_input = self.replica.takes_input();
            self.read_in_turn();
            let wake = if let Some(done) = self.executor.try_next() {
                Wake::Service(done)
            } else if let Some(answer) = self.storage.try_next() {
                Wake::Storage(answer)
            } else if let Some(event) = self.connections.network().try_next() {
                Wake::Network(event)
            } else if takes_input && let Some((device, bytes)) = self.inputs.pop() {
                Wake::Device(device, bytes)
            } else {
                return;
            };
            self.take(wake);
        }
    }

    /// Sends, executes and releases. Frames leave before executions begin, so that both CoServers
    /// work at the same time; but where steps are short their results leave in the same frames.
    ///
    /// Not everything that is to be executed is: the peer is heard between two rounds only, and
    /// would seem silent.
    async fn settle(&mut self) {
        self.execute_first();
        self.drain();
        if self.storage.has_appended() {
            // The other's disk is further away than the own one.
            self.connections.transmit().await;
            self.storage.flush(self.replica.mark());
        }
        if !self.to_execute.is_empty() {
            self.connections.transmit().await;
            self.execute_some(EXECUTIONS);
            self.drain();
        }
        self.storage.flush(self.replica.mark());
        self.connections.flush();
    }

    fn execute_some(&mut self, most: usize) {
        let began = self.clock.mono();
        let (mut marking, mut before) = (Marking::default(), began);
        for _ in 0..most {
            let Some((entry, echo)) = self.to_execute.front() else { return };
            let freezes = matches!(entry.kind, EntryKind::Checkpoint);
            let step = self.executor.execute(entry, *echo, &mut marking);
            let now = self.clock.mono();
            if !matches!(step, Step::Elsewhere) {
                self.stepped(now.since(before), freezes);
            }
            before = now;
            if !matches!(step, Step::More) {
                self.to_execute.pop_front();
            }
            if let Step::Done(executed) = step {
                let panicked = executed.panic.is_some();
                self.handle(Input::Executed(executed));
                if panicked {
                    self.to_execute.clear();
                }
                before = self.clock.mono();
            }
            if before.since(began) >= EXECUTION_BUDGET {
                return;
            }
        }
    }

    fn stepped(&mut self, took: Duration, freezes: bool) {
        self.metrics.stepped(took);
        self.longest_step = took.max(self.longest_step - self.longest_step / 16);
        if freezes {
            self.metrics.froze(took);
        }
    }

    fn execute_first(&mut self) {
        let most = INLINE_THRESHOLD.as_nanos() / self.longest_step.as_nanos().max(1);
        if most == 0 || !self.executor.is_inline() {
            return;
        }
        self.replica.hand_out_first(usize::try_from(most).unwrap_or(EXECUTIONS).min(EXECUTIONS));
        while let Some(output) = self.replica.poll_decided() {
            self.carry_out(output);
        }
        self.execute_some(usize::MAX);
    }

    pub(super) fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.handled_at = now.mono;
        self.replica.handle(now, input);
    }

    /// Does what the replica says.
    fn drain(&mut self) {
        while let Some(output) = self.replica.poll() {
            self.carry_out(output);
        }
        if self.replica.waits_for_devices() && self.devices.iter().all(|device| device.stands()) {
            self.handle(Input::DevicesStand);
            return self.drain();
        }
        let released = self.replica.released();
        self.metrics.released(released, self.clock.mono());
        self.handled.released.advance(released.0.min(Watermark::MAX));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Peer { links, frame } => {
                let blocked = self.connections.send_peer(links, &frame, &mut self.metrics.counters);
                for link in blocked.iter() {
                    self.handle(Input::LinkBlocked { link });
                }
            }
            Output::CloseLink { link } => self.connections.close_link(link),
            Output::Witness(call) => self.connections.send_witness(&call),
            Output::UseWitness { slot } => {
                if let Some(input) = self.connections.use_witness(slot) {
                    self.handle(input);
                }
            }
            Output::Client { conn, answer } => {
                self.metrics.counters.answers += 1;
                self.connections.send_client(conn, answer);
            }
            Output::CloseClient { conn } => {
                self.metrics.counters.clients_refused += 1;
                self.connections.close_client(conn);
            }
            Output::Append(entry) => self.append(entry),
            Output::Execute(entry) => self.to_execute.push_back((entry, self.echo)),
            Output::Release { index, step, ordinal, epoch, kind } => {
                if let OutputKind::Device { device, bytes, .. } = kind {
                    self.release(device, Released { epoch, index, step, ordinal, bytes });
                }
            }
            Output::Standing(standing) => self.tell_devices(standing),
            Output::Event(event) => {
                let client = match event {
                    Event::PoolFull { owner, .. } => Some(self.connections.name_of(owner)),
                    _ => None,
                };
                super::events::log(&event, client.as_deref());
            }
            Output::Recover { to } => self.recover(to),
            Output::Storage(request) => self.ask_storage(request),
            Output::WriteCheckpoint { history } => self.write_checkpoint(history),
            Output::Stop { cause } => self.stopped = Some(cause),
        }
    }

    fn release(&mut self, device: DeviceId, released: Released) {
        self.metrics.counters.released += 1;
        match self.devices.get_mut(usize::from(device.0)) {
            Some(device) => device.release(released),
            None => {
                tracing::error!(event = "no_such_device", %device, "the service sent to a device that is not there")
            }
        }
    }

    pub(super) fn tell_devices(&mut self, standing: Standing) {
        self.echo = Echo::of(standing, self.place, self.echo);
        for device in &mut self.devices {
            device.standing(standing);
        }
    }
}
