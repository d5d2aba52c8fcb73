//! The register service's program, for the tests: a package's tests find only its own programs.

fn main() -> std::process::ExitCode {
    register::cli::main()
}
