//! The service that the targets run: small, and such that a lost, repeated or reordered input
//! shows in what comes out.

use ::core::time::Duration;
use std::panic::resume_unwind;

use bytes::Bytes;
use lockstep::digest::{Digest, Hasher};
use lockstep::ids::{DeviceId, SessionId};
use lockstep::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use lockstep::output::Carrier;

/// Counts its steps, and answers each with the count and what it was. An input's first byte
/// asks for more: a wake-up, outputs for each kind of carrier, a panic.
#[derive(Clone, Debug, Default)]
pub struct CountingService {
    /// How many requests took effect.
    pub requests: u64,
    /// The sessions that it was told are over, for whoever drives it: no part of its state.
    pub ended: Vec<SessionId>,
    steps: u64,
    faulty: bool,
}

impl CountingService {
    /// A service that counts wrongly: stands for a faulty machine.
    pub fn faulty() -> Self {
        Self { faulty: true, ..Self::default() }
    }

    fn count(&mut self) -> u64 {
        self.steps += if self.faulty { 2 } else { 1 };
        self.steps
    }

    fn on_input(&mut self, context: &mut Context<'_>, what: &[u8], carriers: [Carrier; 3]) {
        let Some(command) = what.first() else { return };
        let mut text = self.steps.to_le_bytes().to_vec();
        text.extend_from_slice(what);
        for (at, carrier) in carriers.into_iter().enumerate() {
            if command >> at & 1 == 1 {
                context.send(DeviceId(at as u16), carrier, Bytes::copy_from_slice(&text));
            }
        }
        if command >> 3 & 1 == 1 {
            let span = Duration::from_millis(u64::from(command >> 4));
            context.set_wakeup(Some(context.now().plus(span)));
        }
        if *command == 0xFF {
            // A panic, but for the hook, in which a fuzzer would take it for a finding.
            resume_unwind(Box::new("told to panic"));
        }
    }
}

impl StateMachine for CountingService {
    type Frozen = Self;

    fn identity(&self) -> Identity {
        Identity { name: "tally".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let count = self.count();
        match step {
            Step::Device { bytes, place, .. } => {
                let carriers = [Carrier::Both, Carrier::Sequencer, Carrier::Replica(place)];
                self.on_input(context, bytes, carriers);
            }
            Step::Wake => {
                let text = Bytes::copy_from_slice(&count.to_le_bytes());
                context.send(DeviceId(3), Carrier::Both, text);
            }
            Step::Request { session, number, body } => {
                self.requests += 1;
                let mut reply = Hasher::after(Digest::ZERO);
                reply.number(count).number(session.0).number(number.0).bytes(body);
                return Bytes::copy_from_slice(&reply.finish().0);
            }
            Step::SessionEnded { session } => self.ended.push(session),
            _ => {}
        }
        Bytes::new()
    }

    fn freeze(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let record = records.record()?.ok_or(RestoreError::Missing { missing: "counts" })?;
        let (steps, requests) = record.split_first_chunk().ok_or_else(|| wrong("too short"))?;
        self.steps = u64::from_le_bytes(*steps);
        self.requests = u64::from_le_bytes(requests.try_into().map_err(|_| wrong("too long"))?);
        // Far from where counting on would overflow.
        let plausible = self.steps.max(self.requests) < u64::MAX / 2;
        if plausible { Ok(()) } else { Err(wrong("more steps than there can have been")) }
    }
}

fn wrong(why: &str) -> RestoreError {
    RestoreError::Invalid { record: "counts", why: why.into() }
}

impl Freeze for CountingService {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        let mut record = self.steps.to_le_bytes().to_vec();
        record.extend_from_slice(&self.requests.to_le_bytes());
        sink.record(&record)
    }
}
