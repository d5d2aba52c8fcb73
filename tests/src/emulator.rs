//! A link emulator: a UDP forwarder on a CoServer link, which needs no privileges.
//!
//! It stands between place B, which dials it, and place A, which sees packets from it only:
//!
//! ```text
//! B (local) <---> [toward_b]  emulator  [toward_a] <---> A (local)
//! ```
//!
//! Both of its sockets have the link's own IP address, since A listens to no other.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packets on their way in one direction. A real link drops what is over its buffer, too.
const PACKETS: usize = 4096;

/// How soon a thread notices that it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A direction of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// From B to A.
    A,
    /// From A to B.
    B,
}

/// What a direction does to packets.
#[derive(Debug, Default)]
struct Way {
    cut: AtomicBool,
    delay_us: AtomicU64,
    loss_percent: AtomicU32,
    passed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    toward_a: Way,
    toward_b: Way,
    /// The port that B dials from, where that is not known before; 0 until it has.
    dialled_from: AtomicU16,
    ended: AtomicBool,
}

/// Where one end of the link is.
#[derive(Clone, Copy, Debug)]
enum End {
    At(SocketAddr),
    /// Wherever it dials from, the last time, on this host.
    Dials(IpAddr),
}

/// A running emulator; ends when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Emulator {
    /// A link as good as loopback between `a`, where A listens, and B at `b`.
    ///
    /// # Errors
    /// If no socket or thread is to be had.
    pub fn start(a: SocketAddr, b: SocketAddr) -> io::Result<Self> {
        Self::between(a, End::At(b))
    }

    /// The same for one that dials `a` from a port of the same host that nobody knows before, as
    /// a CoServer does its witness.
    ///
    /// # Errors
    /// If no socket or thread is to be had.
    pub fn start_before(a: SocketAddr) -> io::Result<Self> {
        Self::between(a, End::Dials(a.ip()))
    }

    fn between(a: SocketAddr, b: End) -> io::Result<Self> {
        let socket = || {
            let socket = UdpSocket::bind((a.ip(), 0))?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok::<_, io::Error>(socket)
        };
        let (from_b, from_a) = (socket()?, socket()?);
        let address = from_b.local_addr()?;
        let (way_a, way_b) = (Way::default(), Way::default());
        let (dialled_from, ended) = (AtomicU16::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { toward_a: way_a, toward_b: way_b, dialled_from, ended });
        let a = End::At(a);
        let mut emulator = Self { address, shared, threads: Vec::new() };
        emulator.direction(from_b.try_clone()?, b, from_a.try_clone()?, a, Toward::A)?;
        emulator.direction(from_a, a, from_b, b, Toward::B)?;
        Ok(emulator)
    }

    fn direction(
        &mut self,
        from: UdpSocket,
        sender: End,
        to: UdpSocket,
        receiver: End,
        toward: Toward,
    ) -> io::Result<()> {
        let (put, take) = sync_channel(PACKETS);
        let shared = Arc::clone(&self.shared);
        let out = to.try_clone()?;
        self.spawn(move || {
            take_in(&from, sender, &out, receiver, &put, shared.way(toward), &shared)
        })?;
        let shared = Arc::clone(&self.shared);
        self.spawn(move || give_out(&take, &to, receiver, &shared))
    }

    fn spawn(&mut self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("link-emulator".into()).spawn(body)?;
        self.threads.push(thread);
        Ok(())
    }

    /// What B has to dial instead of A.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through any more.
    pub fn cut(&self) {
        self.cut_toward(Toward::A);
        self.cut_toward(Toward::B);
    }

    /// Lets nothing through in one direction.
    pub fn cut_toward(&self, toward: Toward) {
        self.shared.way(toward).cut.store(true, Ordering::SeqCst);
    }

    /// As good as at the start.
    pub fn mend(&self) {
        for toward in [Toward::A, Toward::B] {
            let way = self.shared.way(toward);
            way.cut.store(false, Ordering::SeqCst);
            way.loss_percent.store(0, Ordering::SeqCst);
            way.delay_us.store(0, Ordering::SeqCst);
        }
    }

    /// Delays every packet by so long.
    pub fn delay(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        for toward in [Toward::A, Toward::B] {
            self.shared.way(toward).delay_us.store(by, Ordering::SeqCst);
        }
    }

    /// Loses so many of a hundred packets.
    pub fn lose(&self, percent: u32) {
        for toward in [Toward::A, Toward::B] {
            self.shared.way(toward).loss_percent.store(percent, Ordering::SeqCst);
        }
    }

    /// Packets let through, and packets dropped, so far.
    pub fn counts(&self, toward: Toward) -> (u64, u64) {
        let way = self.shared.way(toward);
        (way.passed.load(Ordering::SeqCst), way.dropped.load(Ordering::SeqCst))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn way(&self, toward: Toward) -> &Way {
        match toward {
            Toward::A => &self.toward_a,
            Toward::B => &self.toward_b,
        }
    }

    /// Whether a packet is from this end.
    fn is_from(&self, end: End, source: SocketAddr) -> bool {
        match end {
            End::At(address) => source == address,
            End::Dials(host) => {
                let there = source.ip() == host;
                if there {
                    self.dialled_from.store(source.port(), Ordering::SeqCst);
                }
                there
            }
        }
    }

    /// Where a packet for this end goes, once that is known.
    fn address_of(&self, end: End) -> Option<SocketAddr> {
        match end {
            End::At(address) => Some(address),
            End::Dials(host) => {
                let port = self.dialled_from.load(Ordering::SeqCst);
                (port != 0).then_some(SocketAddr::new(host, port))
            }
        }
    }

    fn send(&self, socket: &UdpSocket, packet: &[u8], to: End) -> bool {
        self.address_of(to).is_some_and(|to| socket.send_to(packet, to).is_ok())
    }
}

impl Way {
    /// Whether the link drops this packet. Loss is spread by a fixed sequence, so that runs
    /// can be compared.
    fn drops(&self, draw: &mut u64) -> bool {
        // Knuth's MMIX generator; its high bits are good enough for a percentage.
        *draw =
            draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = (*draw >> 33) % 100 < u64::from(self.loss_percent.load(Ordering::SeqCst));
        lost || self.cut.load(Ordering::SeqCst)
    }
}

/// A packet on its way, and when it arrives.
type InFlight = (Instant, Vec<u8>);

#[expect(clippy::disallowed_methods, reason = "an emulated link keeps real time")]
fn take_in(
    from: &UdpSocket,
    sender: End,
    out: &UdpSocket,
    receiver: End,
    put: &SyncSender<InFlight>,
    way: &Way,
    shared: &Shared,
) {
    let mut buffer = vec![0; 1 << 16];
    let mut draw = 1;
    while !shared.ended.load(Ordering::SeqCst) {
        // Errors are read timeouts, or the refusal of an earlier packet by one that is away.
        let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
        if !shared.is_from(sender, source) {
            continue;
        }
        let packet = &buffer[..length];
        let delay = Duration::from_micros(way.delay_us.load(Ordering::SeqCst));
        let taken = if way.drops(&mut draw) {
            false
        } else if delay.is_zero() {
            shared.send(out, packet, receiver)
        } else {
            put.try_send((Instant::now() + delay, packet.to_vec())).is_ok()
        };
        let counter = if taken { &way.passed } else { &way.dropped };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "an emulated link keeps real time")]
fn give_out(take: &Receiver<InFlight>, to: &UdpSocket, receiver: End, shared: &Shared) {
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((due, packet)) = take.recv_timeout(LOOK) else { continue };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = shared.send(to, &packet, receiver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let (length, source) = socket.recv_from(&mut buffer).expect("a packet");
        (buffer[..length].to_vec(), source)
    }

    #[test]
    fn it_forwards_both_ways_and_cuts_each() {
        let (a, b) = (socket(), socket());
        let link = Emulator::start(a.local_addr().unwrap(), b.local_addr().unwrap()).unwrap();
        b.send_to(b"one", link.address()).unwrap();
        let (packet, toward_b) = received(&a);
        assert_eq!(packet, b"one");
        a.send_to(b"two", toward_b).unwrap();
        assert_eq!(received(&b), (b"two".to_vec(), link.address()));
        link.cut_toward(Toward::A);
        b.send_to(b"lost", link.address()).unwrap();
        a.send_to(b"three", toward_b).unwrap();
        assert_eq!(received(&b).0, b"three");
        while link.counts(Toward::A).1 == 0 {
            std::thread::yield_now();
        }
        link.mend();
        link.delay(Duration::from_millis(1));
        b.send_to(b"four", link.address()).unwrap();
        assert_eq!(received(&a).0, b"four");
    }

    #[test]
    fn it_answers_whoever_dials() {
        let a = socket();
        let link = Emulator::start_before(a.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            let b = socket();
            b.send_to(b"one", link.address()).unwrap();
            let (packet, toward_b) = received(&a);
            assert_eq!(packet, b"one");
            a.send_to(b"two", toward_b).unwrap();
            assert_eq!(received(&b), (b"two".to_vec(), link.address()));
        }
    }
}
