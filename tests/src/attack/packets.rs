//! Floods of packets by somebody without a key.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use lockstep::runtime::tls::Purpose;
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Connection, ConnectionHandle, Endpoint, EndpointConfig};

use super::target::Target;
use super::{Force, at_rate};
use crate::rogue_peer::Credulous;

/// Packets a second, of the report: 5 to 20 k.
const INITIALS: u32 = 20_000;
const NOISE: u32 = 40_000;
/// A little of them, for a debug build on a machine that does other things.
const LITTLE: u32 = 2_000;

/// Different first packets; each of them is a new attempt whenever it comes.
const DIFFERENT: usize = 256;

/// A connection that was begun and never goes on by itself.
pub(super) struct Begun {
    pub(super) endpoint: Endpoint,
    pub(super) handle: ConnectionHandle,
    pub(super) connection: Connection,
}

impl Begun {
    /// Begins one. With `padding`, its greeting takes more than a packet.
    #[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
    pub(super) fn new(to: SocketAddr, padding: usize) -> Result<Self, String> {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let begun = endpoint.connect(std::time::Instant::now(), config(padding)?, to, "stranger");
        let (handle, connection) = begun.map_err(|error| error.to_string())?;
        Ok(Self { endpoint, handle, connection })
    }

    /// The next packet that it has to send.
    #[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
    pub(super) fn packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = Vec::new();
        let sent = self.connection.poll_transmit(std::time::Instant::now(), 1, &mut packet)?;
        packet.truncate(sent.size);
        Some(packet)
    }
}

fn config(padding: usize) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.alpn_protocols = vec![Purpose::Client.alpn().to_vec()];
    config.alpn_protocols.extend((0..padding / 200).map(|number| vec![b'a' + number as u8; 200]));
    let crypto = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
    Ok(ClientConfig::new(Arc::new(crypto)))
}

pub(super) fn socket(number: u8) -> Result<UdpSocket, String> {
    UdpSocket::bind(SocketAddr::new(Target::source(number).into(), 0))
        .map_err(|error| error.to_string())
}

pub(super) fn initials(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    let to = target.clients[0];
    let one = |_| Begun::new(to, 0)?.packet().ok_or_else(|| "no first packet".to_owned());
    let packets = (0..DIFFERENT).map(one).collect::<Result<Vec<_>, String>>()?;
    let socket = socket(0)?;
    ready();
    let mut packets = packets.iter().cycle();
    at_rate(force.pick(INITIALS, LITTLE), || {
        if let Some(packet) = packets.next() {
            // What the kernel has no room for is lost, as on a network.
            let _ = socket.send_to(packet, to);
        }
    })
}

pub(super) fn noise(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    let ports: Vec<SocketAddr> = target.clients.iter().chain(&target.links).copied().collect();
    // From the address that the links listen to.
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let mut noise = Noise(1);
    let packets: Vec<Vec<u8>> = (0..1024)
        .map(|_| {
            let length = 1 + usize::from(noise.byte()) * 5;
            (0..length).map(|_| noise.byte()).collect()
        })
        .collect();
    ready();
    let mut number = 0;
    at_rate(force.pick(NOISE, LITTLE), || {
        number += 1;
        let _ = socket.send_to(&packets[number % packets.len()], ports[number % ports.len()]);
    })
}

/// Numbers without pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 56) as u8
    }
}
