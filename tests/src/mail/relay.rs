//! A relay on two CoServers, and a next hop in this process.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep::ids::ReplicaId;
use mail_relay::load::Condition;
use mail_relay::sink::{Got, Sink};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use crate::pair::{A, B, DEADLINE, Pair};
use crate::process::wait_for;

/// A runtime for the senders and the next hop of a test, beside the test's own thread.
///
/// # Panics
/// If there is none to be had.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Where the CoServer with this configuration takes mail.
pub(crate) fn listens_at(text: &str) -> Option<SocketAddr> {
    let listen = text.lines().find_map(|line| line.strip_prefix("listen = [\""))?;
    listen.strip_suffix("\"]")?.parse().ok()
}

/// A pair of CoServers that run the relay.
#[derive(Debug)]
pub struct RelayPair {
    /// The processes of the pair.
    pub pair: Pair,
    listen: [SocketAddr; 2],
}

impl RelayPair {
    /// Starts it and waits until it is duplex and takes mail. `more` is added to the relay's
    /// section of both configurations.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn start(
        program: impl Into<PathBuf>,
        silence: Duration,
        next_hop: SocketAddr,
        more: &str,
    ) -> RelayPair {
        Self::start_with(Pair::init(program, silence), next_hop, more)
    }

    /// The same with a pair that was made, and not started.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(mut pair: Pair, next_hop: SocketAddr, more: &str) -> RelayPair {
        let listen = [A, B].map(|part| {
            let file = pair.config(part);
            let text = std::fs::read_to_string(&file).expect("init wrote it");
            let hop = format!("next_hop = \"{next_hop}\"");
            let text = text.replace("next_hop = \"127.0.0.1:2525\"", &hop);
            assert!(text.contains(&hop), "init writes the next hop:\n{text}");
            std::fs::write(&file, format!("{text}{more}\n")).expect("it can be changed");
            listens_at(&text).expect("init writes listen")
        });
        pair.form();
        let relay = RelayPair { pair, listen };
        relay.wait_for_listeners();
        relay
    }

    /// Waits until both take connections: they open their ports by what the relay says, which
    /// has to be on both disks first.
    fn wait_for_listeners(&self) {
        for address in self.listen {
            wait_for(DEADLINE, || TcpStream::connect(address)).unwrap_or_else(|error| {
                panic!("{address} does not listen: {error}{}", self.pair.logs())
            });
        }
    }

    /// Where the CoServer at a place takes mail.
    pub fn at(&self, place: ReplicaId) -> SocketAddr {
        self.listen[place.slot()]
    }

    /// Where both take mail.
    pub fn both(&self) -> Vec<SocketAddr> {
        self.listen.to_vec()
    }
}

/// A [`Hop`] puts each mail off that is for somebody of this local part, so that it stays with the
/// relay.
pub(crate) const PUT_OFF: &str = "later";

/// A next hop that remembers what it got.
#[derive(Debug, Clone)]
pub struct Hop {
    address: SocketAddr,
    state: Arc<Mutex<Received>>,
}

/// A next hop that is not there yet: its port is taken, and refuses connections.
#[derive(Debug)]
pub struct AbsentHop(TcpSocket);

impl AbsentHop {
    /// Takes a port. To be called within a runtime.
    ///
    /// # Panics
    /// If there is none.
    pub fn new() -> AbsentHop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        AbsentHop(socket)
    }

    /// Where it will listen.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("its address")
    }

    /// It takes mail from now on.
    ///
    /// # Panics
    /// If it cannot.
    pub fn appear(self) -> Hop {
        Hop::serve(self.0.listen(1024).expect("the port is its own"))
    }
}

impl Default for AbsentHop {
    fn default() -> AbsentHop {
        AbsentHop::new()
    }
}

/// A mail that came more than once, by who sent it again. A relay names each mail that it takes
/// over, so that a copy of one name is the relay's, and another name is the sender's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// Names beyond the first: the sender brought it again.
    pub resent: u64,
    /// Arrivals beyond the first of each name: the relay delivered it again.
    pub delivered_again: u64,
}

#[derive(Debug, Default)]
struct Received {
    /// How often each came, by the number that its sender gave it and the name that the relay did.
    numbers: BTreeMap<u64, BTreeMap<String, u32>>,
    texts: Vec<Vec<u8>>,
    damaged: u64,
}

impl Hop {
    /// Starts it on a port of its own.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start() -> Hop {
        AbsentHop::new().appear()
    }

    fn serve(listener: TcpListener) -> Hop {
        let sink = Sink::on(listener).putting_off(PUT_OFF);
        let address = sink.address().expect("its address");
        let (sender, mut mails) = mpsc::channel::<Got>(64);
        tokio::spawn(sink.run(sender));
        let hop = Hop { address, state: Arc::default() };
        let state = Arc::clone(&hop.state);
        tokio::spawn(async move {
            while let Some(got) = mails.recv().await {
                let mut state = state.lock().await;
                match got.arrival.number {
                    Some(number) => {
                        let names = state.numbers.entry(number).or_default();
                        *names.entry(relays_name(&got.message.content)).or_default() += 1;
                    }
                    None => state.texts.push(got.message.content.to_vec()),
                }
                state.damaged += u64::from(got.arrival.condition == Condition::Damaged);
            }
        });
        hop
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many different numbered mails came.
    pub async fn count(&self) -> usize {
        self.state.lock().await.numbers.len()
    }

    /// How often each of the numbered mails came.
    pub async fn numbers(&self) -> BTreeMap<u64, u32> {
        let state = self.state.lock().await;
        state.numbers.iter().map(|(number, names)| (*number, names.values().sum())).collect()
    }

    /// The copies of each numbered mail that came more than once.
    pub async fn copies(&self) -> BTreeMap<u64, Copies> {
        let state = self.state.lock().await;
        let of = |names: &BTreeMap<String, u32>| Copies {
            resent: names.len() as u64 - 1,
            delivered_again: names.values().map(|count| u64::from(*count) - 1).sum(),
        };
        let all = state.numbers.iter().map(|(number, names)| (*number, of(names)));
        all.filter(|(_, copies)| *copies != Copies::default()).collect()
    }

    /// The texts of the others, in the order of their arrival.
    pub async fn texts(&self) -> Vec<Vec<u8>> {
        self.state.lock().await.texts.clone()
    }

    /// Numbered mails whose body was changed.
    pub async fn damaged(&self) -> u64 {
        self.state.lock().await.damaged
    }

    /// Waits until this many other mails have come.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn wait_for_texts(&self, count: usize, within: Duration) -> Vec<Vec<u8>> {
        wait_until("the mails to arrive", within, async || {
            let texts = self.texts().await;
            (texts.len() >= count).then_some(texts)
        })
        .await
    }
}

/// The name that the relay gave a mail, out of the trace field that it put in front.
fn relays_name(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let field = text.split(';').next().unwrap_or_default();
    let name = field.split_once(" id ").map(|(_, rest)| rest);
    let name = name.and_then(|rest| rest.split_whitespace().next());
    name.unwrap_or_else(|| panic!("a relay's trace field: {field}")).to_owned()
}

/// Waits until `look` gives something.
///
/// # Panics
/// If that does not come in time.
pub async fn wait_until<T>(what: &str, within: Duration, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
