//! One UDP datagram there and back, blocking sockets: the floor for anything
//! that sleeps while it waits.

use std::net::UdpSocket;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{LOOPBACK, Row, far_side};
use crate::harness::{Cast, PartSpec, Program, RunError, Setup};
use crate::part::{Part, PartError};
use crate::placement::Seat;
use crate::talk::Ready;
use crate::trips::{MAX_SIZE, TripError, Trips};

pub(super) const ECHO: &str = "udp-echo";
pub(super) const DRIVE: &str = "udp-drive";

/// Beyond either, a default socket buffer (208 KiB, with several hundred bytes of the kernel's own
/// per datagram) may drop some, which are not sent again.
const MAX_DATAGRAMS: usize = 64;
const MAX_BYTES: usize = 64 * 1024;

/// On loopback a datagram that is not back by then was dropped.
const LOST_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Datagrams;

impl Row for Datagrams {
    fn name(&self) -> &'static str {
        "udp"
    }

    fn about(&self) -> &'static str {
        "UDP datagram and its echo, blocking sockets, two processes"
    }

    fn unavailable(&self, setup: &Setup) -> Option<String> {
        let load = setup.load;
        let much = load.depth > MAX_DATAGRAMS || load.depth * load.size > MAX_BYTES;
        much.then(|| {
            format!(
                "datagrams would be dropped at this depth; \
                 at most {MAX_DATAGRAMS} messages and {MAX_BYTES} bytes in flight"
            )
        })
    }

    fn cast(&self, _setup: &Setup) -> Result<Cast, RunError> {
        let part = |kind, seat| PartSpec { program: Program::Own, kind, seat, words: Vec::new() };
        Ok(Cast { parts: vec![part(ECHO, Seat::B), part(DRIVE, Seat::A)], keep: None })
    }
}

/// Echoes until the parent ends it.
pub(super) fn echo(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let socket = UdpSocket::bind(LOOPBACK).map_err(PartError::io("bind a UDP socket"))?;
    let address = socket.local_addr().map_err(PartError::io("read the socket's address"))?;
    part.ready(Ready::at(address))?;
    let mut datagram = vec![0; MAX_SIZE];
    loop {
        let (count, from) =
            socket.recv_from(&mut datagram).map_err(PartError::io("receive a datagram"))?;
        socket.send_to(&datagram[..count], from).map_err(PartError::io("send a datagram back"))?;
    }
}

pub(super) fn drive(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let socket = UdpSocket::bind(LOOPBACK).map_err(PartError::io("bind a UDP socket"))?;
    let go = part.ready(Ready::silent())?;
    let (far, _) = far_side(&go)?;
    socket.connect(far).map_err(PartError::io("connect a UDP socket"))?;
    socket.set_read_timeout(Some(LOST_AFTER)).map_err(PartError::io("set a timeout"))?;
    let load = part.options.load;
    let mut trips = Trips::new(load);
    let mut datagram = vec![0; load.size];
    while !trips.is_finished() {
        while let Some(number) = trips.depart() {
            datagram[..8].copy_from_slice(&number.to_le_bytes());
            socket.send(&datagram).map_err(TripError::Io)?;
        }
        let count = socket.recv(&mut datagram).map_err(PartError::io("get a datagram back"))?;
        let number = datagram[..count].first_chunk().map_or(u64::MAX, |b| u64::from_le_bytes(*b));
        trips.arrive(number)?;
    }
    Ok(Some(trips.into_histogram()))
}
