//! The processes of a pair, for the tests. They run the register service, with another version or
//! configuration if its section says so, and with requests at which the CoServers part ways.
//!
//! `differ` is answered by the place that executes it; `panic` panics on both, `panic a` and
//! `panic b` on one; `slow` takes [`SLOW`]. A request of other words never ends where the file
//! `hang_while` is there when it begins.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::ReplicaId;
use lockstep::machine::{Context, Identity, RecordSource, RestoreError, StateMachine, Step};
use lockstep::runtime::cli::{self, Application, BuildError, Program};
use lockstep::runtime::config::Section;
use lockstep::runtime::coserver::Devices;
use register::service::Register;

/// How long a slow step takes.
const SLOW: Duration = Duration::from_millis(20);

/// A service that is not the same on both sides when it is asked not to be.
struct Wayward {
    inner: Register,
    place: ReplicaId,
    version: u32,
    configuration: u8,
    hang_while: Option<PathBuf>,
}

impl StateMachine for Wayward {
    type Frozen = <Register as StateMachine>::Frozen;

    fn identity(&self) -> Identity {
        let configuration = Digest([self.configuration; 16]);
        Identity { name: "misbehaving".into(), version: self.version, configuration }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        if let Step::Request { body, .. } = &step {
            let here = format!("panic {}", self.place);
            if body[..] == b"panic"[..] || body[..] == *here.as_bytes() {
                panic!("the request says so");
            }
            if body[..] == b"slow"[..] {
                work(SLOW);
            }
            if body[..] == b"differ"[..] {
                return Bytes::from(self.place.to_string());
            }
            if self.hang_while.as_ref().is_some_and(|file| file.exists()) {
                hang();
            }
        }
        self.inner.step(context, step)
    }

    fn freeze(&self) -> Self::Frozen {
        self.inner.freeze()
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        self.inner.restore(records)
    }
}

#[expect(clippy::disallowed_methods, reason = "a step that is slow, and computes nothing")]
fn work(time: Duration) {
    std::thread::sleep(time);
}

/// As a lock that nobody gives back, or a file system that is gone.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

struct Part;

impl Application for Part {
    type Service = Wayward;

    fn program(&self) -> Program {
        let version = env!("CARGO_PKG_VERSION");
        Program { name: "misbehaving", version, about: "A pair that parts ways, for tests." }
    }

    fn build(&self, place: ReplicaId, mut own: Section) -> Result<(Wayward, Devices), BuildError> {
        let version = own.optional("version", "the service's version")?.unwrap_or(1);
        let configuration = own.optional("configuration", "a number of its own")?.unwrap_or(0);
        let hang_while: Option<String> = own.optional("hang_while", "a file's path")?;
        let hang_while = hang_while.map(PathBuf::from);
        own.finish()?;
        let inner = Register::new();
        let service = Wayward { inner, place, version, configuration, hang_while };
        Ok((service, Devices::default()))
    }
}

fn main() -> std::process::ExitCode {
    cli::main(&Part)
}
