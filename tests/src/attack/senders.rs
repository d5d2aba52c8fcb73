//! Honest clients of a relay, and the next hop that is to get whatever was accepted from them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail_relay::load;
use tokio::runtime::Runtime;

use super::honest::{Counts, Honest, pause};
use crate::mail::{Client, Hop, RelayPair, runtime};
use crate::pair::{DEADLINE, Pair};
use crate::process::wait_for;

/// The block of addresses of the honest clients, in which nobody else is.
const FROM: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 67, 1), Ipv4Addr::new(127, 0, 67, 2)];

/// Between two mails of the client that stays.
const PAUSE: Duration = Duration::from_millis(1);

/// Octets of each mail, about.
const SIZE: usize = 1 << 10;

/// What was accepted, and what came of it.
#[derive(Debug)]
pub(super) struct Mails {
    runtime: Runtime,
    hop: Hop,
    /// So many were sent. Whoever is refused one ends with an error, so that all were accepted if
    /// nobody did.
    sent: Arc<AtomicU64>,
}

impl Mails {
    /// Starts this pair as a relay with a next hop, and its clients. `more` is added to the
    /// relay's settings.
    pub(super) fn start(pair: Pair, more: &str) -> (Pair, Honest, Self) {
        let runtime = runtime();
        let hop = runtime.block_on(Hop::start());
        let relay = RelayPair::start_with(pair, hop.address(), more);
        let to = relay.both();
        let sent = Arc::new(AtomicU64::new(0));
        let (steady, anew) = (Numbers(Arc::clone(&sent)), Numbers(Arc::clone(&sent)));
        let first = to[0];
        let honest = Honest::start(
            Box::new(move |counts| send(first, &steady, counts)),
            Box::new(move |counts| come(&to, &anew, counts)),
        );
        (relay.pair, honest, Self { runtime, hop, sent })
    }

    /// Waits until everything that was accepted has arrived, after the clients ended without
    /// complaint. Nobody was removed, so that nothing comes twice.
    pub(super) fn all_arrive(&self) -> Result<(), String> {
        let sent = self.sent.load(Ordering::SeqCst);
        let all = || match self.runtime.block_on(self.hop.count()) as u64 {
            came if came < sent => Err(came),
            _ => Ok(()),
        };
        wait_for(DEADLINE, all)
            .map_err(|came| format!("of {sent} mails, all accepted, {came} have arrived"))?;
        let damaged = self.runtime.block_on(self.hop.damaged());
        let copies = self.runtime.block_on(self.hop.copies());
        if damaged == 0 && copies.is_empty() {
            return Ok(());
        }
        Err(format!("{damaged} mails were changed on the way; copies came of these: {copies:?}"))
    }
}

/// Brings mails over one connection.
fn send(to: SocketAddr, mails: &Numbers, counts: &Counts) -> Result<(), String> {
    let mut client = Client::connect_from(FROM[0], to)?;
    client.greet()?;
    while counts.go_on() {
        client.send(&mails.next()?)?;
        counts.answered();
        pause(PAUSE);
    }
    client.say("QUIT\r\n", "221")
}

/// Brings each mail over a connection of its own, to one CoServer and the other in turn.
fn come(to: &[SocketAddr], mails: &Numbers, counts: &Counts) -> Result<(), String> {
    for to in to.iter().cycle().take_while(|_| counts.go_on()) {
        let bring = || {
            let mut client = Client::connect_from(FROM[1], *to)?;
            client.greet()?;
            client.send(&mails.next()?)?;
            client.say("QUIT\r\n", "221")
        };
        bring().map_err(|why| format!("a new client: {why}"))?;
        counts.served();
    }
    Ok(())
}

/// Mails, each with a number that no other has.
struct Numbers(Arc<AtomicU64>);

impl Numbers {
    /// The next one, as it is to be said after DATA.
    fn next(&self) -> Result<String, String> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        let mail = load::mail("attacked", number, SIZE, "honest.example");
        let mail = mail.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&mail.message.content);
        // RFC 5321 section 4.5.2. Its last line ends with the one that ends the mail.
        Ok(text.trim_end_matches("\r\n").replace("\r\n.", "\r\n.."))
    }
}
