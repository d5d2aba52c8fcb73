//! A client with a key that is valid, and manners that are not the library's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lockstep::ids::{Nonce, PairId, RequestNumber, SessionId};
use lockstep::runtime::config::{ClientConfig, Overrides};
use lockstep::runtime::tls::Purpose;
use lockstep::wire::codec::{decode_client_answers, encode_client_calls};
use lockstep::wire::frames::{ClientAnswer, ClientCall, Versions};
use quinn::{Connection, RecvStream, SendStream};

use super::stage::RIVAL;
use super::target::Target;
use crate::rogue_peer::Stranger;

/// Longer than any answer to one who opens sessions.
const ANSWER_MAX: usize = 128 << 10;

/// Another one in every process: a mark stands for a client.
#[expect(clippy::disallowed_methods, reason = "an attacker is outside the pair")]
fn first_mark() -> u64 {
    u64::from(std::process::id()) << 32 | 1
}

/// One endpoint with a client's key.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) stranger: Stranger,
    pair: PairId,
    marks: Arc<AtomicU64>,
}

/// One of its connections.
pub(super) struct Line {
    /// Closed when it is dropped.
    _connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// What came in a frame with the last answer.
    answers: VecDeque<ClientAnswer>,
    marks: Arc<AtomicU64>,
}

/// A session on such a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    session: SessionId,
    token: Nonce,
}

impl Rival {
    pub(super) fn new(target: &Target, number: u8) -> Result<Self, String> {
        let file = target.directory.join(format!("{RIVAL}.toml"));
        let config = ClientConfig::read(&file, &Overrides::new());
        let pair = config.map_err(|error| error.to_string())?.pair;
        let key = target.directory.join(format!("keys/{RIVAL}.key"));
        let stranger = Stranger::new(Target::source(number).into(), &key);
        let marks = Arc::new(AtomicU64::new(first_mark()));
        Ok(Self { stranger, pair, marks })
    }

    /// Connects, and waits until it is welcome.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<Line, String> {
        let (connection, send, receive) = self.stranger.greet(to, Purpose::Client).await?;
        let marks = Arc::clone(&self.marks);
        let mut line =
            Line { _connection: connection, send, receive, answers: VecDeque::new(), marks };
        line.call(&ClientCall::Hello { pair: self.pair, protocol: Versions::SPOKEN }).await?;
        loop {
            match line.answer().await? {
                ClientAnswer::Welcome { .. } => return Ok(line),
                ClientAnswer::Refused { reason } => return Err(reason.to_string()),
                _ => {}
            }
        }
    }
}

impl Line {
    async fn call(&mut self, call: &ClientCall) -> Result<(), String> {
        let frame = encode_client_calls(&vec![call.clone()]).map_err(|error| error.to_string())?;
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
        let framed = [&length[..], &frame].concat();
        self.send.write_all(&framed).await.map_err(|error| error.to_string())
    }

    async fn answer(&mut self) -> Result<ClientAnswer, String> {
        if let Some(answer) = self.answers.pop_front() {
            return Ok(answer);
        }
        let mut length = [0; 4];
        let read = self.receive.read_exact(&mut length).await;
        read.map_err(|error| error.to_string())?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ANSWER_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        let mut frame = vec![0; length];
        self.receive.read_exact(&mut frame).await.map_err(|error| error.to_string())?;
        let answers = decode_client_answers(&frame).map_err(|error| error.to_string())?;
        self.answers.extend(answers);
        self.answers.pop_front().ok_or_else(|| "a frame without an answer".to_owned())
    }

    /// Opens sessions; what comes before the last of their answers is passed over.
    pub(super) async fn open(&mut self, sessions: usize) -> Result<Vec<Opened>, String> {
        for _ in 0..sessions {
            let token = Nonce(self.marks.fetch_add(1, Ordering::Relaxed));
            self.call(&ClientCall::Open { token, alone: true }).await?;
        }
        let mut opened = Vec::new();
        while opened.len() < sessions {
            if let ClientAnswer::Opened { token, result } = self.answer().await? {
                let session = result.map_err(|refusal| refusal.to_string())?;
                opened.push(Opened { session, token });
            }
        }
        Ok(opened)
    }

    /// Asks, and does not read the answer. With `keeps`, the answers before are still wanted.
    pub(super) async fn ask(
        &mut self,
        of: Opened,
        number: u64,
        keeps: bool,
        body: &Bytes,
    ) -> Result<(), String> {
        let Opened { session, token } = of;
        let (lowest, body) = (RequestNumber(if keeps { 1 } else { number }), body.clone());
        let number = RequestNumber(number);
        self.call(&ClientCall::Request { session, token, number, lowest, alone: true, body }).await
    }

    /// Waits for the end of the connection without reading a thing.
    pub(super) async fn hold(&self) {
        self._connection.closed().await;
    }
}
