//! The replica's events as structured log events.

use crate::event::{Event, Severity};

/// Records one event. The fields are stable: `event` names it, `detail` has its cause.
pub(super) fn log(event: &Event) {
    let name = event.name();
    match event.severity() {
        Severity::Detail => tracing::debug!(event = name, detail = ?event),
        Severity::Notice => tracing::info!(event = name, detail = ?event),
        Severity::Warning => tracing::warn!(event = name, detail = ?event),
        Severity::Alarm => tracing::error!(event = name, detail = ?event),
    }
}
