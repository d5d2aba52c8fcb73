//! Clients of the mail relay that fill its queue with mails that cannot be delivered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Force;
use super::target::Target;
use crate::mail::{PUT_OFF, runtime};
use crate::pair::DEADLINE;

/// Connections to each of the CoServers.
const CONNECTIONS: usize = 16;
const A_FEW: usize = 4;

/// Octets of a mail.
const LARGE: usize = 512 << 10;
const SMALL: usize = 64 << 10;

/// Between two attempts where no mail was taken.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) fn mails(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    let line = "a line of a mail\r\n";
    let text: Arc<str> = line.repeat(force.pick(LARGE, SMALL) / line.len()).into();
    runtime().block_on(async {
        let full = Arc::new(Notify::new());
        let mut lanes = JoinSet::new();
        for number in 0..force.pick(CONNECTIONS, A_FEW) {
            for to in &target.mail {
                let from = Target::source(number as u8);
                lanes.spawn(bring(from, *to, Arc::clone(&text), Arc::clone(&full)));
            }
        }
        // An attack is what goes on while they have all that they can get.
        let filled = tokio::time::timeout(DEADLINE, full.notified()).await;
        filled.map_err(|_| "no mail is refused: there is room for all of them")?;
        ready();
        while lanes.join_next().await.is_some() {}
        Err("every lane ended".into())
    })
}

/// Brings mails for ever; `full` is told when one is not taken.
async fn bring(from: IpAddr, to: SocketAddr, text: Arc<str>, full: Arc<Notify>) {
    loop {
        // Whatever ends a connection, another follows.
        if let Ok(mut client) = Sender::connect(from, to).await {
            while let Ok(taken) = client.send(&text).await {
                if !taken {
                    full.notify_one();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Sender(BufReader<TcpStream>);

impl Sender {
    async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let mut client = Self(BufReader::new(socket.connect(to).await?));
        client.hear("220").await?;
        client.say("HELO c\r\n").await?;
        Ok(client)
    }

    /// Whether a mail was taken.
    async fn send(&mut self, text: &str) -> std::io::Result<bool> {
        if !self.say("MAIL FROM:<>\r\n").await? {
            return Ok(false);
        }
        self.say(&format!("RCPT TO:<{PUT_OFF}@y.example>\r\n")).await?;
        self.0.write_all(b"DATA\r\n").await?;
        self.hear("354").await?;
        self.0.write_all(text.as_bytes()).await?;
        self.say(".\r\n").await
    }

    /// Says this. Whether it is not put off.
    async fn say(&mut self, text: &str) -> std::io::Result<bool> {
        self.0.write_all(text.as_bytes()).await?;
        self.hear("250").await
    }

    /// Whether the next line begins so, or with 452.
    async fn hear(&mut self, code: &str) -> std::io::Result<bool> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        match line {
            line if line.starts_with(code) => Ok(true),
            line if line.starts_with("452") => Ok(false),
            line => Err(std::io::Error::other(line)),
        }
    }
}
