//! Bytes on one QUIC stream there and back: what a CoServer link costs before
//! any protocol of ours. The other rows are compared with this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use quinn::{AckFrequencyConfig, ClientConfig, Endpoint, ServerConfig, TransportConfig};

use super::{LOOPBACK, REFERENCE, Row, far_side};
use crate::harness::{Cast, PartSpec, Program, RunError, Setup};
use crate::part::{Part, PartError, current_thread};
use crate::placement::Seat;
use crate::talk::{Go, Ready};
use crate::trips::drive_stream;

pub(super) const ECHO: &str = "quinn-echo";
pub(super) const DRIVE: &str = "quinn-drive";

/// The name in the certificate; there is no other use for one.
const NAME: &str = "far-side";

/// A lost packet on a quiet stream costs as long as the far side may withhold
/// an acknowledgement, 25 ms unless asked otherwise.
const MAX_ACK_DELAY: Duration = Duration::from_millis(1);

pub(super) struct Stream;

impl Row for Stream {
    fn name(&self) -> &'static str {
        REFERENCE
    }

    fn about(&self) -> &'static str {
        "quinn stream echo, tokio current_thread, two processes"
    }

    fn cast(&self, _setup: &Setup) -> Result<Cast, RunError> {
        let part = |kind, seat| PartSpec { program: Program::Own, kind, seat, words: Vec::new() };
        Ok(Cast { parts: vec![part(ECHO, Seat::B), part(DRIVE, Seat::A)], keep: None })
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(1_u32.into());
    acknowledgements.max_ack_delay(Some(MAX_ACK_DELAY));
    let mut transport = TransportConfig::default();
    transport.ack_frequency_config(Some(acknowledgements));
    Arc::new(transport)
}

pub(super) fn echo(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])
        .map_err(PartError::other("make a certificate"))?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let detail = to_hex(&certificate);
    let mut config = ServerConfig::with_single_cert(vec![certificate], key)
        .map_err(PartError::other("use the certificate"))?;
    config.transport_config(transport());
    current_thread()?.block_on(async {
        let endpoint = Endpoint::server(config, LOOPBACK).map_err(PartError::io("bind QUIC"))?;
        let address = endpoint.local_addr().map_err(PartError::io("read the address"))?;
        part.ready(Ready::at(address).with_detail(detail))?;
        let incoming = endpoint.accept().await;
        let incoming = incoming.ok_or_else(|| PartError::NoGo("endpoint closed".to_owned()))?;
        let connection = incoming.await.map_err(PartError::other("accept a connection"))?;
        let (mut send, mut receive) =
            connection.accept_bi().await.map_err(PartError::other("accept a stream"))?;
        // Whatever ends the stream, the driver knows better why.
        while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
            if send.write_chunk(chunk.bytes).await.is_err() {
                break;
            }
        }
        Ok(None)
    })
}

pub(super) fn drive(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    current_thread()?.block_on(async {
        let endpoint = Endpoint::client(LOOPBACK).map_err(PartError::io("bind QUIC"))?;
        let go = part.ready(Ready::silent())?;
        let (address, config) = far_config(&go)?;
        let connecting = endpoint
            .connect_with(config, address, NAME)
            .map_err(PartError::other("connect over QUIC"))?;
        let connection = connecting.await.map_err(PartError::other("connect over QUIC"))?;
        let (mut send, mut receive) =
            connection.open_bi().await.map_err(PartError::other("open a stream"))?;
        let histogram = drive_stream(&mut receive, &mut send, part.options.load).await?;
        connection.close(0_u32.into(), b"done");
        endpoint.wait_idle().await;
        Ok(Some(histogram))
    })
}

fn far_config(go: &Go) -> Result<(SocketAddr, ClientConfig), PartError> {
    let (address, detail) = far_side(go)?;
    let certificate =
        from_hex(detail).ok_or_else(|| PartError::NoGo("no certificate".to_owned()))?;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(certificate.to_vec()))
        .map_err(PartError::other("trust the far side"))?;
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots))
        .map_err(PartError::other("trust the far side"))?;
    config.transport_config(transport());
    Ok((address, config))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    if text.is_empty() || !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back_and_anything_else_is_refused() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)).unwrap(), bytes);
        for text in ["", "0", "zz", "\u{e9}"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
