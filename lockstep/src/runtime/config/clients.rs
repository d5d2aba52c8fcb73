//! The clients that a CoServer's file names.

use super::error::ConfigError;
use super::section::Section;
use crate::limits::CLIENT_CONNECTIONS;
use crate::runtime::keys::{ClientTerms, Roster, RosterError};

/// Pins the clients of `[peers]`: each a key, or a table with what else is said of it.
pub(super) fn pin_clients(peers: &mut Section, roster: &mut Roster) -> Result<(), ConfigError> {
    for mut entry in peers.sections_or_values("clients", "key") {
        let key = entry.required("key", "the client's public key")?;
        let name = entry.optional("name", "what the client is called in the log and the status")?;
        let rights = entry.optional("rights", "what the client may ask")?.unwrap_or_default();
        let connections = connections(&mut entry)?;
        entry.finish()?;
        roster.pin_client(key, ClientTerms { name, connections, rights }).map_err(|error| {
            let field = match error {
                RosterError::NameTwice { .. } => "name",
                _ => "key",
            };
            entry.fault(field, error.to_string(), "")
        })?;
    }
    Ok(())
}

fn connections(entry: &mut Section) -> Result<Option<usize>, ConfigError> {
    let meaning = "the most connections of this client to this CoServer";
    let most = entry.optional("connections", meaning)?;
    if most.is_some_and(|most| !(1..=CLIENT_CONNECTIONS).contains(&most)) {
        let what = format!("is not between 1 and {CLIENT_CONNECTIONS}");
        let remedy = "write how many it may have; to shut a client out, remove its entry";
        return Err(entry.fault("connections", what, remedy));
    }
    Ok(most)
}
