//! What a SIGHUP has a process read again.

use super::process::Reload;
use crate::causes::chain;
use crate::runtime::config::{CoServerConfig, ConfigError, Overrides, WitnessConfig};
use crate::runtime::logging::Filter;
use crate::runtime::tls::Credentials;

/// Reloads a CoServer's file: the level of its log, and the public keys of the others. Everything
/// else that its file says counts at its next start.
pub(super) fn of_coserver(config: &CoServerConfig, overrides: Overrides, filter: Filter) -> Reload {
    let (file, credentials) = (config.file.clone(), config.credentials.clone());
    Box::new(move || {
        done(CoServerConfig::read(&file, &overrides), |new| {
            filter.check(new.log.as_deref())?;
            take_keys(&credentials, &new.credentials)?;
            filter.change(new.log.as_deref())
        });
    })
}

/// Reloads a witness's file: the level of its log. A CoServer's key is changed there with
/// `replace-key`, which knows whose connections are to be closed.
pub(super) fn of_witness(config: &WitnessConfig, overrides: Overrides, filter: Filter) -> Reload {
    let file = config.file.clone();
    Box::new(move || {
        done(WitnessConfig::read(&file, &overrides), |new| filter.change(new.log.as_deref()));
    })
}

/// Takes over which keys are pinned; one's own is read at the start only.
fn take_keys(ours: &Credentials, read: &Credentials) -> Result<(), String> {
    if ours.take_roster(read) {
        Ok(())
    } else {
        Err("the own key has changed, which counts at the next start: the others' keys were left \
             as they were"
            .into())
    }
}

/// Takes what was read, all of it or nothing, and says what came of it.
fn done<T>(read: Result<T, ConfigError>, take: impl FnOnce(T) -> Result<(), String>) {
    match read.map_err(|error| chain(&error)).and_then(take) {
        Ok(()) => tracing::info!(event = "reloaded"),
        Err(why) => tracing::warn!(event = "not_reloaded", why),
    }
}
