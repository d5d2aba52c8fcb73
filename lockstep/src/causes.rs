//! Errors in words.

use core::error::Error;

/// An error with its causes, each once: many messages have their cause in them already.
#[cfg_attr(not(feature = "cli"), expect(unreachable_pub, reason = "only `cli` shows it"))]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
