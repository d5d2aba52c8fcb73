//! A next hop that takes everything and says what it got, for trying a relay.
//!
//! On ordinary sockets, one task for each connection. For each mail it prints one line to its
//! standard output, in words that a program can read:
//!
//! ```text
//! listening 127.0.0.1:2525
//! mail <number or -> <run or -> <sound|damaged|unknown> <octets>
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lockstep::clap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::limits;
use crate::load::{Arrival, Condition};
use crate::net::Network;
use crate::smtp::server::{
    Action, Input, Refusal, ServerConfig, ServerSession, Surroundings, Verdict,
};
use crate::smtp::{Domain, Message};

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// Where and how to take mail.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkOptions {
    /// The address to listen on; with port 0 the system chooses one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    pub listen: SocketAddr,
    /// Where each mail is written to as a file of its own, if anywhere: numbered, after those that
    /// are there
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// A mail that came.
#[derive(Debug, Clone)]
pub struct Got {
    /// What the mail says of itself.
    pub arrival: Arrival,
    /// The mail as it came.
    pub message: Message,
}

/// Why a sink cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The sink cannot listen on its address.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Listen {
        /// The address that was given.
        address: SocketAddr,
        /// What the system reported.
        source: io::Error,
    },
    /// The sink cannot write to its directory.
    #[error("cannot write to {}: {source}; make the directory, or name another one", directory.display())]
    Write {
        /// The directory that was given.
        directory: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("nobody reads what the sink says: {0}")]
    Output(io::Error),
}

impl SinkError {
    /// Whether only the one who listened is gone.
    pub fn is_unheard(&self) -> bool {
        matches!(self, SinkError::Output(_))
    }
}

/// A sink that listens.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    put_off: Option<&'static str>,
}

impl Sink {
    /// Takes the address.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn bind(listen: SocketAddr) -> Result<Sink, SinkError> {
        let listener = TcpListener::bind(listen).await;
        listener.map(Sink::on).map_err(|source| SinkError::Listen { address: listen, source })
    }

    /// Takes mail on a listener that is there.
    pub fn on(listener: TcpListener) -> Sink {
        Sink { listener, put_off: None }
    }

    /// Puts every mail off (452) that is for somebody of this local part.
    #[must_use]
    pub fn putting_off(mut self, local_part: &'static str) -> Sink {
        self.put_off = Some(local_part);
        self
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes mail until `mails` is closed.
    pub async fn run(self, mails: mpsc::Sender<Got>) {
        let room = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = std::sync::Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = mails.closed() => return,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of descriptors, perhaps: others end meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (mails, put_off) = (mails.clone(), self.put_off);
            tokio::spawn(async move {
                // A client that goes away is no concern of the sink's.
                let _ = serve(stream, peer, mails, put_off).await;
                drop(permit);
            });
        }
    }
}

/// A server that lets everybody send everything.
fn config() -> Option<ServerConfig> {
    let mut config = ServerConfig::new(Domain::parse("sink.example").ok()?);
    config.max_message = 64 * limits::MESSAGE_BYTES;
    for network in ["0.0.0.0/0", "::/0"] {
        config.policy.allow_network(network.parse::<Network>().ok()?);
    }
    Some(config)
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    mails: mpsc::Sender<Got>,
    put_off: Option<&'static str>,
) -> io::Result<()> {
    let Some(config) = config() else { return Ok(()) };
    stream.set_nodelay(true)?;
    let env = Surroundings::new(&config, 0);
    let (mut session, mut actions) = ServerSession::open(env, peer.ip());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut work = std::collections::VecDeque::from(actions);
        while let Some(action) = work.pop_front() {
            match action {
                Action::Reply(bytes) => stream.write_all(&bytes).await?,
                Action::Accepted(mail)
                    if mail.recipients.iter().any(|to| Some(to.local()) == put_off) =>
                {
                    let verdict = Input::Verdict(Verdict::Refused(Refusal::QueueFull));
                    work.extend(session.handle(env, verdict));
                }
                Action::Accepted(mail) => {
                    let arrival = Arrival::read(&mail.message.content);
                    let got = Got { arrival, message: mail.message };
                    if mails.send(got).await.is_err() {
                        return Ok(());
                    }
                    let verdict = Input::Verdict(Verdict::Queued("here"));
                    work.extend(session.handle(env, verdict));
                }
                Action::Close => return stream.shutdown().await,
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => actions = session.handle(env, Input::Data(&buffer[..len])),
        }
    }
}

/// Runs a sink that prints what it gets, until its output is not read any more.
///
/// # Errors
/// What it cannot do.
pub async fn run(options: SinkOptions) -> Result<(), SinkError> {
    // Before any mail is taken that could then not be written.
    let mut count = match &options.directory {
        Some(directory) => last_number(directory)
            .map_err(|source| SinkError::Write { directory: directory.clone(), source })?,
        None => 0,
    };
    let sink = Sink::bind(options.listen).await?;
    let address = sink.address();
    let address =
        address.map_err(|source| SinkError::Listen { address: options.listen, source })?;
    let mut out = io::stdout();
    print(&mut out, &format!("listening {address}\n"))?;
    // Bounded: a sink whose output is not read takes no more mail.
    let (sender, mut mails) = mpsc::channel(64);
    tokio::spawn(sink.run(sender));
    while let Some(got) = mails.recv().await {
        count += 1;
        if let Some(directory) = &options.directory {
            let path = directory.join(format!("{count:06}.eml"));
            let text = [&got.message.trace[..], &got.message.content[..]].concat();
            File::create_new(path)
                .and_then(|mut file| file.write_all(&text))
                .map_err(|source| SinkError::Write { directory: directory.clone(), source })?;
        }
        print(&mut out, &line(&got))?;
    }
    Ok(())
}

/// The number of the last mail in a directory; 0 if there is none.
fn last_number(directory: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".eml")?.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

fn line(got: &Got) -> String {
    let Arrival { number, run, condition } = &got.arrival;
    let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let run = if run.is_empty() { "-" } else { run };
    let condition = match condition {
        Condition::Sound => "sound",
        Condition::Damaged => "damaged",
        Condition::Unknown => "unknown",
    };
    format!("mail {number} {run} {condition} {}\n", got.message.size())
}

/// Waits, with everything else, while nobody reads: then no more mail is taken.
fn print(out: &mut io::Stdout, text: &str) -> Result<(), SinkError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SinkError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_numbered_after_those_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let last = || last_number(directory.path()).unwrap();
        assert_eq!(last(), 0);
        for name in ["000007.eml", "000003.eml", "notes.eml", "000009.txt"] {
            File::create_new(directory.path().join(name)).unwrap();
        }
        assert_eq!(last(), 7);
        File::create_new(directory.path().join("1000000.eml")).unwrap();
        assert_eq!(last(), 1_000_000);
    }
}
