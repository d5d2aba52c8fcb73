//! What the key of each client has here: connections, and what became of others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::digest::{Digest, Hasher};
use crate::ids::OwnerId;
use crate::limits::CLIENTS_SHOWN;
use crate::runtime::keys::{ClientName, ClientTerms, PublicKey, Roster};

/// A client's key and what it has of a CoServer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetrics {
    /// The client's key.
    pub key: PublicKey,
    /// What the configuration says of the key; the default if the key is not named there any more.
    pub terms: ClientTerms,
    /// The key's connections, and what it was refused.
    pub counts: ClientCounts,
}

/// Connections of one key: those at present, and how many since the start did not come about or had
/// to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// How many connections the key has at present.
    pub connections: usize,
    /// Connections turned away: too many, or not served here.
    pub refused: u64,
    /// Connections closed because others had no place, or because the key may have fewer now.
    pub displaced: u64,
    /// Connections closed because too many answers waited for the client.
    pub unread: u64,
    /// Requests refused because the key may only read.
    pub requests_refused: u64,
}

/// The clients of which the status tells, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientsMetrics {
    /// The clients that have most, at most [`CLIENTS_SHOWN`].
    pub shown: Vec<ClientMetrics>,
    /// How many others are known.
    pub left_out: usize,
}

/// The owner of a key's sessions: both CoServers say the same of it.
pub(super) fn owner_of(key: &PublicKey) -> OwnerId {
    let digest = Hasher::after(Digest::ZERO).bytes(&key.to_spki()).finish();
    let mut id = [0; 8];
    id.copy_from_slice(&digest.0[..8]);
    OwnerId(u64::from_le_bytes(id).max(1))
}

/// Every key that has been here and is still named, or connected.
#[derive(Debug, Default)]
pub(super) struct ClientBook {
    by_key: BTreeMap<PublicKey, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What it was last called: one that is not named any more is still told of.
    name: Option<ClientName>,
    counts: ClientCounts,
}

impl ClientBook {
    fn counts(&mut self, key: PublicKey) -> &mut ClientCounts {
        &mut self.by_key.entry(key).or_default().counts
    }

    /// The name of this key.
    pub(super) fn name(&self, key: &PublicKey) -> Option<&str> {
        self.by_key.get(key)?.name.as_ref().map(ClientName::as_str)
    }

    /// The name of the key whose sessions these are; without a name, the beginning of the key.
    pub(super) fn name_of(&self, owner: OwnerId, roster: &Roster) -> String {
        let named = roster.clients().map(|(key, terms)| (key, terms.name.as_ref()));
        let met = self.by_key.iter().map(|(key, known)| (key, known.name.as_ref()));
        let found = named.chain(met).find(|(key, _)| owner_of(key) == owner);
        found.map_or_else(
            || match owner {
                OwnerId::UNKNOWN => "a log that names no keys".into(),
                _ => "a key that is not named any more".into(),
            },
            |(key, name)| name.map_or_else(|| key.short(), ToString::to_string),
        )
    }

    pub(super) fn connected(&mut self, key: PublicKey, roster: &Roster) {
        let known = self.by_key.entry(key).or_default();
        known.counts.connections += 1;
        if let Some(terms) = roster.client(&key) {
            known.name.clone_from(&terms.name);
        }
    }

    /// A connection ended. A key that is not named any more is forgotten with its last one.
    pub(super) fn gone(&mut self, key: PublicKey, displaced: bool, roster: &Roster) {
        let counts = self.counts(key);
        debug_assert!(counts.connections > 0, "one that was not there has gone");
        counts.connections = counts.connections.saturating_sub(1);
        counts.displaced += u64::from(displaced);
        if counts.connections == 0 && roster.client(&key).is_none() {
            self.by_key.remove(&key);
        }
    }

    pub(super) fn refused(&mut self, key: PublicKey) {
        self.counts(key).refused += 1;
    }

    pub(super) fn unread(&mut self, key: PublicKey) {
        self.counts(key).unread += 1;
    }

    pub(super) fn request_refused(&mut self, key: PublicKey) {
        self.counts(key).requests_refused += 1;
    }

    /// Takes the names of another roster, and forgets keys that are neither in it nor connected.
    pub(super) fn take(&mut self, roster: &Roster) {
        self.by_key.retain(|key, known| match roster.client(key) {
            Some(terms) => {
                known.name.clone_from(&terms.name);
                true
            }
            None => known.counts.connections > 0,
        });
    }

    /// First those that have most, then those that were sent away most often.
    pub(super) fn metrics(&self, roster: &Roster) -> ClientsMetrics {
        let is_named = |key: &PublicKey| roster.client(key).is_some();
        let order = |(key, counts): &(&PublicKey, ClientCounts)| {
            (Reverse((counts.connections, counts.refused + counts.displaced)), **key)
        };
        // The roster may be newer than what was taken of it.
        let known = self.by_key.iter().map(|(key, known)| (key, known.counts));
        let mut known: Vec<_> =
            known.filter(|(key, counts)| counts.connections > 0 || is_named(key)).collect();
        let unnamed = known.iter().filter(|(key, _)| !is_named(key)).count();
        let all = roster.clients().len() + unnamed;
        if known.len() > CLIENTS_SHOWN {
            known.select_nth_unstable_by_key(CLIENTS_SHOWN, order);
            known.truncate(CLIENTS_SHOWN);
        }
        known.sort_unstable_by_key(order);
        let absent = roster.clients().map(|(key, _)| key);
        let absent = absent.filter(|key| !self.by_key.contains_key(key));
        let rest = absent.map(|key| (key, ClientCounts::default()));
        let named = |key| roster.client(key).cloned().unwrap_or_default();
        let shown: Vec<_> = (known.into_iter().chain(rest).take(CLIENTS_SHOWN))
            .map(|(key, counts)| ClientMetrics { key: *key, terms: named(key), counts })
            .collect();
        let left_out = all - shown.len();
        ClientsMetrics { shown, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn roster(keys: impl Iterator<Item = u8>) -> Roster {
        let mut roster = Roster::new();
        for number in keys {
            let name = Some(format!("client-{number}").parse().unwrap());
            roster.pin_client(key(number), ClientTerms { name, ..ClientTerms::default() }).unwrap();
        }
        roster
    }

    #[test]
    fn one_that_is_away_and_not_named_any_more_is_not_counted() {
        let mut book = ClientBook::default();
        let before = roster(0..4);
        book.connected(key(0), &before);
        book.gone(key(0), false, &before);
        // The process has the new roster before the book was told of it.
        let ClientsMetrics { shown, left_out } = book.metrics(&roster(1..4));
        assert_eq!((shown.len(), left_out), (3, 0));
    }

    #[test]
    fn those_that_have_most_come_first_and_of_the_others_only_how_many_they_are() {
        let roster = roster(0..100);
        let mut book = ClientBook::default();
        (0..3).for_each(|_| book.connected(key(90), &roster));
        book.connected(key(91), &roster);
        book.refused(key(92));
        let told = book.metrics(&roster);
        let first: Vec<_> = told.shown.iter().map(|client| client.key).take(4).collect();
        assert_eq!(first, [key(90), key(91), key(92), key(0)]);
        assert_eq!((told.shown.len(), told.left_out), (CLIENTS_SHOWN, 100 - CLIENTS_SHOWN));
        assert_eq!(told.shown[0].terms.name.as_ref().unwrap().as_str(), "client-90");
    }

    #[test]
    fn a_key_that_is_not_named_any_more_is_told_of_until_its_connections_are_gone() {
        let mut book = ClientBook::default();
        book.connected(key(1), &roster(1..2));
        let nobody = Roster::new();
        book.take(&nobody);
        assert_eq!(book.name(&key(1)).unwrap(), "client-1");
        let told = book.metrics(&nobody);
        assert_eq!((told.shown.len(), told.left_out), (1, 0));
        assert_eq!(told.shown[0].terms, ClientTerms::default());
        book.connected(key(1), &nobody);
        book.gone(key(1), true, &nobody);
        assert_eq!(book.metrics(&nobody).shown[0].counts.displaced, 1);
        book.gone(key(1), false, &nobody);
        assert_eq!(book.metrics(&nobody), ClientsMetrics::default());
    }
}
