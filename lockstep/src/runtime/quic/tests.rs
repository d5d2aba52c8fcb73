//! Connections over loopback, with real QUIC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;
use crate::ids::ReplicaId;
use crate::runtime::keys::{ClientTerms, PublicKey, Role, Roster, SecretKey};
use crate::runtime::tls::{Credentials, KeyRefusal, Purpose};

pub(crate) const A: Role = Role::CoServer(ReplicaId::A);
pub(crate) const B: Role = Role::CoServer(ReplicaId::B);

/// Everybody's keys, known to everybody, and a stranger whom nobody knows.
pub(crate) struct Cast {
    known: BTreeMap<Role, Credentials>,
    pub(crate) stranger: Credentials,
    /// A second client, with a key of its own.
    pub(crate) other_client: Credentials,
    keys: BTreeMap<Role, PublicKey>,
}

impl Cast {
    pub(crate) fn new() -> Self {
        let mut roster = Roster::new();
        let secrets: BTreeMap<Role, SecretKey> = [A, B, Role::Witness, Role::Client]
            .map(|role| (role, SecretKey::generate().unwrap()))
            .into();
        for (role, secret) in &secrets {
            roster.pin(*role, secret.public()).unwrap();
        }
        let other = SecretKey::generate().unwrap();
        roster.pin(Role::Client, other.public()).unwrap();
        let keys = secrets.iter().map(|(role, secret)| (*role, secret.public())).collect();
        let known = secrets
            .into_iter()
            .map(|(role, secret)| (role, Credentials::new(role, secret, roster.clone()).unwrap()))
            .collect();
        let other_client = Credentials::new(Role::Client, other, roster.clone()).unwrap();
        let mut stranger = Roster::new();
        for role in [A, B, Role::Witness] {
            stranger.pin(role, Self::key(&keys, role)).unwrap();
        }
        let stranger =
            Credentials::new(Role::Client, SecretKey::generate().unwrap(), stranger).unwrap();
        Cast { known, stranger, other_client, keys }
    }

    fn key(keys: &BTreeMap<Role, PublicKey>, role: Role) -> PublicKey {
        keys[&role]
    }

    pub(crate) fn of(&self, role: Role) -> Credentials {
        self.known[&role].clone()
    }

    /// What `role` has, with a bound on how many connections the client's key may have.
    pub(crate) fn bounding_the_client(&self, role: Role, most: usize) -> Credentials {
        let mut roster = Roster::new();
        for (role, key) in self.keys.iter().filter(|(role, _)| **role != Role::Client) {
            roster.pin(*role, *key).unwrap();
        }
        let other = self.other_client.secret().public();
        roster.pin(Role::Client, other).unwrap();
        let terms = ClientTerms { connections: Some(most), ..ClientTerms::default() };
        roster.pin_client(self.key_of(Role::Client), terms).unwrap();
        self.of(role).knowing(roster)
    }

    pub(crate) fn key_of(&self, role: Role) -> PublicKey {
        self.keys[&role]
    }
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("done within 20 s")
}

struct Side<'a> {
    cast: &'a Cast,
    purpose: Purpose,
    settings: Settings,
}

impl<'a> Side<'a> {
    fn of(cast: &'a Cast, purpose: Purpose) -> Self {
        Side { cast, purpose, settings: Settings::of(purpose) }
    }

    fn endpoint(&self, accepts: bool, wanted: &[Role], credentials: Credentials) -> Endpoint {
        let config = EndpointConfig {
            local: loopback(),
            purpose: self.purpose,
            wanted: wanted.to_vec(),
            accepts,
            takes_guardians: false,
            from: None,
            settings: self.settings,
        };
        Endpoint::bind(config, credentials).unwrap()
    }

    fn listener(&self, own: Role, wanted: &[Role]) -> Endpoint {
        self.endpoint(true, wanted, self.cast.of(own))
    }

    fn dialler(&self, own: Role, wanted: Role) -> Endpoint {
        self.endpoint(false, &[wanted], self.cast.of(own))
    }
}

fn accept_one(listener: &Endpoint) -> JoinHandle<Result<Connection, SetupError>> {
    let listener = listener.clone();
    tokio::spawn(async move { listener.accept().await.unwrap().finish(|| ()).await })
}

async fn both(
    listener: &Endpoint,
    dialler: &Endpoint,
) -> (Result<Connection, SetupError>, Result<Connection, SetupError>) {
    let accepted = accept_one(listener);
    let dialled = soon(dialler.connect(listener.local_addr().unwrap())).await;
    (soon(accepted).await.unwrap(), dialled)
}

async fn connected(listener: &Endpoint, dialler: &Endpoint) -> (Connection, Connection) {
    let (accepted, dialled) = both(listener, dialler).await;
    (accepted.unwrap(), dialled.unwrap())
}

async fn link(cast: &Cast) -> (Connection, Connection) {
    let side = Side::of(cast, Purpose::Link);
    connected(&side.listener(A, &[B]), &side.dialler(B, A)).await
}

#[tokio::test]
async fn both_sides_know_whom_they_have() {
    let cast = Cast::new();
    let (mut a, mut b) = link(&cast).await;
    assert_eq!((a.peer().role, a.peer().key), (B, cast.key_of(B)));
    assert_eq!((b.peer().role, b.peer().key), (A, cast.key_of(A)));
    a.send(Bytes::from_static(b"from a")).unwrap();
    b.send(Bytes::from_static(b"from b")).unwrap();
    b.send(Bytes::new()).unwrap();
    soon(a.flush()).await.unwrap();
    soon(b.flush()).await.unwrap();
    assert_eq!(soon(a.recv()).await.unwrap(), "from b");
    assert_eq!(soon(a.recv()).await.unwrap(), "");
    assert_eq!(soon(b.recv()).await.unwrap(), "from a");
    assert!(a.stats().packets_sent > 0);
}

#[tokio::test]
async fn every_purpose_has_its_roles() {
    let cast = Cast::new();
    for (purpose, accepts, dials) in [
        (Purpose::Witness, Role::Witness, A),
        (Purpose::Witness, Role::Witness, B),
        (Purpose::Client, A, Role::Client),
    ] {
        let side = Side::of(&cast, purpose);
        let wanted = if purpose == Purpose::Witness { vec![A, B] } else { vec![Role::Client] };
        let (accepted, dialled) =
            connected(&side.listener(accepts, &wanted), &side.dialler(dials, accepts)).await;
        assert_eq!((accepted.peer().role, dialled.peer().role), (dials, accepts));
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_and_both_are_told() {
    let cast = Cast::new();
    let side = Side::of(&cast, Purpose::Link);
    let stranger = side.endpoint(false, &[A], cast.stranger.clone());
    let (accepted, dialled) = both(&side.listener(A, &[B]), &stranger).await;
    let refusal = accepted.err().unwrap();
    assert!(
        matches!(refusal, SetupError::PeerKey { refusal: KeyRefusal::Unknown { .. }, .. }),
        "{refusal}"
    );
    let told = dialled.err().unwrap();
    assert!(matches!(told, SetupError::OwnKey { .. }), "{told}");
    assert!(told.to_string().contains("enrol"), "{told}");
}

#[tokio::test]
async fn a_key_is_of_no_use_in_another_role_or_place() {
    let cast = Cast::new();
    let side = Side::of(&cast, Purpose::Link);
    for held in [Role::Client, Role::Witness, A] {
        let (accepted, dialled) = both(&side.listener(A, &[B]), &side.dialler(held, A)).await;
        match accepted.err().unwrap() {
            SetupError::PeerKey { refusal, .. } => {
                assert_eq!(refusal, KeyRefusal::WrongRole { key: cast.key_of(held), held });
            }
            other => panic!("{other}"),
        }
        assert!(matches!(dialled.err().unwrap(), SetupError::OwnKey { .. }));
    }
}

#[tokio::test]
async fn a_dialler_refuses_whom_it_did_not_mean() {
    let cast = Cast::new();
    let side = Side::of(&cast, Purpose::Client);
    let (accepted, dialled) =
        both(&side.listener(B, &[Role::Client]), &side.dialler(Role::Client, A)).await;
    let refusal = KeyRefusal::WrongRole { key: cast.key_of(B), held: B };
    match dialled.err().unwrap() {
        SetupError::PeerKey { refusal: found, .. } => assert_eq!(found, refusal),
        other => panic!("{other}"),
    }
    assert!(matches!(accepted.err().unwrap(), SetupError::OwnKey { .. }));
}

#[tokio::test]
async fn a_connection_for_another_purpose_is_refused() {
    let cast = Cast::new();
    let listener = Side::of(&cast, Purpose::Link).listener(A, &[B]);
    let dialler = Side::of(&cast, Purpose::Client).dialler(B, A);
    let (accepted, dialled) = both(&listener, &dialler).await;
    for error in [accepted.err().unwrap(), dialled.err().unwrap()] {
        assert!(matches!(error, SetupError::Purpose { .. }), "{error}");
    }
}

/// A TLS client that believes anybody and shows no key.
fn keyless(raw: bool) -> quinn::ClientConfig {
    #[derive(Debug)]
    struct Anybody(bool);
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    type Signed<'a> = &'a rustls::DigitallySignedStruct;
    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: Signed<'_>,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: Signed<'_>,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ED25519]
        }
        fn requires_raw_public_keys(&self) -> bool {
            self.0
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(raw)))
        .with_no_client_auth();
    config.alpn_protocols = vec![Purpose::Link.alpn().to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

#[tokio::test]
async fn a_tls_client_without_a_key_is_refused() {
    let cast = Cast::new();
    let listener = Side::of(&cast, Purpose::Link).listener(A, &[B]);
    for raw in [true, false] {
        let accepted = accept_one(&listener);
        let client = quinn::Endpoint::client(loopback()).unwrap();
        let connecting =
            client.connect_with(keyless(raw), listener.local_addr().unwrap(), "x").unwrap();
        let refused = async {
            match connecting.await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            }
        };
        let told = soon(refused).await;
        assert!(matches!(told, quinn::ConnectionError::ConnectionClosed(_)), "{told}");
        let error = soon(accepted).await.unwrap().err().unwrap();
        assert!(matches!(error, SetupError::PeerWithoutKey { .. }), "{error}");
    }
}

#[tokio::test]
async fn one_that_is_ending_is_not_taken_for_one_that_is_full() {
    let cast = Cast::new();
    let side = Side::of(&cast, Purpose::Link);
    let (listener, dialler) = (side.listener(A, &[B]), side.dialler(B, A));
    listener.close(CloseCode::SHUTDOWN, "ending");
    let error = soon(dialler.connect(listener.local_addr().unwrap())).await.err().unwrap();
    assert!(matches!(error, SetupError::Unready { .. }), "{error}");
    assert!(!error.to_string().contains("limit"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_a_timeout() {
    let cast = Cast::new();
    let mut side = Side::of(&cast, Purpose::Link);
    side.settings.setup_within = Duration::from_millis(50);
    let nobody = std::net::UdpSocket::bind(loopback()).unwrap();
    let error = soon(side.dialler(B, A).connect(nobody.local_addr().unwrap())).await.err().unwrap();
    assert!(matches!(error, SetupError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_remedy() {
    let cast = Cast::new();
    let other = std::net::UdpSocket::bind(loopback()).unwrap();
    let config = EndpointConfig {
        local: other.local_addr().unwrap(),
        purpose: Purpose::Link,
        wanted: vec![B],
        accepts: true,
        takes_guardians: false,
        from: None,
        settings: Settings::of(Purpose::Link),
    };
    let error = Endpoint::bind(config, cast.of(A)).err().unwrap();
    assert!(error.to_string().contains("another process has it"), "{error}");
}

#[tokio::test]
async fn a_frame_over_the_peers_limit_is_not_sent() {
    let cast = Cast::new();
    let mut small = Side::of(&cast, Purpose::Link);
    small.settings.frame_max = 100;
    let dialler = Side::of(&cast, Purpose::Link).dialler(B, A);
    let (_a, mut b) = connected(&small.listener(A, &[B]), &dialler).await;
    assert_eq!(b.send(Bytes::from(vec![0; 101])), Err(SendError::TooLarge { size: 101, max: 100 }));
    assert_eq!(b.send(Bytes::from(vec![0; 100])), Ok(()));
}

#[tokio::test]
async fn an_oversize_frame_closes_the_connection_with_a_code() {
    let cast = Cast::new();
    let mut small = Side::of(&cast, Purpose::Link);
    small.settings.frame_max = 100;
    let dialler = Side::of(&cast, Purpose::Link).dialler(B, A);
    let (mut a, mut b) = connected(&small.listener(A, &[B]), &dialler).await;
    b.ignore_peer_limit();
    b.send(Bytes::from(vec![1; 100])).unwrap();
    b.send(Bytes::from(vec![2; 101])).unwrap();
    soon(b.flush()).await.unwrap();
    assert_eq!(soon(a.recv()).await.unwrap(), vec![1; 100]);
    let lost = Lost::FrameTooLarge { size: 101, max: 100 };
    assert_eq!(soon(a.recv()).await, Err(lost.clone()));
    assert_eq!(soon(a.recv()).await, Err(lost));
    match soon(b.recv()).await {
        Err(Lost::ByPeer { code, reason }) => {
            assert_eq!(code, CloseCode::FRAME_TOO_LARGE);
            assert!(reason.contains("101"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stalled_reader_bounds_the_sender_and_then_gets_everything() {
    let cast = Cast::new();
    let mut side = Side::of(&cast, Purpose::Link);
    side.settings = Settings {
        frame_max: 1_000,
        queue: 64 << 10,
        send_window: 64 << 10,
        receive_window: 64 << 10,
        ..side.settings
    };
    let (mut a, mut b) = connected(&side.listener(A, &[B]), &side.dialler(B, A)).await;
    let frame = |n: u32| Bytes::from([&n.to_le_bytes()[..], &[0; 96]].concat());
    let mut sent = 0;
    // Full for good once nothing moves for a while although nobody reads.
    loop {
        while a.send(frame(sent)).is_ok() {
            sent += 1;
        }
        if tokio::time::timeout(Duration::from_millis(200), a.flush()).await.is_err()
            && a.budget() < 104
        {
            break;
        }
    }
    let in_bytes = sent as usize * 104;
    assert!(in_bytes <= 3 * (64 << 10), "{in_bytes} bytes taken");
    let reader = async {
        for n in 0..sent + 1_000 {
            assert_eq!(b.recv().await.unwrap(), frame(n));
        }
    };
    let writer = async {
        for n in sent..sent + 1_000 {
            while a.send(frame(n)).is_err() {
                a.flush().await.unwrap();
            }
        }
        a.flush().await.unwrap();
    };
    soon(async { tokio::join!(reader, writer) }).await;
}

#[tokio::test]
async fn a_connection_finished_in_good_order_loses_nothing() {
    let cast = Cast::new();
    let (mut a, mut b) = link(&cast).await;
    for n in 0..1_000u32 {
        a.send(Bytes::from(vec![n as u8; 1_000])).unwrap();
    }
    let code = CloseCode(CloseCode::FREE.0 + 7);
    let finish = a.finish(code, "moved away", Duration::from_secs(10));
    let reader = async {
        for n in 0..1_000u32 {
            assert_eq!(b.recv().await.unwrap(), vec![n as u8; 1_000]);
        }
        b.recv().await
    };
    let (_, end) = soon(async { tokio::join!(finish, reader) }).await;
    assert_eq!(end, Err(Lost::ByPeer { code, reason: "moved away".into() }));
}

#[tokio::test]
async fn what_came_before_the_end_is_read_after_it() {
    let cast = Cast::new();
    let (mut a, mut b) = link(&cast).await;
    a.send_urgent(Bytes::from_static(b"here")).unwrap();
    a.send(Bytes::from_static(b"goodbye")).unwrap();
    let code = CloseCode(CloseCode::FREE.0 + 7);
    soon(a.finish(code, "moved away", Duration::from_secs(10))).await;
    // The end is known before anything was read.
    soon(b.watch()).await;
    let mut read = Vec::new();
    while let Ok(frame) = soon(b.recv()).await {
        read.push(frame);
    }
    assert!(read.contains(&Bytes::from_static(b"goodbye")), "{read:?}");
}

#[tokio::test]
async fn large_frames_cross_whole() {
    let cast = Cast::new();
    let mut side = Side::of(&cast, Purpose::Link);
    side.settings.mtu = Some(6_000);
    let (mut a, mut b) = connected(&side.listener(A, &[B]), &side.dialler(B, A)).await;
    let large: Bytes = (0..4 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>().into();
    a.send(large.clone()).unwrap();
    a.send(Bytes::from_static(b"and a small one")).unwrap();
    let (flushed, first) = soon(async { tokio::join!(a.flush(), b.recv()) }).await;
    flushed.unwrap();
    assert!(first.unwrap() == large);
    assert_eq!(soon(b.recv()).await.unwrap(), "and a small one");
}

#[tokio::test]
async fn an_urgent_frame_goes_before_megabytes_that_wait() {
    let cast = Cast::new();
    let (mut a, mut b) = link(&cast).await;
    let mut sent = 0;
    // Until no more fits: neither here nor on the way nor there.
    while a.send(Bytes::from(vec![0; 1 << 20])).is_ok() {
        sent += 1;
        let _ = tokio::time::timeout(Duration::from_millis(20), a.flush()).await;
    }
    assert!(sent >= 8 && !a.is_flushed());
    a.send_urgent(Bytes::from_static(b"here")).unwrap();
    let reading = async {
        let mut before = 0;
        while b.recv().await.unwrap() != "here" {
            before += 1;
        }
        before
    };
    let before = soon(async {
        tokio::select! {
            before = reading => before,
            // It would wait for what is to be read.
            _ = a.recv() => unreachable!("nothing is sent to it"),
        }
    });
    let before = before.await;
    assert!(before <= sent / 2, "{before} of {sent} came first");
}

#[tokio::test]
async fn without_a_stream_for_them_urgent_frames_go_with_the_others() {
    let cast = Cast::new();
    let old = |cast| {
        let mut side = Side::of(cast, Purpose::Link);
        side.settings.urgent = 0;
        side
    };
    let new = Side::of(&cast, Purpose::Link);
    for (listens, dials) in [(&old(&cast), &new), (&new, &old(&cast))] {
        let (mut a, mut b) = connected(&listens.listener(A, &[B]), &dials.dialler(B, A)).await;
        for (from, to) in [(true, "a"), (false, "b")] {
            let (one, other) = if from { (&mut a, &mut b) } else { (&mut b, &mut a) };
            one.send_urgent(Bytes::from_static(to.as_bytes())).unwrap();
            soon(one.flush()).await.unwrap();
            assert_eq!(soon(other.recv()).await.unwrap(), to);
        }
    }
}

#[tokio::test]
async fn urgent_frames_that_nobody_takes_are_bounded() {
    let cast = Cast::new();
    let (mut a, b) = link(&cast).await;
    let large = Bytes::from(vec![0; Settings::of(Purpose::Link).urgent]);
    assert!(matches!(a.send_urgent(large), Err(SendError::TooLarge { .. })));
    let frame = Bytes::from(vec![0; 1 << 10]);
    let taken = (0..100).take_while(|_| a.send_urgent(frame.clone()).is_ok()).count();
    assert!((8..20).contains(&taken), "{taken}");
    assert!(matches!(a.send_urgent(frame), Err(SendError::Full { .. })));
    drop(b);
}
