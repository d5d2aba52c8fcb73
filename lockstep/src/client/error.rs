//! What can go wrong for a caller, by operation.

use crate::output::Refusal;

/// A request was not taken; it has not been and will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The window is full: no more requests, or bytes of them, may be under way.
    #[error("the session's window is full: wait for a reply, then submit again")]
    WindowFull,
    /// The body is too long for any entry.
    #[error("a request of {len} bytes is over the limit of {limit}: send it in parts")]
    TooLong {
        /// The body's length in bytes.
        len: usize,
        /// Most bytes that a body may have.
        limit: usize,
    },
    /// The session is being closed, or is over.
    #[error("the session takes no more requests: open a new one")]
    Over,
}

/// A request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request took effect, but what the service answered is too long to be sent.
    #[error("the request took effect, but its reply is too long for a frame")]
    ReplyTooLong,
    /// The request has not taken effect and will not. The client's key may only read, and the
    /// service does not say of this request that it changes nothing. The session goes on.
    #[error(
        "this client's key may only read, and the request may change something, so it did not \
         take effect: ask with another key, or have the operator write `rights = \"all\"` into this \
         key's entry in `peers.clients` of both CoServers"
    )]
    ReadOnly,
    /// No reply came in the time that the caller gave it. The session goes on, and the request
    /// with it: it takes effect once if it has not yet.
    #[error("no reply in time: the request may have taken effect, or may still do so once")]
    TimedOut,
    /// The session ended first.
    #[error(
        "the session ended before the reply came: the request may have taken effect, and will \
         not any more if it has not"
    )]
    SessionOver(#[source] SessionError),
}

/// A session ended, or could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The pair refused to open it.
    #[error("the pair opened no session")]
    NotOpened(#[source] Refusal),
    /// The pair does not know it any more: it was idle for too long, ended to make room (rule C9),
    /// or the pair lost its state.
    #[error("the session has expired")]
    Expired,
    /// The pair answered with something that this session cannot have caused.
    #[error("the pair contradicts the session's state: {0}")]
    Contradiction(Refusal),
}
