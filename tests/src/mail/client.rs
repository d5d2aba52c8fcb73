//! A client of the relay that speaks SMTP by hand.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::pair::DEADLINE;

/// A connection to the relay. Whoever waits for an answer on it waits no longer than [`DEADLINE`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects from this address of this host; all of 127.0.0.0/8 are.
    ///
    /// # Errors
    /// Why no connection came about.
    pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Result<Self, String> {
        let connected = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&to.into(), DEADLINE)?;
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(DEADLINE))?;
            let reader = BufReader::new(stream.try_clone()?);
            Ok(Self { stream, reader })
        };
        connected().map_err(|error: std::io::Error| format!("{from} to {to}: {error}"))
    }

    /// The same from the usual address.
    ///
    /// # Errors
    /// Why no connection came about.
    pub fn connect(to: SocketAddr) -> Result<Self, String> {
        Self::connect_from(Ipv4Addr::LOCALHOST, to)
    }

    /// The server's address; `None` once the connection is gone.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// The next line; nothing where the connection ended, as whoever closes at once may be seen
    /// to reset.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.reader.read_line(&mut line);
        line
    }

    /// Says this, and gives the next line.
    ///
    /// # Errors
    /// If it cannot be said.
    pub fn ask(&mut self, text: &str) -> Result<String, String> {
        self.stream.write_all(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(self.line())
    }

    /// Says this, to which the answer is to begin so.
    ///
    /// # Errors
    /// The answer, if it does not.
    pub fn say(&mut self, text: &str, code: &str) -> Result<(), String> {
        let said = self.ask(text)?;
        if said.starts_with(code) { Ok(()) } else { Err(format!("{text:?}: {said:?}")) }
    }

    /// Waits for the greeting, and greets.
    ///
    /// # Errors
    /// What was said, if that is no welcome.
    pub fn greet(&mut self) -> Result<(), String> {
        let greeting = self.line();
        if !greeting.starts_with("220") {
            return Err(format!("greeting {greeting:?}"));
        }
        self.say("HELO c\r\n", "250")
    }

    /// Brings a mail with this text.
    ///
    /// # Errors
    /// What was said, if it is not taken.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        self.say("MAIL FROM:<a@x.example>\r\n", "250")?;
        self.say("RCPT TO:<b@y.example>\r\n", "250")?;
        self.say("DATA\r\n", "354")?;
        self.say(&format!("{text}\r\n.\r\n"), "250")
    }
}
