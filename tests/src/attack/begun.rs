//! Handshakes that are begun and not gone on with.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use bytes::BytesMut;
use quinn_proto::DatagramEvent;

use super::packets::{Begun, socket};
use super::target::Target;
use super::{Force, at_rate};

/// Begun in a second, at each of the CoServers; of the report: 200, from four addresses.
const RATE: u32 = 200;
const ADDRESSES: u8 = 4;

/// A greeting of this length is in two packets, of which only the first is sent.
const GREETING: usize = 1_600;

/// Attempts whose Retry is waited for; of more the oldest is forgotten.
const WAITING: usize = 64;

/// One address of the attacker: each attempt has a socket of its own, so that the Retry tells which
/// it is for.
struct Attempts {
    waiting: BTreeMap<u64, (UdpSocket, SocketAddr, Begun)>,
    last: u64,
}

pub(super) fn handshakes(
    target: &Target,
    force: Force,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let mut attempts = Attempts { waiting: BTreeMap::new(), last: 0 };
    attempts.begin(target.clients[0])?;
    ready();
    let rate = force.pick(RATE, RATE / 2) * target.clients.len() as u32;
    at_rate(rate, || {
        let to = target.clients[attempts.last as usize % target.clients.len()];
        // Ports may be short for a moment.
        let _ = attempts.begin(to);
        attempts.answer();
    })
}

impl Attempts {
    fn begin(&mut self, to: SocketAddr) -> Result<(), String> {
        let socket = socket((self.last / 2 % u64::from(ADDRESSES)) as u8)?;
        socket.set_nonblocking(true).map_err(|error| error.to_string())?;
        let mut begun = Begun::new(to, GREETING)?;
        let packet = begun.packet().ok_or("no first packet")?;
        let _ = socket.send_to(&packet, to);
        self.last += 1;
        self.waiting.insert(self.last, (socket, to, begun));
        if self.waiting.len() > WAITING {
            self.waiting.pop_first();
        }
        Ok(())
    }

    /// Answers each Retry by a first packet with its token, and nothing else. The attempt is
    /// forgotten then.
    #[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
    fn answer(&mut self) {
        let mut buffer = [0; 2_000];
        self.waiting.retain(|_, (socket, to, begun)| {
            let Ok(length) = socket.recv(&mut buffer) else { return true };
            let (now, data) = (std::time::Instant::now(), BytesMut::from(&buffer[..length]));
            let event = begun.endpoint.handle(now, *to, None, None, data, &mut Vec::new());
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event
                && handle == begun.handle
            {
                begun.connection.handle_event(event);
                if let Some(packet) = begun.packet() {
                    let _ = socket.send_to(&packet, *to);
                }
            }
            false
        });
    }
}
