//! A service without any pair.

use core::time::Duration;

use bytes::Bytes;

use super::recorder::Recorder;
use super::script::Input;
use crate::entry::{Entry, InputKind};
use crate::ids::{DeviceId, LogTime, ReplicaId, SessionId};
use crate::machine::{RestoreError, StateMachine};
use crate::output::{Executed, Output, OutputKind, Refusal};
use crate::unit::{Unit, UnitConfig, records::Reader};

/// Most wake-ups in one [`Solo::pass`]: more than a year of minutes.
const WAKES: usize = 1_000_000;

/// A service in its unit, fed by hand: for plain unit tests.
///
/// It starts with both CoServers as members and A as the sequencer. Log time moves on by a
/// millisecond with each input.
///
/// All methods panic, with the service's message, if the service does.
#[derive(Debug)]
pub struct Solo<S> {
    unit: Unit<S>,
    recorder: Recorder,
    config: UnitConfig,
    wakeup: Option<LogTime>,
    started: Vec<Output>,
}

impl<S: StateMachine> Solo<S> {
    /// Starts the service.
    pub fn new(service: S) -> Self {
        Self::with_config(service, UnitConfig::default())
    }

    /// Starts the service in a unit with other bounds.
    pub fn with_config(service: S, config: UnitConfig) -> Self {
        let unit = Unit::with_config(service, config.clone());
        let mut recorder = Recorder::new();
        let entries = recorder.begin();
        let mut solo = Self { unit, recorder, config, wakeup: None, started: Vec::new() };
        solo.started = solo.run(entries);
        solo
    }

    /// What the service wanted done when it started and learned of the members.
    pub fn started(&self) -> &[Output] {
        &self.started
    }

    /// Feeds one input; returns the outputs.
    ///
    /// # Panics
    /// If the service does.
    pub fn feed(&mut self, input: Input) -> Vec<Output> {
        if let Input::Pass(span) = input {
            return self.pass(span);
        }
        let entries = self.recorder.write(input);
        self.run(entries)
    }

    /// A client asks something, after opening a session if it has none; returns the answer.
    /// What else the service wants done for it is told by [`feed`](Self::feed) only.
    ///
    /// # Errors
    /// If the request does not take effect.
    ///
    /// # Panics
    /// If the service does.
    pub fn request(&mut self, client: u32, body: impl Into<Bytes>) -> Result<Bytes, Refusal> {
        let outputs = self.feed(Input::request(client, body));
        let answer = outputs.into_iter().rev().find_map(|output| match output.kind {
            OutputKind::Reply { result, .. } => Some(result),
            _ => None,
        });
        answer.expect("every request has an answer")
    }

    /// Something happens on a device of A; returns what the service sends to devices.
    ///
    /// # Panics
    /// If the service does.
    pub fn device(&mut self, device: u16, bytes: impl Into<Bytes>) -> Vec<(DeviceId, Bytes)> {
        sent(&self.feed(Input::device(device, bytes)))
    }

    /// Lets time pass. Every wake-up on the way comes at its time, as on a pair.
    ///
    /// # Panics
    /// If the service does, or it wakes itself up more than a million times.
    pub fn pass(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now().plus(span);
        let mut outputs = Vec::new();
        for _ in 0..WAKES {
            let due = self.wakeup.filter(|at| *at < end);
            let tick = self.recorder.tick(due.unwrap_or(end));
            outputs.extend(self.execute(&tick).outputs);
            if due.is_none() {
                return outputs;
            }
        }
        panic!("the service wakes itself up again and again: is its next wake-up too near?");
    }

    /// Feeds an entry of this one input as it is, for what [`Input`] cannot say.
    ///
    /// # Panics
    /// If the service does.
    pub fn entry(&mut self, place: ReplicaId, input: InputKind) -> Executed {
        let entry = self.recorder.outside(place, input);
        self.execute(&entry)
    }

    /// Freezes the state and restores it into a fresh service, which goes on in place of the
    /// present one.
    ///
    /// # Errors
    /// If the service cannot restore what it wrote.
    ///
    /// # Panics
    /// If the service writes a record that is too long.
    pub fn restart(&mut self, fresh: S) -> Result<(), RestoreError> {
        let bytes = self.unit.freeze().to_bytes().expect("records are within their bound");
        let mut records = Reader::open(bytes)?;
        self.unit = Unit::restore(fresh, self.config.clone(), &mut records)?;
        Ok(())
    }

    /// Log time at the last entry.
    pub fn now(&self) -> LogTime {
        self.recorder.time()
    }

    /// When the service wants to be woken, or a session will have been idle for too long.
    pub fn wakeup(&self) -> Option<LogTime> {
        self.wakeup
    }

    /// A client's session, if it has one.
    pub fn session(&self, client: u32) -> Option<SessionId> {
        self.recorder.session(client)
    }

    /// The service, to look at.
    pub fn service(&self) -> &S {
        self.unit.service()
    }

    fn run(&mut self, entries: Vec<Entry>) -> Vec<Output> {
        entries.iter().flat_map(|entry| self.execute(entry).outputs).collect()
    }

    fn execute(&mut self, entry: &Entry) -> Executed {
        let executed = self.unit.execute(entry);
        if let Some(message) = &executed.panic {
            panic!("the service panicked at entry {}: {message}", entry.index);
        }
        self.wakeup = executed.wakeup;
        executed
    }
}

fn sent(outputs: &[Output]) -> Vec<(DeviceId, Bytes)> {
    let sent = outputs.iter().filter_map(|output| match &output.kind {
        OutputKind::Device { device, bytes, .. } => Some((*device, bytes.clone())),
        _ => None,
    });
    sent.collect()
}
