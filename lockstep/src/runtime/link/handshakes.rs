//! Handshakes in flight, and whose place a newcomer gets when there is none left.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use crate::limits::{
    HANDSHAKES, HANDSHAKES_PER_TURN, HANDSHAKES_UNVALIDATED, UNVALIDATED_PER_TURN,
};
use crate::runtime::turns::{Turn, Turns};
use crate::shares::{AddressBlock, Shares, host};

/// A peer whose first message has not come whole after this time gives way to a newcomer: it is
/// sent at once, in one packet or two.
const GREETING_SOON: Duration = Duration::from_millis(200);

/// A handshake that has taken longer gives way to a newcomer: an honest one has some round trips
/// to make, of a tenth of a second or two.
const HANDSHAKE_SOON: Duration = Duration::from_secs(1);

/// What becomes of an attempt to connect.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake may begin, once that one, if any, has ended.
    Begin(Option<u64>),
    /// The newcomer has to prove its address first, which costs nothing here.
    Retry,
    /// There is no place for it now. An honest peer repeats its first packet.
    Ignore,
}

/// A handshake that is under way.
#[derive(Debug)]
struct Handshake {
    /// The host's address; see [`host`].
    source: IpAddr,
    begun: Instant,
    /// The peer's first message came whole.
    greeted: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

/// The handshakes of a port, by number.
#[derive(Debug)]
pub(super) struct Handshakes {
    shares: Shares<AddressBlock, IpAddr, u64>,
    all: BTreeMap<u64, Handshake>,
    last: u64,
    turn: Turn,
    /// Begun in this turn by senders who have not shown their addresses.
    unvalidated: usize,
    begun: Turns,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        Self {
            shares: Shares::new(),
            all: BTreeMap::new(),
            last: 0,
            turn: Turn::default(),
            unvalidated: 0,
            begun: Turns::new(HANDSHAKES_PER_TURN),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether a handshake may begin, and in whose place.
    pub(super) fn judge(&mut self, source: IpAddr, validated: bool, now: Instant) -> Verdict {
        if !validated {
            return self.judge_unvalidated(now);
        }
        let source = host(source);
        match self.find_place(source, now) {
            Verdict::Begin(instead) if self.begun.take(source, now) => Verdict::Begin(instead),
            _ => Verdict::Ignore,
        }
    }

    fn judge_unvalidated(&mut self, now: Instant) -> Verdict {
        if self.turn.begins(now) {
            self.unvalidated = 0;
        }
        if self.len() >= HANDSHAKES_UNVALIDATED || self.unvalidated >= UNVALIDATED_PER_TURN {
            return Verdict::Retry;
        }
        self.unvalidated += 1;
        Verdict::Begin(None)
    }

    fn find_place(&self, source: IpAddr, now: Instant) -> Verdict {
        if self.len() < HANDSHAKES {
            return Verdict::Begin(None);
        }
        let claimed = self.shares.claim(AddressBlock::of(source), source);
        let claimed = claimed.and_then(|handshakes| handshakes.first());
        match claimed.copied().or_else(|| self.hopeless(source, now)) {
            Some(place) => Verdict::Begin(Some(place)),
            None => Verdict::Ignore,
        }
    }

    /// The oldest of those that will hardly come to anything: an honest peer's first message
    /// comes at once, and the rest soon. Of others only where they have more.
    fn hopeless(&self, source: IpAddr, now: Instant) -> Option<u64> {
        let own = self.shares.held(AddressBlock::of(source));
        let may_be_taken = |one: &Handshake| {
            one.source == source || self.shares.held(AddressBlock::of(one.source)) > own
        };
        let oldest = |hopeless: &dyn Fn(&Handshake) -> bool| {
            let mut all = self.all.iter();
            all.find(|(_, one)| hopeless(one) && may_be_taken(one)).map(|(number, _)| *number)
        };
        let took = |one: &Handshake| now.duration_since(one.begun);
        oldest(&|one| !one.greeted.load(Ordering::Relaxed) && took(one) >= GREETING_SOON)
            .or_else(|| oldest(&|one| took(one) >= HANDSHAKE_SOON))
    }

    /// Takes a place. The second value is to be set when the peer's first message came whole.
    pub(super) fn begin(&mut self, source: IpAddr, now: Instant) -> (u64, Arc<AtomicBool>) {
        self.last += 1;
        let source = host(source);
        let greeted = Arc::new(AtomicBool::new(false));
        self.shares.take(AddressBlock::of(source), source, self.last);
        let handshake = Handshake { source, begun: now, greeted: Arc::clone(&greeted), task: None };
        self.all.insert(self.last, handshake);
        (self.last, greeted)
    }

    /// Notes the task that carries a handshake out.
    pub(super) fn carried_by(&mut self, number: u64, task: AbortHandle) {
        if let Some(handshake) = self.all.get_mut(&number) {
            handshake.task = Some(task);
        }
    }

    /// What carried a handshake out has ended without a word.
    pub(super) fn abandoned(&mut self, task: Id) {
        let carried = |one: &Handshake| one.task.as_ref().is_some_and(|own| own.id() == task);
        let found = self.all.iter().find(|(_, one)| carried(one));
        if let Some(number) = found.map(|(number, _)| *number) {
            self.end(number);
        }
    }

    /// A handshake is over, one way or another; what carries it out is ended.
    pub(super) fn end(&mut self, number: u64) {
        self.shares.give_back(number);
        if let Some(Handshake { task: Some(task), .. }) = self.all.remove(&number) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    struct Port {
        handshakes: Handshakes,
        now: Instant,
    }

    impl Port {
        #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
        fn new() -> Self {
            Self { handshakes: Handshakes::new(), now: std::time::Instant::now().into() }
        }

        /// An attempt from a validated address, a millisecond after the one before.
        fn attempt(&mut self, source: &str) -> Option<(u64, Arc<AtomicBool>)> {
            self.now += SOON;
            let source = source.parse().unwrap();
            let Verdict::Begin(instead) = self.handshakes.judge(source, true, self.now) else {
                return None;
            };
            if let Some(number) = instead {
                self.handshakes.end(number);
            }
            Some(self.handshakes.begin(source, self.now))
        }

        fn has(&self, number: u64) -> bool {
            self.handshakes.all.contains_key(&number)
        }
    }

    #[test]
    fn from_some_on_an_address_is_to_be_shown_first() {
        let mut port = Port::new();
        let stranger = "198.51.100.1".parse().unwrap();
        for _ in 0..HANDSHAKES_UNVALIDATED {
            assert_eq!(port.handshakes.judge(stranger, false, port.now), Verdict::Begin(None));
            port.attempt("198.51.100.1").unwrap();
        }
        assert_eq!(port.handshakes.judge(stranger, false, port.now), Verdict::Retry);
    }

    /// What locked everybody out: as many first packets as there are places, every three seconds.
    #[test]
    fn a_flood_from_one_block_leaves_an_honest_handshake_its_place() {
        let mut port = Port::new();
        let flood = |port: &mut Port, rounds: u32| {
            for round in 0..rounds {
                let (_, greeted) = port.attempt(&format!("198.51.100.{}", round % 4)).unwrap();
                greeted.store(true, Ordering::Relaxed);
            }
        };
        flood(&mut port, HANDSHAKES as u32);
        let (honest, _) = port.attempt("192.0.2.1").expect("a block with less has a claim");
        for _ in 0..1_000 {
            port.attempt("198.51.100.1");
        }
        assert!(port.has(honest));
        assert_eq!(port.handshakes.len(), HANDSHAKES);
    }

    #[test]
    fn the_addresses_of_a_block_share_its_places() {
        let mut port = Port::new();
        for _ in 0..HANDSHAKES {
            let (_, greeted) = port.attempt("127.0.0.2").unwrap();
            greeted.store(true, Ordering::Relaxed);
        }
        let (honest, _) = port.attempt("127.0.0.1").expect("an address with less has a claim");
        for _ in 0..1_000 {
            port.attempt("127.0.0.2");
        }
        assert!(port.has(honest));
    }

    /// One host may have all addresses of a /64.
    #[test]
    fn a_host_shares_as_one_however_many_ipv6_addresses_it_has() {
        let mut port = Port::new();
        for number in 0..HANDSHAKES {
            let (_, greeted) = port.attempt(&format!("2001:db8:1:1::{number:x}")).unwrap();
            greeted.store(true, Ordering::Relaxed);
        }
        assert!(port.attempt("2001:db8:1:1::ffff").is_none(), "it has most");
        let (honest, _) = port.attempt("2001:db8:1:2::1").expect("a neighbour has a claim");
        assert!(port.has(honest));
    }

    #[test]
    fn at_one_address_whoever_began_and_did_not_go_on_gives_way() {
        let mut port = Port::new();
        let honest: Vec<_> = (0..HANDSHAKES - 1)
            .map(|_| {
                let (number, greeted) = port.attempt("192.0.2.1").unwrap();
                greeted.store(true, Ordering::Relaxed);
                number
            })
            .collect();
        let (silent, _) = port.attempt("192.0.2.1").unwrap();
        assert!(port.attempt("192.0.2.1").is_none(), "it has only just come");
        port.now += GREETING_SOON;
        let (next, greeted) = port.attempt("192.0.2.1").expect("in place of the silent one");
        greeted.store(true, Ordering::Relaxed);
        assert!(!port.has(silent) && port.has(next) && honest.iter().all(|one| port.has(*one)));
        assert!(port.attempt("192.0.2.1").is_none(), "a wave of honest peers is no attack");
        port.now += HANDSHAKE_SOON;
        assert!(port.attempt("192.0.2.1").is_some(), "none of them took so long");
        assert!(!port.has(honest[0]));
    }

    /// A first message that is refused costs more than a place: it gives that back at once.
    #[test]
    fn handshakes_that_fail_at_once_begin_no_faster_than_others() {
        let mut port = Port::new();
        let mut begun = |source: &str, validated, times: usize| {
            let source = source.parse().unwrap();
            let begins = |_: &usize| match port.handshakes.judge(source, validated, port.now) {
                Verdict::Begin(_) => {
                    let (number, _) = port.handshakes.begin(source, port.now);
                    port.handshakes.end(number);
                    true
                }
                _ => false,
            };
            (0..times).filter(begins).count()
        };
        assert_eq!(begun("198.51.100.1", false, 10_000), UNVALIDATED_PER_TURN);
        assert_eq!(begun("198.51.100.1", true, 10_000), HANDSHAKES_PER_TURN / 4);
        assert!(begun("198.51.100.2", true, 10) == 10 && begun("192.0.2.1", true, 10) == 10);
        port.now += Duration::from_millis(100);
        let stranger = "192.0.2.1".parse().unwrap();
        assert_eq!(port.handshakes.judge(stranger, false, port.now), Verdict::Begin(None));
    }

    #[test]
    fn what_is_over_leaves_nothing_behind() {
        let mut port = Port::new();
        let (number, _) = port.attempt("192.0.2.1").unwrap();
        port.handshakes.end(number);
        port.handshakes.end(number);
        assert_eq!((port.handshakes.len(), port.handshakes.shares.len()), (0, 0));
    }
}
