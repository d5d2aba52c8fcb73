//! Roles, and which keys hold them.

use std::collections::BTreeMap;
use std::fmt;

use super::PublicKey;
use crate::ids::Place;

/// What a key entitles its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The CoServer at a place.
    CoServer(Place),
    /// The witness.
    Witness,
    /// A client.
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
}

impl Roster {
    /// Most keys that a roster takes. It is read from configuration and stays
    /// in memory; 65,536 keys are a few MB. One more is refused.
    pub const KEYS_MAX: usize = 65_536;

    /// A roster that knows nobody.
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
        Ok(())
    }

    /// The same with `key` in the place of `old` for `role`.
    ///
    /// # Errors
    /// As for [`pin`](Self::pin).
    pub fn replaced(
        &self,
        role: Role,
        old: &[PublicKey],
        key: PublicKey,
    ) -> Result<Self, RosterError> {
        let mut roles = self.roles.clone();
        roles.retain(|known, held| *held != role || !old.contains(known));
        let mut roster = Self { roles };
        roster.pin(role, key)?;
        Ok(roster)
    }

    /// The role that `key` holds, if it is known.
    pub fn role_of(&self, key: &PublicKey) -> Option<Role> {
        self.roles.get(key).copied()
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
    /// One key, two roles.
    #[error(
        "{key} is the key of the {held} and cannot also be that of the {wanted}; make a key of its own for each"
    )]
    TwoRoles {
        /// The key.
        key: PublicKey,
        /// The role it holds.
        held: Role,
        /// The role that it was to get.
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
    /// One's own key for somebody else.
    #[error("{key} is this process's own key; the other one has a key of its own")]
    Own {
        /// The key.
        key: PublicKey,
    },
    /// Too many keys.
    #[error("more than {} keys; remove those no longer in use", Roster::KEYS_MAX)]
    Full,
}
