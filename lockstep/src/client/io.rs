//! The boundary of a session's core: its configuration, and closed enums in and out.

use core::time::Duration;

use bytes::Bytes;

use crate::client::error::{RequestError, SessionError};
use crate::ids::{Epoch, PairId, ReplicaId, RequestNumber, SessionId};
use crate::limits;
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal, Versions};

/// The versions of the client protocol that this library speaks.
pub const PROTOCOL: Versions = Versions::SPOKEN;

/// How a session behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pair that is meant.
    pub pair: PairId,
    /// Most requests under way, from 1 to [`limits::SESSION_REPLIES`].
    pub window: usize,
    /// Most bytes of the bodies under way, at least [`limits::INPUT_BYTES`].
    pub window_bytes: usize,
    /// Without any reply for this long, everything unanswered is sent again. Doubles up to
    /// [`resend_longest`](Self::resend_longest) while none comes.
    pub resend: Duration,
    /// The longest time to which [`resend`](Self::resend) doubles.
    pub resend_longest: Duration,
    /// A CoServer that was lost or refused is tried again after about this long. Doubles up to
    /// [`redial_longest`](Self::redial_longest) until it serves, or the other CoServer says that
    /// it is back.
    pub redial: Duration,
    /// The longest time to which [`redial`](Self::redial) doubles.
    pub redial_longest: Duration,
    /// Something is unanswered and nothing has been answered for this long: connections are probed,
    /// and a CoServer without one is dialled. Repeated at growing intervals up to
    /// [`silence_longest`](Self::silence_longest) while it lasts. A silence ends no connection.
    pub silence: Duration,
    /// The longest interval between probes; see [`silence`](Self::silence).
    pub silence_longest: Duration,
    /// A connection on which nothing has come for this long in spite of probes is taken for dead.
    /// Another is made beside it, and takes its place once it is up.
    pub deaf: Duration,
    /// A CoServer that has not said within this long that it serves is given up for now.
    pub greeting: Duration,
    /// A session that was asked for at least this long ago, and in which nothing was asked since,
    /// may be over at the pair (rules C6, C9). It is then asked for again before the first request
    /// is sent. At most half of the pair's
    /// [`session_unused`](crate::unit::UnitConfig::session_unused); with more, the first request
    /// may end in [`SessionError::Expired`].
    pub reopen_unused_after: Duration,
}

impl Config {
    /// The default times and windows for a session with this pair.
    pub fn new(pair: PairId) -> Self {
        Self {
            pair,
            window: limits::SESSION_REPLIES,
            window_bytes: limits::CLIENT_WINDOW_BYTES,
            // Connections are reliable while they live, so that this is for CoServers that lost
            // what they had been given; it must not answer a slow service with more work.
            resend: Duration::from_secs(1),
            resend_longest: Duration::from_secs(8),
            redial: Duration::from_millis(20),
            redial_longest: Duration::from_secs(2),
            // This is as long as a pair takes at least to find one of its own dead, so that both
            // are done at about the same time.
            silence: Duration::from_millis(50),
            // What a client adds to an outage at most. A thousand clients that wait for one
            // CoServer send it some five thousand first packets a second at that.
            silence_longest: Duration::from_millis(250),
            // A last resort: a process that was started anew resets the connections to the one
            // before at the first probe, and the other CoServer tells of it. Longer than a sound
            // process stands still, or all its clients would come again when it goes on.
            deaf: Duration::from_millis(500),
            greeting: Duration::from_secs(2),
            reopen_unused_after: limits::SESSION_UNUSED / 2,
        }
    }
}

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but the time.
    Timeout,
    /// The connection that was asked for is up, and authenticated as that CoServer's.
    Up {
        /// The place of that CoServer.
        place: ReplicaId,
    },
    /// The connection ended, or could not be made.
    Down {
        /// The place of the connection's CoServer.
        place: ReplicaId,
    },
    /// Packets came on a connection since [`Output::Probe`], or it is too early to tell.
    Heard {
        /// The place of the connection's CoServer.
        place: ReplicaId,
    },
    /// A frame came from a CoServer.
    Answer {
        /// The place of that CoServer.
        place: ReplicaId,
        /// The checked frame.
        answer: ClientAnswer,
    },
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a connection; then say [`Input::Up`], or [`Input::Down`] if it cannot be made.
    ///
    /// A connection may be asked for again before that is known, since a packet that the other end
    /// does not take is repeated ever more rarely. The driver then makes one more attempt beside
    /// the first, in place of any later one. A connection may also be asked for while there is one,
    /// which then stands until another is up. Attempts that fail are not reported then.
    Connect {
        /// The place of the CoServer to connect to.
        place: ReplicaId,
    },
    /// Send something that the process at the other end acknowledges, and say [`Input::Heard`]
    /// before the next [`Input::Timeout`] if anything has come by then.
    Probe {
        /// The place of the CoServer whose connection is probed.
        place: ReplicaId,
    },
    /// End the connection, after what was sent on it; then say [`Input::Down`].
    Disconnect {
        /// The place of the CoServer to disconnect from.
        place: ReplicaId,
    },
    /// Send a frame to a CoServer.
    Send {
        /// The place of the CoServer to send to.
        place: ReplicaId,
        /// The frame to send.
        call: ClientCall,
    },
    /// A request's outcome. Each number comes once, in no particular order.
    Reply {
        /// The number of the request.
        number: RequestNumber,
        /// The service's answer, or why there is none.
        result: Result<Bytes, RequestError>,
    },
    /// The session is over; every request has had its outcome. `Ok` if it was closed.
    Over(Result<(), SessionError>),
    /// Record this event.
    Event(Event),
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session is open.
    Opened {
        /// The session's id.
        session: SessionId,
    },
    /// A CoServer serves.
    Welcomed {
        /// The place of that CoServer.
        place: ReplicaId,
        /// The epoch in which that CoServer serves.
        epoch: Epoch,
    },
    /// A CoServer does not serve yet; it will say when it does.
    Deferred {
        /// The place of that CoServer.
        place: ReplicaId,
        /// Why the CoServer does not serve yet.
        reason: ClientRefusal,
    },
    /// A CoServer is back, by what the other one says.
    Back {
        /// The place of the CoServer that is back.
        place: ReplicaId,
    },
    /// A CoServer does not serve; it will be tried again.
    Refused {
        /// The place of that CoServer.
        place: ReplicaId,
        /// Why the CoServer does not serve.
        reason: ClientRefusal,
    },
    /// A CoServer did not say in time that it serves; it will be tried again.
    Unanswered {
        /// The place of that CoServer.
        place: ReplicaId,
    },
    /// The connection to a CoServer that served ended.
    Lost {
        /// The place of that CoServer.
        place: ReplicaId,
    },
    /// Everything unanswered was sent again, since no reply came.
    Resent {
        /// How many requests.
        requests: usize,
    },
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that the session took.
    pub submitted: u64,
    /// Requests whose reply has come.
    pub answered: u64,
    /// Request frames sent, all copies counted.
    pub sent: u64,
    /// Replies dropped, because another copy had come before.
    pub dropped: u64,
}
