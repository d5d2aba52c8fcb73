//! A service that answers every request by its own words, and has no state.

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::ReplicaId;
use lockstep::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use lockstep::runtime::cli::{Application, BuildError, Program};
use lockstep::runtime::config::Section;
use lockstep::runtime::coserver::Devices;

/// A service that answers with what it was asked.
#[derive(Debug)]
pub struct Echo;

impl StateMachine for Echo {
    type Frozen = Nothing;

    fn identity(&self) -> Identity {
        Identity { name: "echo".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
        match step {
            Step::Request { body, .. } => Bytes::copy_from_slice(body),
            _ => Bytes::new(),
        }
    }

    fn freeze(&self) -> Nothing {
        Nothing
    }

    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// The state of an echo.
#[derive(Debug)]
pub struct Nothing;

impl Freeze for Nothing {
    fn write(&self, _: &mut dyn RecordSink) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The parts of a pair that echoes.
#[derive(Debug)]
pub struct Parts;

impl Application for Parts {
    type Service = Echo;

    fn program(&self) -> Program {
        let version = env!("CARGO_PKG_VERSION");
        Program { name: "part", version, about: "A pair that echoes, for tests." }
    }

    fn build(&self, _: ReplicaId, own: Section) -> Result<(Echo, Devices), BuildError> {
        own.finish()?;
        Ok((Echo, Devices::default()))
    }
}
