//! The witness in an object store: a task in place of the connection to a witness's process.
//!
//! [`ObjectLink::start`] takes the place of dialling. What it gives out has the shape of what a
//! connection gives: up, answers, down. Whether the program can do it is decided when it is built,
//! by the features `object-witness` and `object-witness-s3`.

#[cfg(feature = "object-witness")]
mod client;
#[cfg(feature = "object-witness")]
mod objects;

#[cfg(all(test, feature = "object-witness"))]
mod tests;

use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::ids::PairId;
use crate::wire::frames::{WitnessAnswer, WitnessCall};

#[cfg(feature = "object-witness")]
pub use client::{ObjectClient, ObjectFailure};

/// Calls that wait for the store. The replica repeats what is not answered, and only the newest
/// call counts, so more would be of no use.
#[cfg(feature = "object-witness")]
const CALLS: usize = 8;

/// Answers that wait for the replica, which takes them all in every round.
#[cfg(feature = "object-witness")]
const EVENTS: usize = 8;

/// A store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectStoreError {
    /// The URL is of no kind that is known.
    #[error("{url:?} is no store: write file:///PATH or s3://BUCKET/PREFIX")]
    Url {
        /// The URL that was given.
        url: String,
    },
    /// The program lacks what it needs for it.
    #[error(
        "this program was built without the feature `{feature}` of lockstep, which {url:?} needs"
    )]
    NotBuilt {
        /// The URL that was given.
        url: String,
        /// The feature that the program was built without.
        feature: &'static str,
    },
    /// The folder is not there, or the store's own configuration is wrong.
    #[error(
        "the store {url:?} cannot be opened: {why}; make the folder, or see the credentials in the environment"
    )]
    Open {
        /// The URL that was given.
        url: String,
        /// What the store's library said.
        why: String,
    },
}

/// What a store gives to the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectEvent {
    /// It is reached.
    Up,
    /// It answers a call.
    Answer(WitnessAnswer),
    /// It is not reached any more, and is tried again from time to time.
    Down,
}

/// The way to the store's task, which ends when this is dropped.
#[derive(Debug)]
pub struct ObjectLink {
    calls: mpsc::Sender<WitnessCall>,
    events: mpsc::Receiver<ObjectEvent>,
}

impl ObjectLink {
    /// Opens the store and starts its task. To be called within a tokio runtime.
    ///
    /// # Errors
    /// If the store cannot be used at all. One that is not reached at present can.
    #[cfg(feature = "object-witness")]
    pub fn start(url: &str, pair: PairId) -> Result<Self, ObjectStoreError> {
        let client = ObjectClient::open(url, pair)?;
        let (calls, asked) = mpsc::channel(CALLS);
        let (told, events) = mpsc::channel(EVENTS);
        tokio::spawn(client::serve(client, asked, told));
        Ok(Self { calls, events })
    }

    /// Refuses: the program was built without the feature `object-witness`.
    ///
    /// # Errors
    /// Always, since the store is not built in.
    #[cfg(not(feature = "object-witness"))]
    pub fn start(url: &str, _: PairId) -> Result<Self, ObjectStoreError> {
        Err(ObjectStoreError::NotBuilt { url: url.into(), feature: "object-witness" })
    }

    /// Asks the store. A call that finds no room is dropped, as on a connection that is slow: the
    /// replica asks again.
    pub fn call(&self, call: WitnessCall) {
        if self.calls.try_send(call).is_err() {
            tracing::debug!("call to the store dropped; it is repeated");
        }
    }

    /// The next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ObjectEvent> {
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // The task ends only with the process.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
