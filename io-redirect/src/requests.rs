//! Requests of lockstep's own clients, as a service sees them.

use lockstep::ids::{RequestNumber, SessionId};

/// A client's request. The engine sees to it that it takes effect exactly once, in its
/// session's order; what the service returns is its reply, kept until the client has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The session. Its id is never used again, so state may be kept by it; it ends with
    /// [`Service::on_session_ended`](crate::Service::on_session_ended).
    pub session: SessionId,
    /// The request's number there, from 1 without gaps.
    pub number: RequestNumber,
    /// What is asked, in the service's own words; at most
    /// [`INPUT_BYTES`](lockstep::limits::INPUT_BYTES).
    pub body: &'a [u8],
}
