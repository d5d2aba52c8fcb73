//! Makes one connection.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;

use super::conn::Conn;
use super::{Command, Shared};
use crate::limits;
use crate::tcp::words::{Handle, Report, Windows};
use crate::tcp::{ConnectFailure, Target};

pub(super) async fn run(
    shared: Arc<Shared>,
    handle: Handle,
    target: Target,
    timeout: Duration,
    windows: Windows,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    // Whatever the service says before the connection is made ends the attempt.
    let made = tokio::select! {
        _ = commands.recv() => None,
        made = tokio::time::timeout(timeout, connect(&target)) => {
            Some(made.unwrap_or(Err(ConnectFailure::TimedOut)))
        }
    };
    let report = match made {
        Some(Ok((stream, peer, local))) => {
            let _ = stream.set_nodelay(true);
            let first = Report::Connected { handle, peer, local };
            return Conn::new(shared, handle, stream, windows, commands, &first).await;
        }
        Some(Err(failure)) => failed(handle, &failure),
        None => Report::Ended { handle },
    };
    shared.conns.remove(handle);
    let _ = shared.inputs.push(report.encode()).await;
}

fn failed(handle: Handle, failure: &ConnectFailure) -> Report {
    let (why, text) = failure.parts();
    let text = &text.as_bytes()[..text.len().min(limits::REASON_BYTES)];
    Report::ConnectFailed { handle, why, text: Bytes::copy_from_slice(text) }
}

type Made = (TcpStream, SocketAddr, SocketAddr);

async fn connect(target: &Target) -> Result<Made, ConnectFailure> {
    let mut failure = ConnectFailure::Unresolved("the name has no address".into());
    for address in resolve(target).await? {
        match connect_to(address).await {
            Ok(made) => return Ok(made),
            Err(error) => failure = because(&error),
        }
    }
    Err(failure)
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, ConnectFailure> {
    match target {
        Target::Address(address) => Ok(vec![*address]),
        Target::Name { host, port } => match lookup_host((host.as_str(), *port)).await {
            Ok(found) => Ok(found.take(limits::ADDRESSES_TRIED).collect()),
            Err(error) => Err(ConnectFailure::Unresolved(error.to_string())),
        },
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<Made> {
    let stream = TcpStream::connect(address).await?;
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    Ok((stream, peer, local))
}

fn because(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectFailure::Refused
        }
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        _ => ConnectFailure::Unreachable(error.to_string()),
    }
}
