//! Connections that send mails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::smtp::Domain;
use crate::smtp::client::{
    Action, ClientConfig, ClientSession, Delivery, Input, Outcome, Report, SessionFailure,
};

/// Before a connection is tried again at a server that refused it or was not there.
const PAUSE: Duration = Duration::from_millis(20);

/// How to send.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to: a connection begins with the target of its number, and takes the next one
    /// whenever the present one is lost or refuses.
    pub targets: Vec<SocketAddr>,
    /// Connections at a time.
    pub connections: usize,
    /// An answer that takes longer counts as a lost connection.
    pub patience: Duration,
    /// A mail is given up after this long.
    pub give_up: Duration,
    /// The name in EHLO.
    pub hostname: Domain,
}

/// One mail to be sent.
#[derive(Debug)]
pub struct Job {
    /// The mail; its token is its name in events.
    pub delivery: Delivery,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A mail was answered with 250.
    Accepted {
        /// The number of the mail.
        number: u64,
        /// When the answer came.
        at: Instant,
        /// From the end of its data to the answer; if that was sent more than once, from the
        /// first time.
        latency: Duration,
        /// The server that answered: a position in [`Plan::targets`].
        target: usize,
        /// How often the mail's data had been sent whole before without an answer: each time the
        /// server may have taken it.
        doubts: u32,
    },
    /// A mail was answered with 4xx (it is sent again) or 5xx (it is not).
    Refused {
        /// The number of the mail.
        number: u64,
        /// What the server answered.
        reply: String,
        /// Whether the mail is not sent again.
        for_good: bool,
    },
    /// A connection was lost or refused; if there was a mail on it, it is sent again.
    Trouble {
        /// The server of the connection: a position in [`Plan::targets`].
        target: usize,
        /// When the connection was lost or refused.
        at: Instant,
        /// What happened to the connection.
        why: Trouble,
    },
    /// A mail was given up without an answer.
    GivenUp {
        /// The number of the mail.
        number: u64,
    },
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The system says so.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// No answer came in time.
    #[error("no answer in time")]
    Silent,
    /// The server says so.
    #[error(transparent)]
    Session(#[from] SessionFailure),
}

/// Starts the connections. They end when `jobs` is closed and empty. To be called within a
/// tokio runtime.
pub fn start(
    plan: Plan,
    jobs: mpsc::Receiver<Job>,
    events: mpsc::UnboundedSender<Event>,
) -> JoinSet<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    let plan = Arc::new(plan);
    let mut tasks = JoinSet::new();
    for number in 0..plan.connections {
        let (plan, jobs, events) = (Arc::clone(&plan), Arc::clone(&jobs), events.clone());
        let target = number % plan.targets.len().max(1);
        let mut worker = Worker { plan, events, target, line: None };
        tasks.spawn(async move {
            loop {
                let job = jobs.lock().await.recv().await;
                let Some(job) = job else { break };
                worker.send(job.delivery).await;
            }
            worker.quit().await;
        });
    }
    tasks
}

struct Worker {
    plan: Arc<Plan>,
    events: mpsc::UnboundedSender<Event>,
    target: usize,
    line: Option<Line>,
}

/// A connection to a server, with its session.
struct Line {
    stream: TcpStream,
    session: ClientSession,
    config: ClientConfig,
    /// When the last octet was handed to the kernel.
    sent: Instant,
    /// Whether the session ended under a mail that had been sent whole.
    ended_in_doubt: bool,
}

impl Worker {
    async fn send(&mut self, mail: Delivery) {
        let begun = Instant::now();
        let number = mail.token;
        let (mut doubts, mut first_sent) = (0, None);
        while begun.elapsed() < self.plan.give_up {
            match self.attempt(&mail).await {
                Ok((Outcome::Delivered, sent)) => {
                    let (at, target) = (Instant::now(), self.target);
                    let latency = at - first_sent.unwrap_or(sent);
                    return self.tell(Event::Accepted { number, at, latency, target, doubts });
                }
                Ok((Outcome::Transient(reply), _)) => {
                    self.tell(Event::Refused { number, reply: reply.to_string(), for_good: false });
                    sleep(PAUSE).await;
                }
                Ok((Outcome::Permanent(reply), _)) => {
                    let reply = reply.to_string();
                    return self.tell(Event::Refused { number, reply, for_good: true });
                }
                Err(why) => {
                    let line = self.line.take().filter(Line::is_in_doubt);
                    doubts += u32::from(line.is_some());
                    first_sent = first_sent.or(line.map(|line| line.sent));
                    self.tell(Event::Trouble { target: self.target, at: Instant::now(), why });
                    self.target = (self.target + 1) % self.plan.targets.len();
                    sleep(PAUSE).await;
                }
            }
        }
        self.tell(Event::GivenUp { number });
    }

    /// One try; when all of the mail was sent, and what was said.
    async fn attempt(&mut self, mail: &Delivery) -> Result<(Outcome, Instant), Trouble> {
        let line = match &mut self.line {
            Some(line) => line,
            None => {
                let target = self.plan.targets[self.target];
                let stream = timeout(self.plan.patience, TcpStream::connect(target)).await;
                let stream = stream.map_err(|_| Trouble::Silent)??;
                stream.set_nodelay(true)?;
                self.line.insert(Line {
                    stream,
                    session: ClientSession::open(0),
                    config: ClientConfig::new(self.plan.hostname.clone()),
                    sent: Instant::now(),
                    ended_in_doubt: false,
                })
            }
        };
        let report = line.deliver(mail.clone(), self.plan.patience).await?;
        line.ended_in_doubt = report.in_doubt;
        let sent = line.sent;
        match (report.outcomes.into_iter().next().flatten(), report.failure) {
            (Some(outcome), _) => Ok((outcome, sent)),
            (None, Some(failure)) => Err(failure.into()),
            (None, None) => Err(Trouble::Silent),
        }
    }

    async fn quit(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        let _ = line.take(Input::Quit).await;
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Line {
    /// Whether the server may have taken the last mail without an answer.
    fn is_in_doubt(&self) -> bool {
        self.ended_in_doubt || self.session.is_data_sent()
    }

    async fn deliver(&mut self, mail: Delivery, patience: Duration) -> Result<Report, Trouble> {
        let mut report = self.take(Input::Deliver(mail)).await?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(report) = report {
                return Ok(report);
            }
            let read = timeout(patience, self.stream.read(&mut buffer)).await;
            match read.map_err(|_| Trouble::Silent)?? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                len => report = self.take(Input::Data(&buffer[..len])).await?,
            }
        }
    }

    /// Gives the session its input and does what it says.
    async fn take(&mut self, input: Input<'_>) -> Result<Option<Report>, Trouble> {
        // The session's own deadlines are for days of operation; `patience` is shorter.
        let mut done = None;
        for action in self.session.handle(&self.config, 0, input) {
            match action {
                Action::Send(bytes) => {
                    self.stream.write_all(&bytes).await?;
                    self.sent = Instant::now();
                }
                Action::Done(report) => done = Some(report),
                Action::Close => {}
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::mail;

    /// Takes one mail to its end, says this, and closes.
    async fn take_one(listener: &TcpListener, verdict: &str) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 hop\r\n").await.unwrap();
        let mut line = String::new();
        let mut in_data = false;
        while stream.read_line(&mut line).await.unwrap() > 0 {
            let reply = match line.trim_end() {
                "." => {
                    stream.write_all(verdict.as_bytes()).await.unwrap();
                    return;
                }
                _ if in_data => "",
                "DATA" => "354 go\r\n",
                _ => "250 ok\r\n",
            };
            in_data |= reply.starts_with('3');
            stream.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
    }

    #[tokio::test]
    async fn every_end_of_a_session_under_a_whole_mail_is_a_doubt() {
        for end in ["", "421 4.3.2 bye\r\n", "nonsense\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let plan = Plan {
                targets: vec![listener.local_addr().unwrap()],
                connections: 1,
                patience: Duration::from_secs(60),
                give_up: Duration::from_secs(60),
                hostname: Domain::parse("sender.example").unwrap(),
            };
            let (jobs, queue) = mpsc::channel(1);
            let (events, mut happened) = mpsc::unbounded_channel();
            let _senders = start(plan, queue, events);
            let delivery = mail("run", 0, 100, "example.org").unwrap();
            jobs.send(Job { delivery }).await.unwrap();
            take_one(&listener, end).await;
            take_one(&listener, "250 taken\r\n").await;
            let trouble = happened.recv().await;
            assert!(matches!(trouble, Some(Event::Trouble { .. })), "{end:?}: {trouble:?}");
            let accepted = happened.recv().await;
            assert!(
                matches!(accepted, Some(Event::Accepted { doubts: 1, .. })),
                "{end:?}: {accepted:?}"
            );
        }
    }
}
