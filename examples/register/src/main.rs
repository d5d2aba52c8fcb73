//! The register and queue service's program; see [`register::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    register::cli::main()
}
