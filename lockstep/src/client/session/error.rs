//! What can go wrong for a caller who waits.

use std::fmt;
use std::time::Duration;

use crate::client::{RequestError, SessionError, SubmitError};
use crate::ids::ReplicaId;
use crate::runtime::entropy::NoEntropy;
use crate::runtime::quic::{BindError, Lost, SetupError};
use crate::wire::error::FrameError;
use crate::wire::frames::ClientRefusal;

/// A request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request was not taken: it has not taken effect and will not.
    #[error("the request was not sent")]
    NotSent(#[from] SubmitError),
    /// The request was taken, but no reply came.
    #[error("no reply")]
    NoReply(#[from] RequestError),
    /// What drove the session has ended: its runtime was shut down, or its last handle dropped
    /// and the time for closing was over.
    #[error("the session was given up on this side: the request may have taken effect")]
    GivenUp,
}

impl CallError {
    /// Whether the request may have taken effect.
    pub fn may_have_taken_effect(&self) -> bool {
        !matches!(self, Self::NotSent(_) | Self::NoReply(RequestError::ReadOnly))
    }
}

/// No session could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Both CoServers turned this client away for reasons that time will not cure.
    #[error("neither CoServer serves this client: {0}")]
    Refused(Troubles),
    /// No session was opened within the time set for it.
    #[error("no session after {within:?}: {troubles}")]
    TimedOut {
        /// The time that was set.
        within: Duration,
        /// What was last heard of the CoServers.
        troubles: Troubles,
    },
    /// The pair answered, but opened none.
    #[error(transparent)]
    Session(SessionError),
    /// What drove the session has ended.
    #[error("the session was given up on this side")]
    GivenUp,
    /// No nonce could be drawn.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The blocking face could not start its thread.
    #[error("the client's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A session ended otherwise than by being closed in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// Replies were still due when the time for closing was over.
    #[error("replies were still due when the time for closing was over: their outcome is unknown")]
    TimedOut,
    /// The session had ended before.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What drove the session has ended.
    #[error("the session was given up on this side")]
    GivenUp,
}

/// Why a CoServer does not serve this client at present.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// No connection came about.
    Setup(SetupError),
    /// The CoServer said that it does not serve.
    Refused(ClientRefusal),
    /// The connection ended.
    Lost(Lost),
    /// The CoServer did not say in time that it serves.
    Unanswered,
    /// The CoServer sent something that is no valid frame.
    Invalid(FrameError),
    /// More was to be sent than may wait for it.
    Clogged,
    /// No socket for the connection could be opened.
    Socket(String),
}

impl Trouble {
    pub(super) fn socket(error: &BindError) -> Self {
        Self::Socket(error.to_string())
    }

    /// Whether trying again will meet the same until an operator changes something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Setup(error) => matches!(
                error.of_address(),
                SetupError::PeerKey { .. }
                    | SetupError::OwnKey { .. }
                    | SetupError::PeerWithoutKey { .. }
                    | SetupError::Purpose { .. }
                    | SetupError::Greeting { .. }
                    | SetupError::Dial { .. }
            ),
            Self::Refused(reason) => {
                matches!(reason, ClientRefusal::WrongPair | ClientRefusal::Version)
            }
            Self::Lost(_)
            | Self::Unanswered
            | Self::Invalid(_)
            | Self::Clogged
            | Self::Socket(_) => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => error.fmt(f),
            Self::Refused(reason) => reason.fmt(f),
            Self::Lost(lost) => lost.fmt(f),
            Self::Unanswered => f.write_str("connected, but it did not say that it serves"),
            Self::Invalid(error) => write!(f, "it sent an invalid frame: {error}"),
            Self::Clogged => f.write_str("it takes requests more slowly than they come"),
            Self::Socket(why) => f.write_str(why),
        }
    }
}

/// What is wrong with each CoServer, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Box<[Option<Trouble>; 2]>);

impl Troubles {
    pub(super) fn new(by_place: [Option<Trouble>; 2]) -> Self {
        Self(Box::new(by_place))
    }

    /// What is wrong with the CoServer at a place.
    pub fn of(&self, place: ReplicaId) -> Option<&Trouble> {
        self.0[place.slot()].as_ref()
    }

    /// Whether neither will serve until an operator changes something.
    pub(super) fn are_lasting(&self) -> bool {
        self.0.iter().all(|trouble| trouble.as_ref().is_some_and(Trouble::is_lasting))
    }
}

impl fmt::Display for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in ReplicaId::BOTH.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            match self.of(place) {
                Some(trouble) => write!(f, "{separator}CoServer {place}: {trouble}")?,
                None => write!(f, "{separator}CoServer {place}: nothing known")?,
            }
        }
        Ok(())
    }
}
