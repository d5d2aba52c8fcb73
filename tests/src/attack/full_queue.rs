//! Clients of the mail relay that fill its queue with mails that cannot be delivered.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::Force;
use super::honest::pause;
use super::target::Target;
use crate::mail::{Client, PUT_OFF};
use crate::pair::DEADLINE;

/// Connections to each of the CoServers.
const CONNECTIONS: usize = 16;
const A_FEW: usize = 4;

/// Octets of a mail.
const LARGE: usize = 512 << 10;
const SMALL: usize = 64 << 10;

/// Between two attempts where no mail was taken.
const AGAIN: Duration = Duration::from_millis(20);

#[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
pub(super) fn mails(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    let line = "a line of a mail\r\n";
    let text: Arc<str> = line.repeat(force.pick(LARGE, SMALL) / line.len()).into();
    let (full, is_full) = channel();
    let mut lanes = Vec::new();
    for number in 0..force.pick(CONNECTIONS, A_FEW) {
        for to in target.mail.iter().copied() {
            let (from, text, full) = (Target::source(number as u8), text.clone(), full.clone());
            lanes.push(std::thread::spawn(move || fill(from, to, &text, &full)));
        }
    }
    // An attack is what goes on while they have all that they can get.
    let filled = is_full.recv_timeout(DEADLINE);
    filled.map_err(|_| "no mail is refused: there is room for all of them")?;
    ready();
    lanes.into_iter().for_each(|lane| drop(lane.join()));
    Err("every lane ended".into())
}

/// Brings mails for ever; `full` is told when one is not taken.
fn fill(from: Ipv4Addr, to: SocketAddr, text: &str, full: &Sender<()>) {
    loop {
        // Whatever ends a connection, another follows.
        let _ended: Result<Infallible, String> = bring(from, to, text, full);
        pause(AGAIN);
    }
}

/// Brings mails over one connection until that ends.
fn bring(
    from: Ipv4Addr,
    to: SocketAddr,
    text: &str,
    full: &Sender<()>,
) -> Result<Infallible, String> {
    let mut client = Client::connect_from(from, to)?;
    client.greet()?;
    loop {
        if !send(&mut client, text)? {
            let _ = full.send(());
            pause(AGAIN);
        }
    }
}

/// Whether a mail was taken, and not put off at its beginning or at its end.
fn send(client: &mut Client, text: &str) -> Result<bool, String> {
    if !is_taken(client.ask("MAIL FROM:<>\r\n")?)? {
        return Ok(false);
    }
    client.say(&format!("RCPT TO:<{PUT_OFF}@y.example>\r\n"), "250")?;
    client.say("DATA\r\n", "354")?;
    is_taken(client.ask(&format!("{text}.\r\n"))?)
}

fn is_taken(said: String) -> Result<bool, String> {
    match said {
        said if said.starts_with("250") => Ok(true),
        said if said.starts_with("452") => Ok(false),
        said => Err(said),
    }
}
