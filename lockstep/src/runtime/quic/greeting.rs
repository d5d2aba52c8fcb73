//! The first bytes on the stream, after which a connection is up.

use quinn::crypto::rustls::HandshakeData;
use quinn::{RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;

use super::endpoint::Shared;
use super::error::Attempted;
use super::urgent::UrgentLane;
use super::{CloseCode, Connection, Peer, SetupError};
use crate::runtime::keys::PublicKey;
use crate::runtime::tls::{KeyRefusal, Purpose};

/// The greeting: these bytes, then the largest frame taken, little-endian.
const MAGIC: [u8; 8] = *b"lockstep";
const GREETING: usize = MAGIC.len() + 4;

impl Shared {
    pub(super) async fn greet_as_dialler(
        &self,
        connection: quinn::Connection,
        attempted: &Attempted,
    ) -> Result<Connection, SetupError> {
        let named = |error| attempted.failed(error, None);
        let mut streams = connection.open_bi().await.map_err(named)?;
        self.send_greeting(&connection, &mut streams.0, attempted).await?;
        self.up(connection, streams, attempted).await
    }

    pub(super) async fn greet_as_acceptor(
        &self,
        connection: quinn::Connection,
        attempted: &Attempted,
    ) -> Result<Connection, SetupError> {
        let named = |error| attempted.failed(error, None);
        let mut streams = connection.accept_bi().await.map_err(named)?;
        self.send_greeting(&connection, &mut streams.0, attempted).await?;
        self.up(connection, streams, attempted).await
    }

    async fn send_greeting(
        &self,
        connection: &quinn::Connection,
        stream: &mut SendStream,
        attempted: &Attempted,
    ) -> Result<(), SetupError> {
        let mut greeting = [0; GREETING];
        greeting[..MAGIC.len()].copy_from_slice(&MAGIC);
        let max = u32::try_from(self.settings.frame_max).unwrap_or(u32::MAX);
        greeting[MAGIC.len()..].copy_from_slice(&max.to_le_bytes());
        stream.write_all(&greeting).await.map_err(|_| lost_or_rude(connection, attempted))
    }

    /// Reads the peer's greeting; with it the connection is up.
    async fn up(
        &self,
        connection: quinn::Connection,
        mut streams: (SendStream, RecvStream),
        attempted: &Attempted,
    ) -> Result<Connection, SetupError> {
        let mut greeting = [0; GREETING];
        streams
            .1
            .read_exact(&mut greeting)
            .await
            .map_err(|_| lost_or_rude(&connection, attempted))?;
        let (magic, max) = greeting.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(lost_or_rude(&connection, attempted));
        }
        let max = max.iter().rev().fold(0, |max, byte| max << 8 | usize::from(*byte));
        let peer = self.peer(&connection, attempted)?;
        let urgent = match self.settings.urgent {
            0 => None,
            bytes => {
                let opened = UrgentLane::open(&connection, bytes).await;
                opened.map_err(|error| attempted.failed(error, None))?
            }
        };
        Ok(Connection::new(connection, streams, urgent, peer, max, &self.settings))
    }

    fn peer(
        &self,
        connection: &quinn::Connection,
        attempted: &Attempted,
    ) -> Result<Peer, SetupError> {
        let remote = attempted.remote;
        let key = key_of(connection)
            .ok_or(SetupError::PeerKey { remote, refusal: KeyRefusal::NotEd25519 })?;
        let role = self
            .credentials
            .roster()
            .role_of(&key)
            .ok_or(SetupError::PeerKey { remote, refusal: KeyRefusal::Unknown { key } })?;
        let purpose = purpose_of(connection).unwrap_or(self.purpose);
        Ok(Peer { role, key, remote, purpose })
    }
}

/// A stream that failed because the connection did, or else a peer that does not
/// speak this framing, which is then told so.
fn lost_or_rude(connection: &quinn::Connection, attempted: &Attempted) -> SetupError {
    if let Some(error) = connection.close_reason() {
        return attempted.failed(error, None);
    }
    connection.close(VarInt::from_u32(CloseCode::BAD_GREETING.0), b"no lockstep greeting");
    SetupError::Greeting { remote: attempted.remote }
}

/// What the handshake was for, where it could be for more than one thing.
fn purpose_of(connection: &quinn::Connection) -> Option<Purpose> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    Purpose::of_alpn(&data.protocol?)
}

fn key_of(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PublicKey::from_spki(chain.first()?)
}
