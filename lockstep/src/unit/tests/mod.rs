//! A service that tells what it saw, and entries for it.

mod freezing;
mod gaps;
mod oracle;
mod records;
mod sessions;
mod shares;
mod steps;
mod together;

use core::time::Duration;

use bytes::Bytes;

use super::{Unit, UnitConfig};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, InputKind, Origin};
use crate::ids::{
    DeviceId, Epoch, Incarnation, Index, LogTime, Nonce, OriginNumber, OwnerId, ReplicaId,
    RequestNumber, SessionId,
};
use crate::limits::REPLY_BYTES;
use crate::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use crate::output::{Carrier, Executed, OutputKind, Refusal};

/// Writes down every step; does what requests tell it.
#[derive(Debug, Default, Clone)]
pub(super) struct Probe {
    seen: Vec<String>,
    /// How many more wake-ups to set from a wake-up, each this much later.
    again: u64,
    span: Duration,
}

impl Probe {
    fn obey(&mut self, context: &mut Context<'_>, body: &[u8]) -> Bytes {
        let text = String::from_utf8_lossy(body);
        let mut words = text.split(' ');
        let command = words.next().unwrap_or("");
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match command {
            "panic" => panic!("told to"),
            "large" => return vec![b'x'; number() as usize].into(),
            "wake" => {
                self.span = Duration::from_nanos(number());
                self.again = number();
                context.set_wakeup(Some(context.now().plus(self.span)));
            }
            "send" => {
                for to in 0..number() {
                    let bytes = Bytes::from(to.to_string());
                    context.send(DeviceId(to as u16), Carrier::Both, bytes);
                }
            }
            _ => {}
        }
        format!("{}: {text}", self.seen.len()).into()
    }
}

pub(super) struct FrozenProbe(Probe);

impl Freeze for FrozenProbe {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        sink.record(&self.0.again.to_le_bytes())?;
        sink.record(&(self.0.span.as_nanos() as u64).to_le_bytes())?;
        self.0.seen.iter().try_for_each(|line| sink.record(line.as_bytes()))
    }
}

impl StateMachine for Probe {
    type Frozen = FrozenProbe;

    fn identity(&self) -> Identity {
        Identity { name: "probe".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let what = match step {
            Step::Request { session, number, .. } => format!("request {session} {number}"),
            step => format!("{step:?}"),
        };
        self.seen.push(format!(
            "{}.{} at {}: {what}",
            context.index(),
            context.step(),
            context.now()
        ));
        match step {
            Step::Request { body, .. } => self.obey(context, body),
            Step::Wake => {
                context.send(DeviceId(9), Carrier::Sequencer, context.now().to_string().into());
                if self.again > 0 {
                    self.again -= 1;
                    context.set_wakeup(Some(context.now().plus(self.span)));
                }
                Bytes::new()
            }
            Step::Device { bytes, .. } => self.obey(context, bytes),
            _ => Bytes::new(),
        }
    }

    fn freeze(&self) -> FrozenProbe {
        FrozenProbe(self.clone())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let mut number = || {
            let record = records.record()?.ok_or(RestoreError::Missing { missing: "number" })?;
            let bytes: [u8; 8] = record[..]
                .try_into()
                .map_err(|_| RestoreError::Invalid { record: "number", why: "length".into() })?;
            Ok::<u64, RestoreError>(u64::from_le_bytes(bytes))
        };
        self.again = number()?;
        self.span = Duration::from_nanos(number()?);
        self.seen.clear();
        while let Some(record) = records.record()? {
            self.seen.push(String::from_utf8_lossy(&record).into_owned());
        }
        Ok(())
    }
}

/// A unit with a probe, and the entry that comes next.
pub(super) struct Fixture {
    pub(super) unit: Unit<Probe>,
    index: u64,
    pub(super) time: u64,
    pub(super) epoch: u64,
}

impl Fixture {
    pub(super) fn new(config: UnitConfig) -> Self {
        let unit = Unit::with_config(Probe::default(), config);
        Self { unit, index: 0, time: 1000, epoch: 1 }
    }

    /// The next entry, ten nanoseconds after the last.
    pub(super) fn entry(&mut self, kind: EntryKind) -> Entry {
        self.index += 1;
        self.time += 10;
        Entry {
            index: Index(self.index),
            epoch: Epoch(self.epoch),
            time: LogTime(self.time),
            origin: Origin {
                place: ReplicaId::B,
                incarnation: Incarnation(5),
                number: OriginNumber(self.index),
            },
            kind,
        }
    }

    pub(super) fn run(&mut self, kind: EntryKind) -> Executed {
        let entry = self.entry(kind);
        self.unit.execute(&entry)
    }

    pub(super) fn device(&mut self, text: &str) -> Executed {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.run(InputKind::Device { device: DeviceId(1), bytes }.into())
    }

    pub(super) fn open(&mut self, token: u64) -> Result<SessionId, Refusal> {
        let executed =
            self.run(InputKind::SessionOpenFor { owner: OwnerId(1), token: Nonce(token) }.into());
        match executed.outputs.last().map(|output| output.kind.clone()) {
            Some(OutputKind::Opened { token: given, result }) if given.0 == token => result,
            other => panic!("not an answer to {token}: {other:?}"),
        }
    }

    /// A request's answer.
    pub(super) fn ask(
        &mut self,
        (session, token): (SessionId, u64),
        number: u64,
        lowest: u64,
        body: &str,
    ) -> Result<Bytes, Refusal> {
        let executed = self.run(request(session, token, number, lowest, body));
        answer(&executed, number)
    }

    /// The answer to a request that its client may not make.
    pub(super) fn refuse(
        &mut self,
        (session, token): (SessionId, u64),
        number: u64,
        lowest: u64,
    ) -> Result<Bytes, Refusal> {
        let (token, number, lowest) = (Nonce(token), RequestNumber(number), RequestNumber(lowest));
        let executed =
            self.run(InputKind::SessionRefused { session, token, number, lowest }.into());
        answer(&executed, number.0)
    }

    /// What the probe saw since `from`.
    pub(super) fn seen(&self) -> &[String] {
        &self.unit.service().seen
    }
}

pub(super) fn request(
    session: SessionId,
    token: u64,
    number: u64,
    lowest: u64,
    body: &str,
) -> EntryKind {
    InputKind::SessionRequest {
        session,
        token: Nonce(token),
        number: RequestNumber(number),
        lowest: RequestNumber(lowest),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
    .into()
}

pub(super) fn answer(executed: &Executed, expected: u64) -> Result<Bytes, Refusal> {
    match executed.outputs.last().map(|output| output.kind.clone()) {
        Some(OutputKind::Reply { number, result, .. }) if number.0 == expected => result,
        other => panic!("not an answer to request {expected}: {other:?}"),
    }
}

/// Bounds that a test reaches.
pub(super) fn small() -> UnitConfig {
    UnitConfig {
        session_idle: Duration::from_nanos(1000),
        sessions: 4,
        session_replies: 3,
        session_reply_bytes: REPLY_BYTES + 64 + 200,
        reply_bytes: REPLY_BYTES + 64 + 600,
        steps_before_entry: 5,
        ..UnitConfig::default()
    }
}
