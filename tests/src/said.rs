//! What a test says that is to be seen also when it passes.

use std::io::Write;

/// Says it past the test runner, which keeps what a passing test prints to itself.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says why a test, or a part of one, is left out. `.ci/run` counts these lines.
pub fn skipped(why: &str) {
    note(&format!("skipped: {why}"));
}
