//! What a port that accepts looks at of what strangers send.
//!
//! A packet that belongs to no connection costs quinn far more than the kernel needed to deliver
//! it. Keys are derived, a token is checked or made, an answer is sent. All of that is done by the
//! thread that serves the links as well. So whatever does not claim to be of a connection is looked
//! at here first, for the price of a few comparisons. What is beyond a sender's [share](Turns) of
//! the port's turn goes no further. An honest peer repeats its first packet.
//!
//! What a packet claims is not verified here, and neither is the address that it comes from. Every
//! answer of this port has an id that was given out here. A sender that has got one can send
//! packets that claim a connection. Of those quinn gets all, to find out that they are of none.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator};
use tokio::time::Instant;

use crate::limits::STRANGERS_PER_TURN;
use crate::runtime::turns::{Chances, Turns};

#[expect(clippy::disallowed_types, reason = "quinn may receive on any thread")]
type Mutex<T> = std::sync::Mutex<T>;

/// First packets beyond their senders' shares that are looked at in one turn all the same.
const CHANCES: usize = 128;

/// Bytes of the ids that an endpoint gives out.
const ID: usize = 8;

/// A first packet is padded to this length; a shorter one is none (RFC 9000, section 14.1).
const FIRST: usize = 1200;

/// The bit of a packet's first byte that says it has a long header (RFC 8999, section 5.1).
const LONG: u8 = 0x80;

/// A socket with a gate before quinn.
pub(super) struct Gate {
    socket: Arc<dyn AsyncUdpSocket>,
    gatekeeper: Arc<Gatekeeper>,
}

/// Decides which packets are let in.
pub(super) struct Gatekeeper {
    /// Tells ids that were given out here from noise.
    ids: HashedConnectionIdGenerator,
    /// The only address from which anybody is expected, if there is only one.
    from: Option<IpAddr>,
    strangers: Mutex<Strangers>,
}

#[derive(Debug)]
struct Strangers {
    /// Turns of senders that name no id from here, where it may be a first packet.
    first: Turns,
    /// Chances of those of them that had their share, or whose share was used up in their name.
    chances: Chances,
    /// Turns of senders whose packet cannot be a first one, or that are not expected. It may be a
    /// reset of a connection, or noise, which must not take the shares of first packets from the
    /// same address.
    noise: Turns,
    /// Turns of senders that name an id from here, as in a handshake. A flood of first packets
    /// takes none of these shares.
    handshake: Turns,
    /// Packets that were not let in.
    dropped: u64,
}

/// Whose a packet may be. None of it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The packet claims to be of a connection whose handshake is done.
    ClaimsConnection,
    /// The packet claims to be of a handshake that was answered.
    ClaimsHandshake,
    /// The packet is of a peer that begins.
    First,
    /// None of these.
    Noise,
}

impl Gate {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, gatekeeper: Arc<Gatekeeper>) -> Self {
        Self { socket, gatekeeper }
    }
}

impl Gatekeeper {
    /// A gatekeeper for an endpoint whose ids are made with this key, and that expects peers from
    /// one address only, or from all.
    pub(super) fn new(ids: u64, from: Option<IpAddr>) -> Self {
        let ids = HashedConnectionIdGenerator::from_key(ids);
        Self { ids, from, strangers: Mutex::new(Strangers::new()) }
    }

    /// Packets that were not looked at so far.
    pub(super) fn dropped(&self) -> u64 {
        self.strangers().dropped
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        // Nothing panics while it holds the lock.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a packet says of itself, in the fields that all versions have (RFC 8999, section 5).
    fn kind(&self, packet: &[u8]) -> Kind {
        let is_own = |id: Option<&[u8]>| {
            id.is_some_and(|id| self.ids.validate(&ConnectionId::new(id)).is_ok())
        };
        match packet.first() {
            Some(first) if first & LONG == 0 && is_own(packet.get(1..=ID)) => {
                Kind::ClaimsConnection
            }
            Some(first)
                if first & LONG != 0
                    && packet.get(5) == Some(&(ID as u8))
                    && is_own(packet.get(6..6 + ID)) =>
            {
                Kind::ClaimsHandshake
            }
            Some(first) if first & LONG != 0 && packet.len() >= FIRST => Kind::First,
            _ => Kind::Noise,
        }
    }

    fn lets_in(&self, packet: &[u8], source: IpAddr, now: Instant) -> bool {
        let is_expected = self.from.is_none_or(|from| from == source);
        match if is_expected { self.kind(packet) } else { Kind::Noise } {
            Kind::ClaimsConnection => true,
            kind => self.strangers().lets_in(kind, source, now),
        }
    }

    /// Takes out of some packets of one sender those that are let in, each of `stride` bytes but
    /// the last: they are moved to the front. Gives their length.
    fn sift(&self, packets: &mut [u8], stride: usize, source: IpAddr, now: Instant) -> usize {
        let mut kept = 0;
        let mut at = 0;
        while at < packets.len() {
            let end = packets.len().min(at + stride.max(1));
            if self.lets_in(&packets[at..end], source, now) {
                packets.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        kept
    }
}

impl Strangers {
    const fn new() -> Self {
        Self {
            first: Turns::new(STRANGERS_PER_TURN),
            chances: Chances::new(CHANCES),
            noise: Turns::new(STRANGERS_PER_TURN),
            handshake: Turns::new(STRANGERS_PER_TURN),
            dropped: 0,
        }
    }

    fn lets_in(&mut self, kind: Kind, source: IpAddr, now: Instant) -> bool {
        let is_let_in = match kind {
            Kind::ClaimsConnection => true,
            Kind::ClaimsHandshake => self.handshake.take(source, now),
            Kind::First => self.first.take(source, now) || self.chances.take(now),
            Kind::Noise => self.noise.take(source, now),
        };
        self.dropped += u64::from(!is_let_in);
        is_let_in
    }
}

impl AsyncUdpSocket for Gate {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, bufs, meta))?;
        let now = Instant::now();
        for (meta, packets) in meta.iter_mut().zip(bufs).take(received) {
            let packets = &mut packets[..meta.len];
            // quinn passes over what has no length.
            meta.len = self.gatekeeper.sift(packets, meta.stride, meta.addr.ip(), now);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 7;

    #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
    fn now() -> Instant {
        std::time::Instant::now().into()
    }

    fn own_id() -> Vec<u8> {
        HashedConnectionIdGenerator::from_key(KEY).generate_cid().to_vec()
    }

    fn short(id: &[u8]) -> Vec<u8> {
        [&[0x40][..], id, &[0; 20]].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        let mut packet = [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id].concat();
        packet.resize(FIRST, 0);
        packet
    }

    #[test]
    fn a_packet_is_told_by_its_form_and_by_whose_id_it_names() {
        let keeper = Gatekeeper::new(KEY, None);
        let foreign = HashedConnectionIdGenerator::from_key(KEY + 1).generate_cid().to_vec();
        assert_eq!(keeper.kind(&short(&own_id())), Kind::ClaimsConnection);
        assert_eq!(keeper.kind(&long(&own_id())), Kind::ClaimsHandshake);
        for packet in [long(&foreign), long(&[1; 20]), long(&[])] {
            assert_eq!(keeper.kind(&packet), Kind::First);
            assert_eq!(keeper.kind(&packet[..FIRST - 1]), Kind::Noise, "too short");
        }
        for packet in [
            short(&foreign),
            Vec::new(),
            vec![0x40],
            vec![0x40; ID],
            vec![0xc0, 0, 0, 0, 1],
            vec![0xc0, 0, 0, 0, 1, ID as u8, 1],
        ] {
            assert_eq!(keeper.kind(&packet), Kind::Noise, "{packet:?}");
        }
    }

    #[test]
    fn what_is_not_let_in_is_taken_out_from_among_the_rest() {
        let (keeper, now) = (Gatekeeper::new(KEY, None), now());
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let noise = long(&[1; 8]);
        let mut flood = noise.repeat(2 * STRANGERS_PER_TURN);
        let let_in = keeper.sift(&mut flood, noise.len(), source, now) / noise.len();
        assert!(
            (STRANGERS_PER_TURN / 4..=STRANGERS_PER_TURN / 4 + CHANCES).contains(&let_in),
            "{let_in}"
        );
        assert_eq!(keeper.dropped(), (2 * STRANGERS_PER_TURN - let_in) as u64);
        let mut connected = long(&[2; 8]);
        connected[0] = 0x40;
        connected[1..=ID].copy_from_slice(&own_id());
        let last = short(&own_id());
        let mut mixed = [&noise[..], &connected, &noise, &last].concat();
        let kept = keeper.sift(&mut mixed, noise.len(), source, now);
        assert_eq!(mixed[..kept], [connected, last].concat());
        for mut packet in [long(&own_id()), noise[..20].to_vec()] {
            let length = packet.len();
            assert_eq!(keeper.sift(&mut packet, length, source, now), length, "its own share");
        }
    }

    /// A flood of forged first packets takes the share of the address that it names.
    #[test]
    fn somebody_whose_share_was_used_up_by_others_is_let_in_now_and_then() {
        let (keeper, now) = (Gatekeeper::new(KEY, None), now());
        let victim: IpAddr = "192.0.2.1".parse().unwrap();
        let first = long(&[1; 8]);
        let let_in =
            |times: usize| (0..times).filter(|_| keeper.lets_in(&first, victim, now)).count();
        assert!(let_in(STRANGERS_PER_TURN) < STRANGERS_PER_TURN);
        let in_vain = (0..).take_while(|_| let_in(1) == 0).take(STRANGERS_PER_TURN).count();
        assert!(in_vain < 20, "{in_vain} repeated in vain");
        let_in(10 * STRANGERS_PER_TURN);
        assert_eq!(let_in(STRANGERS_PER_TURN), 0, "a turn ends them, too");
    }

    #[test]
    fn who_is_not_expected_takes_nothing_from_the_only_one_who_is() {
        let (peer, stranger) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (keeper, now) = (Gatekeeper::new(KEY, Some(peer)), now());
        for packet in [short(&own_id()), long(&own_id()), long(&[1; 8])] {
            let let_in = |_: &usize| keeper.lets_in(&packet, stranger, now);
            assert!(
                (0..STRANGERS_PER_TURN).filter(let_in).count() <= STRANGERS_PER_TURN / 4,
                "all of one kind"
            );
        }
        assert!(keeper.dropped() >= 2 * STRANGERS_PER_TURN as u64);
        for packet in [short(&own_id()), long(&own_id()), long(&[1; 8])] {
            let let_in = |_: &usize| keeper.lets_in(&packet, peer, now);
            assert_eq!(
                (0..STRANGERS_PER_TURN / 4).filter(let_in).count(),
                STRANGERS_PER_TURN / 4,
                "its whole share"
            );
        }
    }
}
