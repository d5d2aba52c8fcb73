//! Clients of the mail relay that take places, and bring no mail.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lockstep::runtime::descriptors;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Force;
use super::target::Target;
use crate::mail::runtime;
use crate::pair::DEADLINE;

/// To each of the CoServers; of the report: a thousand, which is also what both take together by
/// default. Those beyond that knock all the time.
const CONNECTIONS: usize = 600;
const A_FEW: usize = 64;

/// Half of them are from one address, the others from as many of its block.
const NEIGHBOURS: usize = 200;

/// Between two attempts to come again, and between two bytes of one that says a byte now and then.
const AGAIN: Duration = Duration::from_millis(20);
const NOW_AND_THEN: Duration = Duration::from_millis(100);

/// What is said of a mail before its text.
const ENVELOPE: &str = "EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n";

/// Octets of a mail that does not come whole.
const PART: usize = 64 << 10;

/// What one of them does once it has a place.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// It says nothing.
    Silent,
    /// It says who it is and that it has a mail, and nothing more.
    Greeted,
    /// It sends some of a mail.
    InData,
    /// It says a byte now and then, of a mail without end.
    Slow,
}

impl Manner {
    const ALL: [Self; 4] = [Self::Silent, Self::Greeted, Self::InData, Self::Slow];
}

pub(super) fn clients(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    if target.mail.len() != 2 {
        return Err("both CoServers of a relay are to be attacked".into());
    }
    descriptors::raise();
    runtime().block_on(async {
        let full = Arc::new(Notify::new());
        let mut lanes = JoinSet::new();
        for number in 0..force.pick(CONNECTIONS, A_FEW) * target.mail.len() {
            let to = target.mail[number % target.mail.len()];
            let manner = Manner::ALL[number / target.mail.len() % Manner::ALL.len()];
            lanes.spawn(take_a_place(source(number), to, manner, Arc::clone(&full)));
        }
        // An attack is what goes on while they have all that they can get.
        let filled = tokio::time::timeout(DEADLINE, full.notified()).await;
        filled.map_err(|_| "no connection is turned away: there is room for all of them")?;
        ready();
        while lanes.join_next().await.is_some() {}
        Err("every lane ended".into())
    })
}

/// The address of one of them.
fn source(number: usize) -> IpAddr {
    let among = number / 2 % (2 * NEIGHBOURS);
    Target::source(among.saturating_sub(NEIGHBOURS) as u8).into()
}

/// Takes a place whenever there is one; `full` is told when there is none.
async fn take_a_place(from: IpAddr, to: SocketAddr, manner: Manner, full: Arc<Notify>) {
    loop {
        match come(from, to, manner).await {
            Ok(true) => {}
            Ok(false) => full.notify_one(),
            // Reset, or short of ports for a moment.
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether there was a place, after it was lost.
async fn come(from: IpAddr, to: SocketAddr, manner: Manner) -> std::io::Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(to).await?;
    let mut code = [0; 3];
    stream.read_exact(&mut code).await?;
    if code != *b"220" {
        return Ok(false);
    }
    // Whatever becomes of it then, it had one.
    let _ = keep(&mut stream, manner).await;
    Ok(true)
}

/// Keeps the connection until the relay ends it.
async fn keep(stream: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    match manner {
        Manner::Silent => {}
        Manner::Greeted => {
            stream.write_all(ENVELOPE.trim_end_matches("DATA\r\n").as_bytes()).await?
        }
        Manner::InData => {
            let part = "a line of a mail\r\n".repeat(PART / 18);
            stream.write_all(format!("{ENVELOPE}{part}").as_bytes()).await?;
        }
        Manner::Slow => {
            for byte in ENVELOPE.bytes().chain("slow\r\n".bytes().cycle()) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(NOW_AND_THEN).await;
            }
        }
    }
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}
