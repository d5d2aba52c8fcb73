//! What is pinned of a client beside its key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::CLIENT_NAME_BYTES;

/// What a client is called in the log and in the status.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = NotAClientName;

    fn from_str(text: &str) -> Result<Self, NotAClientName> {
        if !(1..=CLIENT_NAME_BYTES).contains(&text.len()) {
            return Err(NotAClientName::Length { bytes: text.len() });
        }
        let taken = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match text.chars().find(|c| !taken(c)) {
            Some(character) => Err(NotAClientName::Character { character }),
            None => Ok(Self(text.into())),
        }
    }
}

/// A text that is no name of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAClientName {
    /// The name is empty, or too long.
    #[error("a client's name has 1 to {CLIENT_NAME_BYTES} characters, this one has {bytes} bytes")]
    Length {
        /// The name's length in bytes.
        bytes: usize,
    },
    /// The name has a character that a line of the log could not show as it is.
    #[error(
        "a client's name has letters of ASCII, digits, `-`, `_` and `.`, and not {character:?}"
    )]
    Character {
        /// The first such character.
        character: char,
    },
}

/// What a client's key is called and may have. By default it has no name, may ask
/// everything, and has no bound of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTerms {
    /// The client's name; `None` if the configuration gives none.
    pub name: Option<ClientName>,
    /// Most connections of this key to one CoServer; `None` for as many as its share.
    pub connections: Option<usize>,
    /// What the client may ask.
    pub rights: Rights,
}

/// What a client may ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rights {
    /// The client may ask everything.
    #[default]
    All,
    /// The client may send only requests that the service declares to change nothing
    /// ([`is_read_only`](crate::machine::StateMachine::is_read_only)).
    Read,
}

impl Rights {
    /// The rights as the configuration writes them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
        }
    }
}
