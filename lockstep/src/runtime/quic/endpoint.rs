//! A UDP socket that dials and accepts authenticated connections.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, NoneTokenStore, Runtime, ServerConfig, TokioRuntime, ValidationTokenConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::Attempted;
use super::gate::{Gate, Gatekeeper};
use super::{BindError, CloseCode, Connection, Settings, SetupError};
use crate::runtime::keys::Role;
use crate::runtime::tls::{self, Credentials, Purpose};

/// Connection attempts that quinn keeps until they are looked at, which happens
/// at the next turn of the accepting task; more are refused.
const INCOMING_MAX: usize = 64;

/// Bytes kept for one such attempt beyond its first packet, and for all of
/// them; what is over is dropped and will be repeated by an honest peer.
const INCOMING_BYTES: u64 = 4 << 10;
const INCOMING_BYTES_ALL: u64 = 64 << 10;

/// The least time between two stateless resets. quinn's 20 ms would tell a thousand clients of a
/// restart within 20 s. A reset is shorter than the packet that it answers, and noise gets none.
const RESET_INTERVAL: Duration = Duration::from_micros(100);

/// The name that TLS asks for in a dial; peers are known by key, not by name.
const NO_NAME: &str = "lockstep";

/// What an endpoint is for.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Address of the UDP socket; port 0 takes any.
    pub local: SocketAddr,
    /// What its connections are for.
    pub purpose: Purpose,
    /// The roles that a peer may have.
    pub wanted: Vec<Role>,
    /// Whether it accepts; otherwise it only dials.
    pub accepts: bool,
    /// Whether it accepts the connections of guardians, whatever else it does.
    pub takes_guardians: bool,
    /// The only address from which it expects anybody, if there is only one: of what comes from
    /// elsewhere next to nothing is looked at.
    pub from: Option<IpAddr>,
    /// Bounds and times of its connections.
    pub settings: Settings,
}

/// A UDP socket that dials and, if told so, accepts. Cheap to clone; the socket
/// is closed when all clones and connections are gone.
#[derive(Clone)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    shared: Arc<Shared>,
    /// Lets packets in, for an endpoint that accepts.
    gatekeeper: Option<Arc<Gatekeeper>>,
}

impl EndpointConfig {
    /// What it accepts connections for.
    fn served(&self) -> Vec<Purpose> {
        let own = self.accepts.then_some(self.purpose);
        own.into_iter().chain(self.takes_guardians.then_some(Purpose::Guardian)).collect()
    }
}

/// What an endpoint's connections have in common.
pub(super) struct Shared {
    pub(super) credentials: Credentials,
    pub(super) purpose: Purpose,
    /// What it accepts connections for.
    served: Vec<Purpose>,
    wanted: Vec<Role>,
    pub(super) settings: Settings,
    /// The accepting side's configuration but for the handshake, which has one
    /// of its own each time.
    server: Option<ServerConfig>,
}

/// One for IPv6 that `dials`, and is not bound to one address, reaches IPv4 as well, whatever the
/// system's default for that is (`net.ipv6.bindv6only`; RFC 3493, section 5.3). Where a process
/// listens is as the system has it, since another process may have the other family's port.
fn bind_udp(local: SocketAddr, dials: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if dials && local.is_ipv6() && local.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

impl Endpoint {
    /// Opens the socket. To be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the address cannot be had or the settings contradict each other.
    pub fn bind(config: EndpointConfig, credentials: Credentials) -> Result<Self, BindError> {
        config.settings.check()?;
        let at = |source| BindError::Address { local: config.local, source };
        let socket = bind_udp(config.local, !config.accepts).map_err(at)?;
        let local = socket.local_addr().map_err(at)?;
        let mut shared = Shared {
            credentials,
            purpose: config.purpose,
            served: config.served(),
            wanted: config.wanted,
            settings: config.settings,
            server: None,
        };
        let accepts = !shared.served.is_empty();
        if accepts {
            shared.server = Some(shared.base_server()?);
        }
        let ids = ids_key(&shared, local);
        let gatekeeper = accepts.then(|| Arc::new(Gatekeeper::new(ids, config.from)));
        let mut socket = TokioRuntime.wrap_udp_socket(socket).map_err(at)?;
        if let Some(gatekeeper) = &gatekeeper {
            socket = Arc::new(Gate::new(socket, Arc::clone(gatekeeper)));
        }
        let inner = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(&shared, local, ids),
            shared.server.clone(),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(at)?;
        Ok(Endpoint { inner, shared: Arc::new(shared), gatekeeper })
    }

    /// The socket's address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr().ok()
    }

    /// Packets of strangers that were not looked at, since their senders had had their share of
    /// a turn.
    pub fn dropped(&self) -> u64 {
        self.gatekeeper.as_ref().map_or(0, |gatekeeper| gatekeeper.dropped())
    }

    /// Whether its socket can send there: one for IPv6 that is not bound to one address reaches
    /// IPv4 as well.
    pub fn reaches(&self, remote: SocketAddr) -> bool {
        self.local_addr().is_none_or(|local| match (local.is_ipv6(), remote.is_ipv6()) {
            (true, false) => local.ip().is_unspecified(),
            (ours, theirs) => ours == theirs,
        })
    }

    /// Dials, proves both keys, and greets.
    ///
    /// # Errors
    /// Says which side refused and why, or that no answer came in time.
    pub async fn connect(&self, remote: SocketAddr) -> Result<Connection, SetupError> {
        let attempted = self.shared.attempted(remote);
        let dial = |reason: String| SetupError::Dial { remote, reason };
        let (config, refusal) = self.shared.client().map_err(dial)?;
        let connecting = self
            .inner
            .connect_with(config, remote, NO_NAME)
            .map_err(|error| dial(error.to_string()))?;
        let setup = async {
            let named = |error| attempted.failed(error, refusal.get().copied());
            let connection = connecting.await.map_err(named)?;
            self.shared.greet_as_dialler(connection, &attempted).await
        };
        tokio::time::timeout(self.shared.settings.setup_within, setup)
            .await
            .unwrap_or_else(|_| Err(attempted.timeout()))
    }

    /// The next attempt of a peer to connect; `None` once the endpoint is
    /// closed, and on one that only dials. Cancel-safe.
    pub async fn accept(&self) -> Option<Attempt> {
        let incoming = self.inner.accept().await?;
        Some(Attempt { incoming, shared: Arc::clone(&self.shared) })
    }

    /// Closes every connection and takes no new ones.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(VarInt::from_u32(code.0), reason.as_bytes());
    }

    /// Waits until every peer knows that its connection is closed, but not
    /// longer than `within`.
    pub async fn wait_idle(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.inner.wait_idle()).await;
    }
}

/// A peer's first packet. Nothing is known of it but where it claims to come from, and next to
/// nothing was spent on it.
pub struct Attempt {
    incoming: quinn::Incoming,
    shared: Arc<Shared>,
}

impl Attempt {
    /// The address in the packet; possibly forged unless
    /// [`is_validated`](Self::is_validated).
    pub fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the sender has shown that it receives at its address.
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Has the sender show that it receives at its address, keeping nothing
    /// until it does (RFC 9000, section 8.1.2). Drops one that already did.
    pub fn retry(self) {
        // Fails only for one that was validated, which is given back and
        // dropped: that refuses it.
        let _ = self.incoming.retry();
    }

    /// Tells the sender to go away; costs one packet.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Forgets it without an answer.
    pub fn ignore(self) {
        self.incoming.ignore();
    }

    /// Goes through handshake and greeting. `greeted` is called once the peer's first message of
    /// the handshake came whole: from then on it has more to lose than a packet.
    ///
    /// # Errors
    /// Says which side refused and why, or that it took too long.
    pub async fn finish(self, greeted: impl FnOnce() + Send) -> Result<Connection, SetupError> {
        let shared = self.shared;
        let attempted = shared.attempted(self.incoming.remote_address());
        let (config, refusal) = shared
            .server()
            .map_err(|reason| SetupError::Dial { remote: attempted.remote, reason })?;
        let setup = async {
            let named = |error| attempted.failed(error, refusal.get().copied());
            let mut connecting = self.incoming.accept_with(config).map_err(named)?;
            connecting.handshake_data().await.map_err(named)?;
            greeted();
            let connection = connecting.await.map_err(named)?;
            shared.greet_as_acceptor(connection, &attempted).await
        };
        tokio::time::timeout(shared.settings.setup_within, setup)
            .await
            .unwrap_or_else(|_| Err(attempted.timeout()))
    }
}

impl Shared {
    fn attempted(&self, remote: SocketAddr) -> Attempted {
        Attempted {
            remote,
            own: self.credentials.secret().public(),
            purpose: self.purpose,
            within: self.settings.setup_within,
        }
    }

    fn base_server(&self) -> Result<ServerConfig, BindError> {
        let (crypto, _) = self.server_crypto().map_err(BindError::Tls)?;
        let mut no_tokens = ValidationTokenConfig::default();
        no_tokens.sent(0);
        let mut config = ServerConfig::with_crypto(crypto);
        config
            .transport_config(self.settings.transport(1))
            .validation_token_config(no_tokens)
            .migration(false)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_ALL);
        Ok(config)
    }

    fn server_crypto(&self) -> Result<(Arc<QuicServerConfig>, tls::Refusal), String> {
        let (config, refusal) = tls::server(&self.credentials, &self.served, &self.wanted)
            .map_err(|error| error.to_string())?;
        let crypto = QuicServerConfig::try_from(config).map_err(|error| error.to_string())?;
        Ok((Arc::new(crypto), refusal))
    }

    fn server(&self) -> Result<(Arc<ServerConfig>, tls::Refusal), String> {
        let (crypto, refusal) = self.server_crypto()?;
        let mut config = self.server.clone().ok_or("this endpoint only dials")?;
        config.crypto = crypto;
        Ok((Arc::new(config), refusal))
    }

    fn client(&self) -> Result<(ClientConfig, tls::Refusal), String> {
        let (config, refusal) = tls::client(&self.credentials, self.purpose, &self.wanted)
            .map_err(|error| error.to_string())?;
        let crypto = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.settings.transport(0)).token_store(Arc::new(NoneTokenStore));
        Ok((config, refusal))
    }
}

fn derived(shared: &Shared, what: &str, local: SocketAddr) -> ring::hmac::Key {
    let context = format!("lockstep quic 1 {what} {local}");
    shared.credentials.secret().derive(context.as_bytes())
}

/// Connection ids carry a tag, made with this key, by which this process and its successors tell
/// them from noise.
fn ids_key(shared: &Shared, local: SocketAddr) -> u64 {
    let ids = ring::hmac::sign(&derived(shared, "connection ids", local), b"");
    ids.as_ref()[..8].iter().fold(0, |ids, byte| ids << 8 | u64::from(*byte))
}

/// The endpoint's part that must be the same after a restart. With it a new process at the same
/// address answers packets for its predecessor by a stateless reset (RFC 9000, section 10.3). So
/// the peer notices a restart after one round trip instead of the idle time. The address is part of
/// the key, so that no endpoint can be used to reset the connections of another (section 21.11).
fn endpoint_config(shared: &Shared, local: SocketAddr, ids: u64) -> quinn::EndpointConfig {
    let reset = derived(shared, "stateless reset", local);
    let mut config = quinn::EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config.min_reset_interval(RESET_INTERVAL);
    // Fails only below 1,200, which the settings exclude.
    let _ = config.max_udp_payload_size(shared.settings.largest_datagram());
    config
}
