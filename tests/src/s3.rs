//! A server that speaks S3, on loopback, and the way to it, which can fail. The server is `moto`
//! (`pip install 'moto[server]'`), which keeps everything in memory.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use crate::mail::{Python, free_address};
use crate::process::{Process, wait_for};

/// The bucket of all tests.
pub const BUCKET: &str = "witness";

/// Python and its modules take their time on a busy machine.
const START: Duration = Duration::from_secs(60);

/// One request to it, asked for directly.
const ANSWER: Duration = Duration::from_secs(20);

/// How soon a thread of the way notices that it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// One request after the other: between moto's look whether an object is there and its making it,
/// another thread of it could make the same.
const SERVER: &str = "import sys
from werkzeug.serving import run_simple
from moto.server import DomainDispatcherApplication, create_backend_app
app = DomainDispatcherApplication(create_backend_app)
run_simple('127.0.0.1', int(sys.argv[1]), app, threaded=False)
";

/// A running server with an empty bucket, and the way to it.
#[derive(Debug)]
pub struct Store {
    way: Way,
    server: Process,
    address: SocketAddr,
}

/// What the way to the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It carries everything.
    Carries,
    /// No connection gets an answer, as from a server that is gone.
    Refuses,
    /// What creates an object reaches the server, and its answer nobody.
    LosesAnswers,
}

impl Store {
    /// Starts one; `None` if that cannot be done here, with the reason printed.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(directory: &Path) -> Option<Self> {
        let Python(python) = Python::with("moto.server")?;
        let address = free_address();
        let port = address.port().to_string();
        let server = Process::start("s3", &python, &["-c", SERVER, &port], directory);
        let server = server.expect("python was there a moment ago");
        let way = Way::to(address).expect("a socket and a thread");
        let store = Self { way, server, address };
        let made = wait_for(START, || store.request("PUT", &format!("/{BUCKET}"), ""));
        let made = made.unwrap_or_else(|error| panic!("{error}; {}", store.server.log()));
        assert_eq!(made, 200, "the bucket: {}", store.server.log());
        Some(store)
    }

    /// The environment of processes that use it.
    pub fn environment(&self) -> Vec<String> {
        vec![
            "AWS_ACCESS_KEY_ID=test".into(),
            "AWS_SECRET_ACCESS_KEY=test".into(),
            "AWS_REGION=us-east-1".into(),
            "AWS_ALLOW_HTTP=true".into(),
            // Which must not be heeded: both of two that create an object would succeed.
            "AWS_CONDITIONAL_PUT=disabled".into(),
            format!("AWS_ENDPOINT=http://{}", self.way.address),
        ]
    }

    /// Has the way to it do this from now on.
    pub fn set(&self, mode: Mode) {
        self.way.shared.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Answers that were lost.
    pub fn lost(&self) -> u64 {
        self.way.shared.lost.load(Ordering::SeqCst)
    }

    /// Stops the server without its noticing.
    pub fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Makes a request past the way; the status of its answer. `headers` end with a line break.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn request(&self, method: &str, path: &str, headers: &str) -> io::Result<u16> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let host = self.address;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n")?;
        write!(stream, "Authorization: AWS test:test\r\n{headers}\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.ok_or_else(|| io::Error::other(format!("no status: {answer}")))
    }
}

/// Carries connections to the server.
#[derive(Debug)]
struct Way {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mode: AtomicU8,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl Way {
    fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (mode, lost) = (AtomicU8::new(Mode::Carries as u8), AtomicU64::new(0));
        let shared = Arc::new(Shared { mode, lost, ended: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        let body = move || serve(&listener, server, &theirs);
        let thread = Some(std::thread::Builder::new().name("s3-way".into()).spawn(body)?);
        Ok(Self { address, shared, thread })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn does(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits for other processes")]
fn serve(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while !shared.ended() {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK);
            continue;
        };
        if shared.does(Mode::Refuses) {
            continue;
        }
        let shared = Arc::clone(shared);
        // An end of it that fails ends the connection, which is what the other end is to see.
        let body = move || drop(carry(&client, server, &shared));
        threads.extend(std::thread::Builder::new().spawn(body));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Carries one request, and its answer: the server closes after each.
fn carry(mut client: &TcpStream, server: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    for stream in [client, &server] {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK))?;
    }
    let mut buffer = [0; 1 << 14];
    let mut creates = false;
    loop {
        if shared.ended() || shared.does(Mode::Refuses) {
            return client.shutdown(Shutdown::Both);
        }
        if let Some(length) = some(client.read(&mut buffer))? {
            creates |= buffer.starts_with(b"PUT ");
            server.write_all(&buffer[..length])?;
            if length == 0 {
                return Ok(());
            }
        }
        if let Some(length) = some(server.read(&mut buffer))? {
            if creates && shared.does(Mode::LosesAnswers) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return client.shutdown(Shutdown::Both);
            }
            client.write_all(&buffer[..length])?;
            if length == 0 {
                return client.shutdown(Shutdown::Both);
            }
        }
    }
}

/// What was read, if anything came in time.
fn some(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
