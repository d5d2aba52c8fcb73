//! Services that the tests tell scenarios to, and the scenarios of the inside halves.

mod cuts;
mod engine;
mod formats;
mod returns;
mod scenarios;
mod shares;
mod streams;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::machine::{Identity, RecordSource, RestoreError};
use lockstep::record;
use rand_core::Rng;
use rkyv::{Archive, Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::tcp::{ConnId, ListenOptions, SendError, Target, TcpEvent, TcpLimits};
use crate::timers::{TimerId, Token};
use crate::{DeviceEvent, Harness, Io, Members, Request, Service, Wrapper};

pub(crate) const REFUSAL: &[u8] = b"not now\n";

/// Echoes on a listener, takes no more than it can echo, keeps a diary of everything else.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub(crate) struct Probe {
    /// What is still to be echoed, and whether the far end has closed.
    pub(crate) echoes: BTreeMap<u64, (VecDeque<u8>, bool)>,
    pub(crate) diary: Vec<String>,
    pub(crate) dialled: Vec<u64>,
    pub(crate) timers: Vec<TimerId>,
    /// Most connections of its listener.
    most: u32,
}

/// Most connections of the probe's listener.
pub(crate) const PROBE_CONNECTIONS: u32 = 3;

impl Probe {
    pub(crate) fn wrapped() -> Wrapper<Self> {
        Self::wrapped_for(6)
    }

    /// With this many connections at most.
    pub(crate) fn wrapped_for(connections: u32) -> Wrapper<Self> {
        Self::wrapped_with(connections, connections)
    }

    /// With this many connections at most, and this many of its listener.
    pub(crate) fn wrapped_with(connections: u32, most: u32) -> Wrapper<Self> {
        let windows = crate::limits::WINDOW_MIN;
        let limits = TcpLimits {
            connections,
            read_window: windows,
            send_window: windows,
            ..TcpLimits::default()
        };
        Wrapper::builder(Self { most, ..Self::default() })
            .tcp(limits)
            .unwrap()
            .device("lamp", lockstep::device::OutputClass::Repeatable)
            .unwrap()
            .build()
    }

    fn note(&mut self, line: impl Into<String>) {
        self.diary.push(line.into());
    }

    fn echo(&mut self, io: &mut Io<'_>, conn: ConnId) {
        let Some((bytes, closed)) = self.echoes.get_mut(&conn.0) else { return };
        let mut rest = Bytes::copy_from_slice(bytes.make_contiguous());
        let sent = io.tcp().send_prefix(conn, &mut rest).unwrap_or(0);
        bytes.drain(..sent);
        io.tcp().consume(conn, sent);
        if bytes.is_empty() && *closed {
            io.tcp().shutdown(conn);
        }
    }

    fn on_dialled(&mut self, io: &mut Io<'_>, conn: ConnId, event: &TcpEvent) {
        match event {
            TcpEvent::Connected { .. } => {
                io.tcp().send(conn, b"hello\n").unwrap();
                self.note(format!("{} connected", conn.0));
            }
            TcpEvent::Received { bytes, .. } => {
                self.note(format!("{} received {}", conn.0, bytes.escape_ascii()));
            }
            TcpEvent::PeerClosed { .. } => {
                self.note(format!("{} peer closed", conn.0));
                io.tcp().shutdown(conn);
            }
            TcpEvent::ConnectFailed { why, .. } => {
                self.note(format!("{} failed: {why}", conn.0));
            }
            TcpEvent::Ended { .. } => self.note(format!("{} ended", conn.0)),
            TcpEvent::Reset { cause, .. } => self.note(format!("{} reset: {cause:?}", conn.0)),
            TcpEvent::Writable { .. } | TcpEvent::Accepted { .. } => {}
        }
    }
}

impl Service for Probe {
    type Frozen = Snapshot<Self>;

    fn identity(&self) -> Identity {
        Identity { name: "probe".into(), version: 1, configuration: Digest::ZERO }
    }

    fn on_start(&mut self, io: &mut Io<'_>) {
        let options =
            ListenOptions { refusal: Bytes::from_static(REFUSAL), connections: Some(self.most) };
        io.tcp().listen("echo", options).unwrap();
    }

    fn on_request(&mut self, io: &mut Io<'_>, request: Request<'_>) -> Bytes {
        let body = String::from_utf8_lossy(request.body).into_owned();
        let words: Vec<&str> = body.split(' ').collect();
        match words[..] {
            ["connect", host, port] => {
                let target = Target::host(host, port.parse().unwrap());
                match io.tcp().connect(target) {
                    Ok(conn) => self.dialled.push(conn.0),
                    Err(error) => return error.to_string().into(),
                }
            }
            ["connect-from", place, host, port] => {
                let target = Target::host(host, port.parse().unwrap());
                let from = Some(place.parse().unwrap());
                let timeout = core::time::Duration::from_secs(30);
                match io.tcp().connect_with(target, timeout, from) {
                    Ok(conn) => self.dialled.push(conn.0),
                    Err(error) => return error.to_string().into(),
                }
            }
            ["send", conn, len] => {
                let conn = ConnId(conn.parse().unwrap());
                let bytes = vec![b'x'; len.parse().unwrap()];
                return match io.tcp().send(conn, &bytes) {
                    Ok(()) => Bytes::from_static(b"sent"),
                    Err(SendError::Full { room }) => format!("room {room}").into(),
                    Err(error) => error.to_string().into(),
                };
            }
            ["close", conn] => io.tcp().close(ConnId(conn.parse().unwrap())),
            ["reset", conn] => io.tcp().reset(ConnId(conn.parse().unwrap())),
            ["protect", conn] => io.tcp().protect(ConnId(conn.parse().unwrap())),
            ["unlisten"] => {
                io.tcp().unlisten(crate::tcp::ListenerId(1));
            }
            ["timer", millis, token] => {
                let span = core::time::Duration::from_millis(millis.parse().unwrap());
                let timer = io.timers().after(span, Token(token.parse().unwrap())).unwrap();
                self.timers.push(timer);
            }
            ["timer-in", nanos, token] => {
                let span = core::time::Duration::from_nanos(nanos.parse().unwrap());
                let timer = io.timers().after(span, Token(token.parse().unwrap())).unwrap();
                self.timers.push(timer);
            }
            ["cancel", position] => {
                let timer = self.timers[position.parse::<usize>().unwrap()];
                return format!("{}", io.timers().cancel(timer)).into();
            }
            ["random"] => return format!("{:x}", io.rng().next_u64()).into(),
            ["lamp", text] => {
                let lamp = io.device(lockstep::ids::DeviceId(1)).unwrap();
                let mut lamp = lamp;
                lamp.send(lockstep::output::Carrier::Both, Bytes::copy_from_slice(text.as_bytes()));
            }
            ["diary"] => return self.diary.join("\n").into(),
            _ => return Bytes::from_static(b"what?"),
        }
        Bytes::new()
    }

    fn on_timer(&mut self, io: &mut Io<'_>, timer: TimerId, token: Token) {
        let late = io.now().since(timer.deadline()).as_nanos();
        self.note(format!("timer {} late by {late}", token.0));
    }

    fn on_tcp(&mut self, io: &mut Io<'_>, event: TcpEvent) {
        match event {
            TcpEvent::Accepted { conn, .. } => {
                self.echoes.insert(conn.0, Default::default());
                io.tcp().hold(conn);
            }
            TcpEvent::Connected { conn, .. }
            | TcpEvent::ConnectFailed { conn, .. }
            | TcpEvent::Received { conn, .. }
            | TcpEvent::PeerClosed { conn }
            | TcpEvent::Ended { conn }
            | TcpEvent::Reset { conn, .. }
                if !self.echoes.contains_key(&conn.0) =>
            {
                self.on_dialled(io, conn, &event);
            }
            TcpEvent::Received { conn, bytes } => {
                let echo = self.echoes.get_mut(&conn.0).unwrap();
                echo.0.extend(&bytes);
                assert!(echo.0.len() <= crate::limits::WINDOW_MIN as usize);
                self.echo(io, conn);
            }
            TcpEvent::Writable { conn } => {
                self.note(format!("{} writable", conn.0));
                self.echo(io, conn);
            }
            TcpEvent::PeerClosed { conn } => {
                self.echoes.get_mut(&conn.0).unwrap().1 = true;
                self.echo(io, conn);
            }
            TcpEvent::Ended { conn } => {
                self.echoes.remove(&conn.0);
                self.note(format!("{} ended", conn.0));
            }
            TcpEvent::Reset { conn, cause } => {
                self.echoes.remove(&conn.0);
                self.note(format!("{} reset: {cause:?}", conn.0));
            }
            TcpEvent::Connected { .. } | TcpEvent::ConnectFailed { .. } => unreachable!(),
        }
    }

    fn on_resumed(&mut self, _: &mut Io<'_>, gap: core::time::Duration) {
        // A restart without a pause is one of a millisecond in a script.
        if gap >= core::time::Duration::from_secs(1) {
            self.note(format!("resumed after {gap:?}"));
        }
    }

    fn on_device(&mut self, _: &mut Io<'_>, event: DeviceEvent<'_>) {
        self.note(format!("lamp at {} says {}", event.place, event.bytes.escape_ascii()));
    }

    fn on_members(&mut self, _: &mut Io<'_>, members: Members) {
        let note = |processes: record::Members| {
            [processes.a, processes.b].map(|process| process.map_or(0, |process| process.0))
        };
        let (before, now) = (note(members.before), note(members.now));
        self.note(format!("members {before:x?} {now:x?} {}", members.sequencer));
    }

    fn freeze(&self) -> Snapshot<Self> {
        Snapshot(self.clone())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        *self = Snapshot::read(records)?;
        Ok(())
    }
}

/// A probe in a harness, and a session to ask it things.
pub(crate) struct Scenario {
    pub(crate) pair: Harness<Probe>,
    session: lockstep::ids::SessionId,
}

impl Scenario {
    pub(crate) fn new() -> Self {
        Self::with_connections(6)
    }

    pub(crate) fn with_connections(connections: u32) -> Self {
        Self::with(connections, connections)
    }

    /// With this many connections at most, and this many of its listener.
    pub(crate) fn with(connections: u32, most: u32) -> Self {
        let mut pair = Harness::new(Probe::wrapped_with(connections, most));
        let session = pair.open_session();
        Self { pair, session }
    }

    pub(crate) fn ask(&mut self, what: &str) -> String {
        let reply = self.pair.request(self.session, what.as_bytes());
        String::from_utf8(reply.to_vec()).unwrap()
    }

    /// What was written to the diary, without who the members are.
    pub(crate) fn diary(&self) -> Vec<&str> {
        let diary = &self.pair.service().diary;
        diary.iter().map(String::as_str).filter(|line| !line.starts_with("members")).collect()
    }
}
