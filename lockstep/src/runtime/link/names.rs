//! What hosts' names mean, for all ports of a process.
//!
//! The system's resolver is asked at each attempt to connect, on a thread of its own. A look-up may
//! take long and cannot be interrupted. So each name is asked about once at a time, no caller waits
//! for it without bound, and what it said last stands until it says something else.
#![allow(clippy::disallowed_types, reason = "the tasks of the ports run on any thread")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::exhaustion::Exhaustion;

/// Addresses of one name that are tried at one connect, in the resolver's order.
pub(super) const ADDRESSES_TRIED: usize = 8;

/// Addresses of one name that are kept for a time without an answer: some may be of a family that a
/// port cannot reach.
const ADDRESSES_KEPT: usize = 4 * ADDRESSES_TRIED;

/// How long the first answer about a name is waited for.
const FIRST: Duration = Duration::from_secs(5);

/// How long one is waited for if there is an earlier one to go on with.
const AGAIN: Duration = Duration::from_millis(250);

/// A host and a port.
type Name = (String, u16);

/// What the resolver said, or why it did not.
type Answer = Result<Vec<SocketAddr>, String>;

/// The names that were asked about: as many as the configuration has.
#[derive(Clone, Debug)]
pub(super) struct Names {
    asked: Arc<Mutex<BTreeMap<Name, Asked>>>,
    /// How long an answer is waited for: the first one, and one after others.
    patience: [Duration; 2],
}

#[derive(Debug, Default)]
struct Asked {
    /// Where the answer that is to come will be.
    coming: Option<watch::Receiver<Option<Answer>>>,
    /// The last answer with addresses.
    last: Vec<SocketAddr>,
    /// The address at which a peer was reached last.
    worked: Option<SocketAddr>,
}

/// What a name means, as far as is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolution {
    pub(super) addresses: Vec<SocketAddr>,
    /// Why these are from an earlier answer, or there are none.
    pub(super) trouble: Option<String>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { asked: Arc::default(), patience: [FIRST, AGAIN] }
    }

    /// The addresses of a host, with this port. To be called within a tokio runtime.
    pub(super) async fn look_up(&self, host: &str, port: u16) -> Resolution {
        self.ask((host.to_owned(), port), |(host, port)| async move {
            Ok(tokio::net::lookup_host((host, port)).await?.collect())
        })
        .await
    }

    async fn ask<F>(&self, name: Name, resolver: impl FnOnce(Name) -> F) -> Resolution
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let (mut coming, last) = self.begin(name.clone(), resolver);
        let patience = self.patience[usize::from(!last.is_empty())];
        let answer = tokio::time::timeout(patience, coming.wait_for(Option::is_some)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Ok(Vec::new())),
            Ok(Err(_)) => Err("the resolver was given up".into()),
            // The resolver is slow, which is no trouble while there is something to go on with.
            Err(_) if !last.is_empty() => Ok(last.clone()),
            Err(_) => Err(format!("the resolver has not answered within {patience:?}")),
        };
        let (mut addresses, trouble) = match answer {
            Ok(addresses) => (addresses, None),
            Err(why) => (last, Some(why)),
        };
        let worked = self.names().get(&name).and_then(|asked| asked.worked);
        addresses.sort_by_key(|address| Some(*address) != worked);
        Resolution { addresses, trouble }
    }

    /// A peer was reached at this address: it is the first one to be tried from now on.
    pub(super) fn worked(&self, host: &str, port: u16, address: SocketAddr) {
        if let Some(asked) = self.names().get_mut(&(host.to_owned(), port)) {
            asked.worked = Some(address);
        }
    }

    /// Asks, unless it is being asked already.
    fn begin<F>(
        &self,
        name: Name,
        resolver: impl FnOnce(Name) -> F,
    ) -> (watch::Receiver<Option<Answer>>, Vec<SocketAddr>)
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut names = self.names();
        let asked = names.entry(name.clone()).or_default();
        // A name whose question was given up with its runtime is asked about again.
        if let Some(coming) = asked.coming.as_ref().filter(|coming| coming.has_changed().is_ok()) {
            return (coming.clone(), asked.last.clone());
        }
        let (said, coming) = watch::channel(None);
        asked.coming = Some(coming.clone());
        let (known, answer) = (self.clone(), resolver(name.clone()));
        tokio::spawn(async move {
            let answer = answer.await.map_err(|error| {
                Exhaustion::of(&error).map_or_else(|| error.to_string(), |what| what.to_string())
            });
            known.end(&name, &answer);
            // The task that asked may not be waiting any more.
            let _ = said.send(Some(answer));
        });
        (coming, asked.last.clone())
    }

    fn end(&self, name: &Name, answer: &Answer) {
        let mut names = self.names();
        let asked = names.entry(name.clone()).or_default();
        asked.coming = None;
        if let Ok(addresses) = answer
            && !addresses.is_empty()
        {
            asked.last = addresses.iter().take(ADDRESSES_KEPT).copied().collect();
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Name, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::Notify;

    use super::*;

    fn name() -> Name {
        ("b.example".into(), 7)
    }

    fn at(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 7).into()
    }

    #[tokio::test]
    async fn localhost_is_this_machine() {
        let found = Names::new().look_up("localhost", 7).await;
        assert!(!found.addresses.is_empty() && found.trouble.is_none(), "{found:?}");
        assert!(found.addresses.iter().all(|it| it.ip().is_loopback() && it.port() == 7));
        // No resolver is asked about a name with an empty label.
        let nobody = Names::new().look_up("a..b", 7).await;
        assert!(nobody.addresses.is_empty() && nobody.trouble.is_some(), "{nobody:?}");
    }

    /// The resolver has all the time in the world for a first answer, or none at all.
    fn names(first: Duration) -> Names {
        Names { patience: [first, Duration::from_millis(1)], ..Names::new() }
    }

    #[tokio::test]
    async fn the_last_answer_stands_until_there_is_another() {
        let names = Names { patience: [FIRST; 2], ..Names::new() };
        let found = names.ask(name(), |_| ready(Ok(vec![at(1)]))).await;
        assert_eq!(found, Resolution { addresses: vec![at(1)], trouble: None });
        let found = names.ask(name(), |_| ready(Err(io::Error::other("no server")))).await;
        assert_eq!(found, Resolution { addresses: vec![at(1)], trouble: Some("no server".into()) });
        let found = names.ask(name(), |_| ready(Ok(vec![at(2)]))).await;
        assert_eq!(found, Resolution { addresses: vec![at(2)], trouble: None });
    }

    #[tokio::test]
    async fn the_address_that_worked_is_the_first_one_as_long_as_the_name_means_it() {
        let names = Names { patience: [FIRST; 2], ..Names::new() };
        let ask = |all: [u8; 2]| names.ask(name(), move |_| ready(Ok(all.map(at).to_vec())));
        assert_eq!(ask([1, 2]).await.addresses, [at(1), at(2)]);
        names.worked("b.example", 7, at(2));
        assert_eq!(ask([1, 2]).await.addresses, [at(2), at(1)]);
        assert_eq!(ask([1, 3]).await.addresses, [at(1), at(3)]);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_asked_once_and_not_waited_for_without_bound() {
        let names = names(Duration::from_millis(1));
        let found = names.ask(name(), |_| pending()).await;
        assert!(found.addresses.is_empty(), "{found:?}");
        assert!(found.trouble.unwrap().contains("has not answered"));
        let unasked = |_| -> std::future::Ready<_> { panic!("it is being asked already") };
        assert!(names.ask(name(), unasked).await.trouble.is_some());
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_there_at_the_next_attempt() {
        let (names, answers) = (names(Duration::from_millis(1)), Arc::new(Notify::new()));
        let wait = Arc::clone(&answers);
        let late = |_| async move {
            wait.notified().await;
            Ok(vec![at(3)])
        };
        assert!(names.ask(name(), late).await.addresses.is_empty());
        answers.notify_one();
        let deadline = tokio::time::Instant::now() + FIRST;
        while names.names()[&name()].coming.is_some() {
            assert!(tokio::time::Instant::now() < deadline, "the answer is not taken note of");
            tokio::task::yield_now().await;
        }
        // A task that asks now has it to go on with, whatever becomes of the question.
        let found = names.ask(name(), |_| pending()).await;
        assert_eq!(found, Resolution { addresses: vec![at(3)], trouble: None });
    }
}
