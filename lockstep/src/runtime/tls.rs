//! TLS 1.3 with raw public keys both ways (RFC 8446, RFC 7250).
//!
//! A handshake succeeds only if each side proves a key that its peer's
//! [`Roster`] pins to a role wanted for this [`Purpose`]. There is no
//! certificate, no shared authority, no early data and no resumption: every
//! connection proves both keys anew. The purpose is negotiated by ALPN
//! (RFC 7301), so a connection meant for one port is of no use on another.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use super::keys::{PublicKey, Role, Roster, RosterError, SecretKey};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Between the CoServers of a pair.
    Link,
    /// From a CoServer to the witness.
    Witness,
    /// From a client to a CoServer.
    Client,
    /// From a CoServer's guardian to the other CoServer, on a link's port.
    Guardian,
}

impl Purpose {
    /// The ALPN protocol name; the number in it is the version of the framing.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Purpose::Link => b"lockstep-link/1",
            Purpose::Witness => b"lockstep-witness/1",
            Purpose::Client => b"lockstep-client/1",
            Purpose::Guardian => b"lockstep-guardian/1",
        }
    }

    /// The purpose with that name.
    pub(super) fn of_alpn(name: &[u8]) -> Option<Self> {
        let all = [Purpose::Link, Purpose::Witness, Purpose::Client, Purpose::Guardian];
        all.into_iter().find(|purpose| purpose.alpn() == name)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Link => "link",
            Purpose::Witness => "witness connection",
            Purpose::Client => "client connection",
            Purpose::Guardian => "guardian's connection",
        })
    }
}

/// One's own identity and the keys of everybody else.
#[derive(Debug, Clone)]
pub struct Credentials {
    secret: Arc<SecretKey>,
    /// One for all clones, so that a key that is replaced counts for every port at once. A
    /// handshake takes what it finds when it begins.
    roster: Arc<RwLock<Arc<Roster>>>,
}

impl Credentials {
    /// Brings `secret`, which stands for `role`, and the roster together.
    ///
    /// # Errors
    /// If the roster contradicts that the key holds the role.
    pub fn new(role: Role, secret: SecretKey, roster: Roster) -> Result<Self, RosterError> {
        roster.check_own(role, &secret.public())?;
        Ok(Credentials {
            secret: Arc::new(secret),
            roster: Arc::new(RwLock::new(Arc::new(roster))),
        })
    }

    /// Takes `key` in the place of `old` for `role`, in all clones: `old` is refused by every
    /// handshake that begins from now on. Connections that are up are the caller's to close.
    ///
    /// # Errors
    /// If the key has another role, or is one's own.
    pub fn replace(
        &self,
        role: Role,
        old: &[PublicKey],
        key: PublicKey,
    ) -> Result<(), RosterError> {
        let roster = self.check_replacement(role, old, key)?;
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
        Ok(())
    }

    /// What the roster would be with that replacement.
    ///
    /// # Errors
    /// As for [`replace`](Self::replace).
    pub fn check_replacement(
        &self,
        role: Role,
        old: &[PublicKey],
        key: PublicKey,
    ) -> Result<Roster, RosterError> {
        if key == self.secret.public() {
            return Err(RosterError::Own { key });
        }
        self.roster().replaced(role, old, key)
    }

    /// Takes the keys that another reading of the configuration names, in all clones. Not if
    /// one's own key is another one there: whether it did. Connections that are up are the
    /// caller's to close.
    pub fn take_roster(&self, read: &Self) -> bool {
        let same = self.secret.public() == read.secret.public();
        if same {
            *self.roster.write().unwrap_or_else(PoisonError::into_inner) = read.roster();
        }
        same
    }

    /// The same key among others.
    #[cfg(test)]
    pub(super) fn knowing(&self, roster: Roster) -> Self {
        let secret = Arc::clone(&self.secret);
        Credentials { secret, roster: Arc::new(RwLock::new(Arc::new(roster))) }
    }

    /// One's own key.
    pub(super) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The roster of keys in force.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let spki = CertificateDer::from(self.secret.public().to_spki());
        Arc::new(CertifiedKey::new(vec![spki], self.secret.signer()))
    }
}

/// Why this side refused the peer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Nobody in the roster has this key.
    #[error(
        "the peer's key {key} is not one that the configuration here names; if its key was replaced, write the new one in place of the stale one, else check what runs there"
    )]
    Unknown {
        /// The peer's key.
        key: PublicKey,
    },
    /// The key is known but stands for something else.
    #[error(
        "the peer's key {key} is that of the {held}, which is not whom this connection is for; check the addresses"
    )]
    WrongRole {
        /// The peer's key.
        key: PublicKey,
        /// The role that the key holds.
        held: Role,
    },
    /// Not an Ed25519 key.
    #[error(
        "the peer presented something other than one Ed25519 raw public key; check what runs there"
    )]
    NotEd25519,
}

/// The only TLS verifier of this crate: the peer's key must be pinned to one of
/// the wanted roles, and must have signed the handshake.
#[derive(Debug)]
struct Pinned {
    roster: Arc<Roster>,
    wanted: Vec<Role>,
    refusal: Refusal,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Where a verifier leaves its reason, since rustls passes on only a text. One
/// per handshake.
pub(super) type Refusal = Arc<OnceLock<KeyRefusal>>;

impl Pinned {
    fn new(credentials: &Credentials, wanted: &[Role], provider: &CryptoProvider) -> Self {
        Pinned {
            roster: credentials.roster(),
            wanted: wanted.to_vec(),
            refusal: Refusal::default(),
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn check(
        &self,
        presented: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        judge(&self.roster, &self.wanted, presented, more).map_err(|refusal| {
            // The first reason stands; there is one peer per handshake.
            let _ = self.refusal.set(refusal);
            // Becomes the alert access_denied (RFC 8446, section 6.2).
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        })
    }

    fn verify_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(presented.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }
}

fn judge(
    roster: &Roster,
    wanted: &[Role],
    presented: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
) -> Result<(), KeyRefusal> {
    let key = PublicKey::from_spki(presented)
        .filter(|_| more.is_empty())
        .ok_or(KeyRefusal::NotEd25519)?;
    judge_key(roster, wanted, key)
}

/// Whether a key holds one of these roles.
pub(in crate::runtime) fn judge_key(
    roster: &Roster,
    wanted: &[Role],
    key: PublicKey,
) -> Result<(), KeyRefusal> {
    match roster.role_of(&key) {
        None => Err(KeyRefusal::Unknown { key }),
        Some(held) if wanted.contains(&held) => Ok(()),
        Some(held) => Err(KeyRefusal::WrongRole { key, held }),
    }
}

/// TLS 1.2 is never offered; a peer that gets here is lying.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(presented, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(presented, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration of one handshake on the accepting side, for one of these
/// purposes, and where its refusal will be found.
pub(super) fn server(
    credentials: &Credentials,
    purposes: &[Purpose],
    wanted: &[Role],
) -> Result<(ServerConfig, Refusal), Error> {
    let provider = provider();
    let pinned = Pinned::new(credentials, wanted, &provider);
    let refusal = Arc::clone(&pinned.refusal);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(pinned))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            credentials.certified(),
        )));
    config.alpn_protocols = purposes.iter().map(|purpose| purpose.alpn().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok((config, refusal))
}

/// The configuration of one handshake on the dialling side, and where its
/// refusal will be found.
pub(super) fn client(
    credentials: &Credentials,
    purpose: Purpose,
    wanted: &[Role],
) -> Result<(ClientConfig, Refusal), Error> {
    let provider = provider();
    let pinned = Pinned::new(credentials, wanted, &provider);
    let refusal = Arc::clone(&pinned.refusal);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            credentials.certified(),
        )));
    config.alpn_protocols = vec![purpose.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok((config, refusal))
}
