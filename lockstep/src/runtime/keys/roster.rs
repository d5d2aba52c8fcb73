//! Roles, and which keys hold them.

use std::collections::BTreeMap;
use std::fmt;

use super::{ClientName, ClientTerms, PublicKey};
use crate::ids::ReplicaId;

/// What a key entitles its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The CoServer at a place.
    CoServer(ReplicaId),
    /// The pair's witness.
    Witness,
    /// A client of the pair.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::CoServer(place) => write!(f, "CoServer {place}"),
            Role::Witness => f.write_str("witness"),
            Role::Client => f.write_str("client"),
        }
    }
}

/// The pinned keys: who is known, and as what.
///
/// A key holds one role and no second one. A role may have several keys: many
/// clients, an old and a new key during a rotation, or on a witness the
/// CoServers of many pairs.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    roles: BTreeMap<PublicKey, Role>,
    /// The terms of every client's key.
    clients: BTreeMap<PublicKey, ClientTerms>,
    /// The keys of the clients that have a name.
    names: BTreeMap<ClientName, PublicKey>,
}

impl Roster {
    /// Most keys that a roster takes. It is read from configuration and stays in memory; 65,536
    /// keys are a few MB. One more key is refused.
    pub const KEYS_MAX: usize = 65_536;

    /// A roster without any keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pins `key` to `role`. Repeating what is already pinned changes nothing.
    ///
    /// # Errors
    /// If the key already has another role, or the roster is full.
    pub fn pin(&mut self, role: Role, key: PublicKey) -> Result<(), RosterError> {
        match self.roles.get(&key) {
            Some(held) if *held == role => return Ok(()),
            Some(held) => return Err(RosterError::TwoRoles { key, held: *held, wanted: role }),
            None => {}
        }
        if self.roles.len() >= Self::KEYS_MAX {
            return Err(RosterError::Full);
        }
        self.roles.insert(key, role);
        if role == Role::Client {
            self.clients.insert(key, ClientTerms::default());
        }
        Ok(())
    }

    /// Pins a client's key with what else is said of that client.
    ///
    /// # Errors
    /// As for [`pin`](Self::pin); and if the key is pinned already, or another one has the name.
    pub fn pin_client(&mut self, key: PublicKey, terms: ClientTerms) -> Result<(), RosterError> {
        if self.clients.contains_key(&key) {
            return Err(RosterError::ClientTwice { key });
        }
        if let Some(&first) = terms.name.as_ref().and_then(|name| self.names.get(name)) {
            return Err(RosterError::NameTwice { first, second: key });
        }
        self.pin(Role::Client, key)?;
        self.names.extend(terms.name.clone().map(|name| (name, key)));
        self.clients.insert(key, terms);
        Ok(())
    }

    /// The same with `key` in the place of `old` for `role`. A client's key gets the terms of the
    /// first of those, and no more.
    ///
    /// # Errors
    /// As for [`pin`](Self::pin).
    pub fn replaced(
        &self,
        role: Role,
        old: &[PublicKey],
        key: PublicKey,
    ) -> Result<Self, RosterError> {
        let terms =
            old.iter().find_map(|old| self.clients.get(old)).filter(|_| role == Role::Client);
        let mut roles = self.roles.clone();
        roles.retain(|known, held| *held != role || !old.contains(known));
        let Self { mut clients, mut names, .. } = self.clone();
        clients.retain(|known, _| roles.contains_key(known));
        names.retain(|_, known| roles.contains_key(known));
        let mut roster = Self { roles, clients, names };
        match terms {
            Some(terms) => roster.pin_client(key, terms.clone())?,
            None => roster.pin(role, key)?,
        }
        Ok(roster)
    }

    /// The role that `key` holds, if it is known.
    pub fn role_of(&self, key: &PublicKey) -> Option<Role> {
        self.roles.get(key).copied()
    }

    /// What is said of a client beside its key; `None` if this is no client's key.
    pub fn client(&self, key: &PublicKey) -> Option<&ClientTerms> {
        self.clients.get(key)
    }

    /// What a client is called, if it has a name.
    pub fn client_name(&self, key: &PublicKey) -> Option<&str> {
        self.client(key)?.name.as_ref().map(ClientName::as_str)
    }

    /// All clients, in the order of their keys' bytes.
    pub fn clients(&self) -> impl ExactSizeIterator<Item = (&PublicKey, &ClientTerms)> {
        self.clients.iter()
    }

    /// The keys that hold `role`, in the order of their bytes.
    pub fn keys_of(&self, role: Role) -> impl Iterator<Item = &PublicKey> {
        self.roles.iter().filter(move |(_, held)| **held == role).map(|(key, _)| key)
    }

    /// Checks at start that one's own key is not at odds with the roster that
    /// the others presumably have too, rather than being refused by them later.
    ///
    /// # Errors
    /// If the key holds another role here, or the role is pinned to other keys.
    pub fn check_own(&self, role: Role, key: &PublicKey) -> Result<(), RosterError> {
        match self.role_of(key) {
            Some(held) if held == role => Ok(()),
            Some(held) => Err(RosterError::TwoRoles { key: *key, held, wanted: role }),
            None if self.keys_of(role).next().is_some() => {
                Err(RosterError::NotOwn { role, key: *key })
            }
            None => Ok(()),
        }
    }
}

/// A roster that contradicts itself or its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// One key would have two roles.
    #[error(
        "{key} is the key of the {held} and cannot also be that of the {wanted}; make a key of its own for each"
    )]
    TwoRoles {
        /// The key that would have two roles.
        key: PublicKey,
        /// The role that the key holds.
        held: Role,
        /// The role that the key was to get.
        wanted: Role,
    },
    /// One's own key is not the one pinned for one's own role.
    #[error(
        "the configuration names another key for the {role} than the key file, which holds {key}; correct one of them, else every peer refuses this process"
    )]
    NotOwn {
        /// One's own role.
        role: Role,
        /// The key from the key file.
        key: PublicKey,
    },
    /// The process's own key was named for another process.
    #[error("{key} is this process's own key; the other one has a key of its own")]
    Own {
        /// The process's own key.
        key: PublicKey,
    },
    /// One client's key is in two entries.
    #[error("{key} is named twice among the clients; keep one of the entries")]
    ClientTwice {
        /// The key that is named twice.
        key: PublicKey,
    },
    /// One name is given to two clients.
    #[error("{second} has the name of {first}; give each client a name of its own")]
    NameTwice {
        /// The key that had it.
        first: PublicKey,
        /// The key that was to get it.
        second: PublicKey,
    },
    /// Too many keys.
    #[error("more than {} keys; remove those no longer in use", Roster::KEYS_MAX)]
    Full,
}
