//! Makes one connection.

use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use bytes::Bytes;
use lockstep::device::{Flow, Lease, Want};
use lockstep::exhaustion::Exhaustion;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::conn::{Conn, Socket};
use super::{ConnectionCommand, Shared};
use crate::limits;
use crate::tcp::messages::{Event, Handle, Windows};
use crate::tcp::{ConnectFailure, Target};

pub(super) async fn run(
    shared: Arc<Shared>,
    handle: Handle,
    target: Target,
    timeout: Duration,
    windows: Windows,
    mut commands: mpsc::UnboundedReceiver<ConnectionCommand>,
) {
    // Whatever the service says before the connection is made ends the attempt.
    let made = tokio::select! {
        _ = commands.recv() => None,
        made = connect(&shared, &target, timeout) => Some(made),
    };
    let report = match made {
        Some(Ok((descriptor, (stream, peer, local)))) => {
            let _ = stream.set_nodelay(true);
            let first = Event::Connected { handle, peer, local };
            let socket = Socket { stream, flow: Flow::of_called(peer.ip()), descriptor };
            return Conn::new(shared, handle, socket, windows, commands, &first).await;
        }
        Some(Err(failure)) => failed(handle, &failure),
        None => Event::Ended { handle },
    };
    shared.conns.remove(handle);
    let _ = shared.inputs.push(report.encode()).await;
}

fn failed(handle: Handle, failure: &ConnectFailure) -> Event {
    let (why, text) = failure.parts();
    let text = &text.as_bytes()[..text.len().min(limits::REASON_BYTES)];
    Event::ConnectFailed { handle, why, text: Bytes::copy_from_slice(text) }
}

type Made = (TcpStream, SocketAddr, SocketAddr);

/// A slow resolver takes nothing from the time of the addresses that it finds. The descriptors are
/// there before either begins, and a task that waits for the resolver holds none.
async fn connect(
    shared: &Shared,
    target: &Target,
    timeout: Duration,
) -> Result<(Lease, Made), ConnectFailure> {
    let (mut descriptor, addresses) = match target {
        Target::Address(address) => (descriptors(shared, 1, timeout).await?, vec![*address]),
        Target::Name { host, port, last } => {
            let began = tokio::time::Instant::now();
            let turn = within(timeout, turn_to_look_up(shared)).await?;
            let left = timeout.saturating_sub(began.elapsed());
            let lease = descriptors(shared, limits::NAME_DESCRIPTORS, left).await?;
            let (lease, found) = within(timeout, look_up(host, *port, turn, lease)).await?;
            (lease, in_order(found, last))
        }
    };
    let made = within(timeout, connect_to_one(addresses, timeout)).await?;
    descriptor.shrink_to(1);
    Ok((descriptor, made))
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, ConnectFailure>>,
) -> Result<T, ConnectFailure> {
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(ConnectFailure::TimedOut))
}

/// Waits until there are so many for a connection that is to be made.
async fn descriptors(
    shared: &Shared,
    count: u32,
    timeout: Duration,
) -> Result<Lease, ConnectFailure> {
    let taken = async {
        loop {
            if let Some(lease) = shared.descriptors.try_take(Want::Made, count) {
                return lease;
            }
            tokio::time::sleep(limits::DESCRIPTOR_RETRY).await;
        }
    };
    let taken = tokio::time::timeout(timeout, taken).await;
    taken.map_err(|_| none_left(Exhaustion::ProcessFiles))
}

fn none_left(what: Exhaustion) -> ConnectFailure {
    what.note();
    tracing::warn!(event = "exhausted", why = %what, "a connection cannot be made");
    ConnectFailure::Exhausted(what.to_string())
}

async fn turn_to_look_up(shared: &Shared) -> Result<OwnedSemaphorePermit, ConnectFailure> {
    let turn = Arc::clone(&shared.lookups).acquire_owned().await;
    turn.map_err(|closed| ConnectFailure::Unresolved(closed.to_string()))
}

/// The name is looked up anew for each connection, on one of tokio's threads for what blocks. That
/// thread holds its turn and the descriptors until the resolver has answered, also when no task
/// waits for it any more.
async fn look_up(
    host: &str,
    port: u16,
    turn: OwnedSemaphorePermit,
    lease: Lease,
) -> Result<(Lease, Vec<SocketAddr>), ConnectFailure> {
    let host = host.to_owned();
    let looking_up = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        drop(turn);
        found.map(|found| (lease, found.collect()))
    });
    looking_up.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
        Exhaustion::of(&error)
            .map_or_else(|| ConnectFailure::Unresolved(error.to_string()), none_left)
    })
}

/// The resolver's order, except that IPv6 and IPv4 take turns (RFC 8305 section 4), and that those
/// named in `last` come last. So many addresses of a family without a way out do not hide the
/// other family.
fn in_order(found: Vec<SocketAddr>, last: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut seen = BTreeSet::new();
    let found = found.into_iter().filter(|address| seen.insert(*address));
    let (late, soon): (Vec<_>, Vec<_>) = found.partition(|address| last.contains(address));
    let ordered = [in_turns(soon), in_turns(late)].concat();
    ordered.into_iter().take(limits::ADDRESSES_TRIED).collect()
}

/// The two families alternate, that of the first address first.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| Some(address.is_ipv4()) == first);
    let rounds = one.len().max(other.len());
    let turn = |nth: usize| one.get(nth).into_iter().chain(other.get(nth));
    (0..rounds).flat_map(turn).copied().collect()
}

/// Begins an attempt for each address when the one before has failed or has had its head start;
/// the first connection made wins. So an address that does not answer takes nothing from the
/// time of the others (RFC 5321 section 5.1, RFC 8305 section 5).
async fn connect_to_one(
    addresses: Vec<SocketAddr>,
    timeout: Duration,
) -> Result<Made, ConnectFailure> {
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let head_start = limits::HEAD_START.min(timeout / shares);
    let mut failure = ConnectFailure::Unresolved("the name has no address".into());
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(connect_to(address));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(made))) => return Ok(made),
                Some(Ok(Err(error))) => failure = because(&error),
                // An attempt is never aborted while it is waited for.
                Some(Err(error)) => failure = ConnectFailure::Unreachable(error.to_string()),
                None => return Err(failure),
            },
            () = tokio::time::sleep(head_start), if addresses.len() > 0 => {}
        }
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<Made> {
    let stream = TcpStream::connect(address).await?;
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    Ok((stream, peer, local))
}

fn because(error: &io::Error) -> ConnectFailure {
    if let Some(what) = Exhaustion::of(error) {
        return none_left(what);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectFailure::Refused
        }
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        _ => ConnectFailure::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn run<T>(scenario: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scenario)
    }

    /// A listener whose queue is full: the kernel drops the first packet of the next client, as an
    /// address does where no process listens.
    async fn dropping() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        loop {
            let next = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(300), next).await {
                Ok(stream) => queued.push(stream.unwrap()),
                Err(_) => return (address, (listener, queued)),
            }
        }
    }

    #[test]
    fn an_address_that_drops_packets_leaves_the_others_their_time() {
        run(async {
            let (silent, _held) = dropping().await;
            let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = good.local_addr().unwrap();
            // As long as the first is waited for by itself, this is never enough.
            let timeout = Duration::from_secs(3600);
            let made = connect_to_one(vec![silent, good], timeout);
            let made = tokio::time::timeout(Duration::from_secs(60), made).await;
            assert_eq!(made.expect("the first took all the time").unwrap().1, good);
        });
    }

    #[test]
    fn the_head_start_of_every_address_fits_into_a_short_limit() {
        run(async {
            let (silent, _held) = dropping().await;
            let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = good.local_addr().unwrap();
            let timeout = limits::HEAD_START;
            let hosts = vec![silent, silent, silent, good];
            let made = within(timeout, connect_to_one(hosts, timeout)).await;
            assert_eq!(made.unwrap().1, good);
        });
    }

    #[test]
    fn where_nobody_answers_the_limit_holds_and_refusals_come_at_once() {
        run(async {
            let (silent, _held) = dropping().await;
            let timeout = Duration::from_millis(50);
            let made = within(timeout, connect_to_one(vec![silent], timeout)).await;
            assert_eq!(made.unwrap_err(), ConnectFailure::TimedOut);
            let closed = {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                listener.local_addr().unwrap()
            };
            let made = connect_to_one(vec![closed; 3], Duration::from_secs(3600)).await;
            assert_eq!(made.unwrap_err(), ConnectFailure::Refused);
            let none = connect_to_one(Vec::new(), timeout).await;
            assert!(matches!(none.unwrap_err(), ConnectFailure::Unresolved(_)));
        });
    }

    #[test]
    fn families_take_turns_and_what_did_not_serve_comes_last() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "10.0.0.1:1"]);
        let expected = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_order(found.clone(), &[]), expected);
        let last = addresses(&["[::1]:1", "10.9.9.9:1"]);
        let expected = addresses(&["[::2]:1", "10.0.0.1:1", "[::3]:1", "[::1]:1"]);
        assert_eq!(in_order(found.clone(), &last), expected);
        let expected = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_order(found.clone(), &found), expected, "all are tried in the end");
        let many: Vec<SocketAddr> =
            (0..40).map(|port| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))).collect();
        let with_other = [many, addresses(&["10.0.0.1:1"])].concat();
        let tried = in_order(with_other, &[]);
        assert_eq!(tried.len(), limits::ADDRESSES_TRIED);
        assert!(tried.iter().any(SocketAddr::is_ipv4));
    }
}
