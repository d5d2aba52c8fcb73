//! Somebody on the network who speaks QUIC and holds some key, and otherwise says what they like:
//! none of the library's own checks are on this side.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lockstep::runtime::keys::SecretKey;
use lockstep::runtime::tls::Purpose;
pub use quinn::Connection;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::runtime::{Builder, Runtime};

/// The library's greeting: its name, then the largest frame taken.
const GREETING: [u8; 12] = *b"lockstep\x00\x00\x10\x00";

/// Longer than any process takes to refuse somebody.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stranger's endpoint, with any number of connections from one address.
#[derive(Debug)]
pub struct Stranger {
    runtime: Runtime,
    endpoint: Endpoint,
    key: Arc<CertifiedKey>,
}

impl Stranger {
    /// One at this address with the key in this file.
    ///
    /// # Panics
    /// If the file holds no key, or there is no socket.
    pub fn new(at: IpAddr, key: &std::path::Path) -> Self {
        let public = SecretKey::load(key).expect("a key").public().to_spki();
        let secret = PrivateKeyDer::from_pem_file(key).expect("a key");
        let signer = rustls::crypto::ring::sign::any_supported_type(&secret).expect("a key");
        let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signer));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = {
            let _entered = runtime.enter();
            Endpoint::client(SocketAddr::new(at, 0)).expect("a socket")
        };
        Self { runtime, endpoint, key }
    }

    fn config(&self, purpose: Purpose) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&self.key),
            )));
        config.alpn_protocols = vec![purpose.alpn().to_vec()];
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3")))
    }

    /// Connects. A server's refusal of the key comes later, as the connection's
    /// [end](Self::ended).
    ///
    /// # Errors
    /// If no connection comes about in time.
    pub fn connect(&self, remote: SocketAddr, purpose: Purpose) -> Result<Connection, String> {
        self.connect_many(remote, purpose, 1).pop().expect("one was asked for")
    }

    /// Connects many times at once.
    pub fn connect_many(
        &self,
        remote: SocketAddr,
        purpose: Purpose,
        many: usize,
    ) -> Vec<Result<Connection, String>> {
        let config = self.config(purpose);
        self.runtime.block_on(async {
            let one = || {
                let connecting = self.endpoint.connect_with(config.clone(), remote, "stranger");
                tokio::spawn(async move {
                    let connecting = connecting.map_err(|error| error.to_string())?;
                    tokio::time::timeout(PATIENCE, connecting)
                        .await
                        .map_err(|error| error.to_string())?
                        .map_err(|error| error.to_string())
                })
            };
            let tasks: Vec<_> = (0..many).map(|_| one()).collect();
            let mut connections = Vec::new();
            for task in tasks {
                connections.push(task.await.expect("it does not panic"));
            }
            connections
        })
    }

    /// Runs this, with connections of this endpoint.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Connects, within [`block_on`](Self::block_on), and greets as the library does.
    ///
    /// # Errors
    /// If no connection comes about in time.
    pub async fn greet(
        &self,
        remote: SocketAddr,
        purpose: Purpose,
    ) -> Result<(Connection, SendStream, RecvStream), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let greeted = async {
            let connecting = self.endpoint.connect_with(self.config(purpose), remote, "stranger");
            let connection = connecting.map_err(|error| said(&error))?;
            let connection = connection.await.map_err(|error| said(&error))?;
            let (mut send, mut receive) =
                connection.open_bi().await.map_err(|error| said(&error))?;
            send.write_all(&GREETING).await.map_err(|error| said(&error))?;
            let mut greeting = GREETING;
            receive.read_exact(&mut greeting).await.map_err(|error| said(&error))?;
            Ok((connection, send, receive))
        };
        tokio::time::timeout(PATIENCE, greeted).await.map_err(|error| said(&error))?
    }

    /// Greets as the library does, then says this on the connection's stream.
    /// Gives the stream, which ends when it is dropped.
    pub fn say(&self, connection: &Connection, bytes: &[u8]) -> Option<(SendStream, RecvStream)> {
        self.runtime.block_on(async {
            let (mut send, receive) = connection.open_bi().await.ok()?;
            send.write_all(&GREETING).await.ok()?;
            // Refused halfway is refused, too.
            let _ = send.write_all(bytes).await;
            Some((send, receive))
        })
    }

    /// Takes what has come meanwhile.
    pub fn poll(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }

    /// Waits for the other side to end the connection, and gives its reason.
    ///
    /// # Panics
    /// If it does not.
    pub fn ended(&self, connection: &Connection) -> ConnectionError {
        let ended = async { tokio::time::timeout(PATIENCE, connection.closed()).await };
        self.runtime.block_on(ended).expect("the connection was not refused")
    }
}

/// Believes every server.
#[derive(Debug)]
pub(crate) struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
