//! TCP between the nodes, and to the client.
//!
//! A peer that connects sends one byte: its node number, or [`CLIENT`]. Nodes then exchange
//! length-prefixed messages both ways; a client sends requests of one fixed size and gets each back
//! as its reply, after one byte [`SERVING`].
//!
//! All tasks share one thread with the node: a message costs task switches,
//! never a wake-up of another thread.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The first byte of a client.
pub(crate) const CLIENT: u8 = 0;
/// What a client is told when the node leads and can commit.
pub(crate) const SERVING: u8 = 1;

/// Events that wait for the node; readers stop reading when it is full.
pub(crate) const INBOX: usize = 8_192;
/// Messages that wait for one connection to be written. A node drops what does
/// not fit; Raft sends it again.
pub(crate) const OUTBOX: usize = 8_192;
/// The longest message between nodes: an append of 1 MiB and its envelope.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Messages written with one system call.
const WRITE_BATCH: usize = 256;

/// What reaches a node from its connections.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection to another node is up; what is sent here goes to it.
    Node(u64, mpsc::Sender<Bytes>),
    /// A connection to another node ended.
    NodeGone(u64),
    /// A message of another node.
    Message(Box<Message>),
    /// A client connected; what is sent here goes to it.
    Client(u32, mpsc::Sender<Bytes>),
    /// A client's request.
    Request(u32, Bytes),
    /// A client left.
    ClientGone(u32),
}

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a message of {0} bytes; at most {MAX_MESSAGE_BYTES} are taken")]
    TooLong(usize),
    #[error("a message that is no Raft message: {0}")]
    Malformed(#[from] protobuf::ProtobufError),
    #[error("the node has ended")]
    NodeEnded,
}

/// A message with its length before it.
pub(crate) fn encode(message: &Message) -> Result<Bytes, ConnectionError> {
    let body = message.write_to_bytes()?;
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(ConnectionError::TooLong(body.len()));
    }
    let mut framed = BytesMut::with_capacity(4 + body.len());
    framed.put_u32_le(u32::try_from(body.len()).expect("bounded above"));
    framed.put_slice(&body);
    Ok(framed.freeze())
}

/// Takes one message off the front, if a whole one is there.
fn decode(incoming: &mut BytesMut) -> Result<Option<Message>, ConnectionError> {
    let Some(prefix) = incoming.first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE_BYTES {
        return Err(ConnectionError::TooLong(length));
    }
    if incoming.len() < 4 + length {
        return Ok(None);
    }
    incoming.advance(4);
    Ok(Some(Message::parse_from_bytes(&incoming.split_to(length))?))
}

/// Connects to another node as node `own`; `far` is its number.
pub(crate) async fn dial(
    own: u64,
    far: u64,
    address: SocketAddr,
    inbox: mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(u8::try_from(own).unwrap_or(u8::MAX)).await?;
    serve_node(far, stream, inbox).await
}

/// Takes connections until the node ends.
pub(crate) async fn accept_all(listener: TcpListener, size: usize, inbox: mpsc::Sender<Event>) {
    let mut clients = 0;
    while let Ok((stream, _)) = listener.accept().await {
        clients += 1;
        let (number, inbox) = (clients, inbox.clone());
        tokio::spawn(async move { accept(stream, number, size, inbox).await });
    }
}

async fn accept(
    mut stream: TcpStream,
    number: u32,
    size: usize,
    inbox: mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        CLIENT => serve_client(number, stream, size, inbox).await,
        far => serve_node(u64::from(far), stream, inbox).await,
    }
}

async fn serve_node(
    far: u64,
    stream: TcpStream,
    inbox: mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    let (reader, writer) = stream.into_split();
    let outbox = start_writer(writer);
    tell(&inbox, Event::Node(far, outbox)).await?;
    let ended = read_messages(reader, &inbox).await;
    tell(&inbox, Event::NodeGone(far)).await?;
    ended
}

async fn read_messages(
    mut reader: impl AsyncRead + Unpin,
    inbox: &mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    let mut incoming = BytesMut::with_capacity(64 * 1024);
    while reader.read_buf(&mut incoming).await? > 0 {
        while let Some(message) = decode(&mut incoming)? {
            tell(inbox, Event::Message(Box::new(message))).await?;
        }
        incoming.reserve(16 * 1024);
    }
    Ok(())
}

async fn serve_client(
    number: u32,
    stream: TcpStream,
    size: usize,
    inbox: mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    let (reader, writer) = stream.into_split();
    let outbox = start_writer(writer);
    tell(&inbox, Event::Client(number, outbox)).await?;
    let ended = read_requests(reader, number, size, &inbox).await;
    tell(&inbox, Event::ClientGone(number)).await?;
    ended
}

async fn read_requests(
    mut reader: OwnedReadHalf,
    number: u32,
    size: usize,
    inbox: &mpsc::Sender<Event>,
) -> Result<(), ConnectionError> {
    let mut incoming = BytesMut::with_capacity(64 * 1024);
    while reader.read_buf(&mut incoming).await? > 0 {
        while incoming.len() >= size {
            let body = incoming.split_to(size).freeze();
            tell(inbox, Event::Request(number, body)).await?;
        }
        incoming.reserve(size.max(16 * 1024));
    }
    Ok(())
}

async fn tell(inbox: &mpsc::Sender<Event>, event: Event) -> Result<(), ConnectionError> {
    inbox.send(event).await.map_err(|_| ConnectionError::NodeEnded)
}

fn start_writer(writer: OwnedWriteHalf) -> mpsc::Sender<Bytes> {
    let (sender, receiver) = mpsc::channel(OUTBOX);
    tokio::spawn(write_all(writer, receiver));
    sender
}

/// Writes what is queued, as much of it at once as there is. Ends when the
/// sender is dropped or the far side is gone; the reader notices the latter too.
async fn write_all(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Bytes>) {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    let mut joined = Vec::new();
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        let written = if let [only] = batch.as_slice() {
            writer.write_all(only).await
        } else {
            joined.clear();
            batch.iter().for_each(|bytes| joined.extend_from_slice(bytes));
            writer.write_all(&joined).await
        };
        if written.is_err() {
            return;
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let mut sent = Message::default();
        sent.set_to(2);
        sent.set_index(7);
        let framed = encode(&sent).unwrap();
        let mut incoming = BytesMut::new();
        for (at, byte) in framed.iter().chain(framed.iter()).enumerate() {
            incoming.put_u8(*byte);
            let whole = (at + 1) % framed.len() == 0;
            assert_eq!(decode(&mut incoming).unwrap(), whole.then(|| sent.clone()));
        }
    }

    #[test]
    fn a_length_out_of_bounds_and_bytes_of_another_kind_are_errors() {
        let mut long = BytesMut::from(&[0xff; 8][..]);
        assert!(matches!(decode(&mut long), Err(ConnectionError::TooLong(_))));
        let mut odd = BytesMut::from(&[2, 0, 0, 0, 0xff, 0xff][..]);
        assert!(matches!(decode(&mut odd), Err(ConnectionError::Malformed(_))));
    }
}
