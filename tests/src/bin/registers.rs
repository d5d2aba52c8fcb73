//! The processes of a pair, for the tests. The CoServers run the register service, so that a client
//! can tell whether a request was lost or took effect twice.

use lockstep::ids::ReplicaId;
use lockstep::runtime::cli::{self, Application, BuildError, Program};
use lockstep::runtime::config::Section;
use lockstep::runtime::coserver::Devices;
use register::service::Register;

struct Registers;

impl Application for Registers {
    type Service = Register;

    fn program(&self) -> Program {
        let version = env!("CARGO_PKG_VERSION");
        Program { name: "registers", version, about: "A pair that counts, for tests." }
    }

    fn build(&self, _: ReplicaId, own: Section) -> Result<(Register, Devices), BuildError> {
        own.finish()?;
        Ok((Register::new(), Devices::default()))
    }
}

fn main() -> std::process::ExitCode {
    cli::main(&Registers)
}
