//! A pair of CoServers: what the whole protocol costs.
//!
//! Once with each durability: `memory`, as with the peers, and `journal`, where both CoServers have
//! synced the entry before anything is released. A commit begins when an input is pushed on the
//! sequencer, and ends when the output that it causes is released there. Then both CoServers hold
//! the input and computed the same. A request begins and ends at a client of the client library,
//! which asks both CoServers and takes the first reply.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hdrhistogram::Histogram;
use lockstep::client::session::{Session, Settings as ClientSettings};
use lockstep::device::{
    Device, Inputs, OutputClass, Outside, Released, Setup as DeviceSetup, StartError,
};
use lockstep::digest::Digest;
use lockstep::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use lockstep::output::Carrier;
use lockstep::proto::Standing;
use lockstep::runtime::config::{ClientConfig, CoServerConfig, Overrides, WitnessConfig};
use lockstep::runtime::control::DataDirectory;
use lockstep::runtime::coserver::{CoServer, Devices};
use lockstep::runtime::init::{Plan, ServiceSections};
use lockstep::runtime::witness::{WitnessServer, open_records};
use lockstep::store::replica::Durability;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Row;
use crate::harness::{Cast, PartSpec, Program, RunError, Setup};
use crate::part::{Part, PartError, current_thread};
use crate::placement::Seat;
use crate::talk::Ready;
use crate::trips::Trips;

pub(super) const WITNESS: &str = "lockstep-witness";
pub(super) const COSERVER: &str = "lockstep-coserver";
pub(super) const COMMIT: &str = "lockstep-commit";
pub(super) const CLIENT: &str = "lockstep-client";

const MEMORY: &str = "memory";
const JOURNAL: &str = "journal";

/// A witness grants nothing for its first two seconds, and the machine may be busy.
const FORMED_WITHIN: Duration = Duration::from_secs(15);

/// Time between two looks whether the pair is formed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An input on the sequencer to its output released there.
pub(super) struct Commit(pub(super) Durability);

/// A client's request to its reply.
pub(super) struct Request(pub(super) Durability);

impl Row for Commit {
    fn name(&self) -> &'static str {
        match self.0 {
            Durability::Memory => "lockstep-commit",
            Durability::Journal => "lockstep-commit-journal",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Durability::Memory => "input on the sequencer to its output released there",
            Durability::Journal => "the same, synced to disk by both before the release",
        }
    }

    fn cast(&self, setup: &Setup) -> Result<Cast, RunError> {
        let directory = directory(setup)?;
        let part = |kind, seat, file| part(&directory, kind, seat, file, self.0);
        let parts = vec![
            part(WITNESS, Seat::Free, "witness.toml"),
            part(COSERVER, Seat::B, "b.toml"),
            part(COMMIT, Seat::A, "a.toml"),
        ];
        Ok(Cast { parts, keep: Some(Box::new(directory)) })
    }
}

impl Row for Request {
    fn name(&self) -> &'static str {
        match self.0 {
            Durability::Memory => "lockstep-request",
            Durability::Journal => "lockstep-request-journal",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Durability::Memory => "a client's request to its first reply",
            Durability::Journal => "the same, synced to disk by both before the reply",
        }
    }

    fn cast(&self, setup: &Setup) -> Result<Cast, RunError> {
        let directory = directory(setup)?;
        let part = |kind, seat, file| part(&directory, kind, seat, file, self.0);
        let parts = vec![
            part(WITNESS, Seat::Free, "witness.toml"),
            part(COSERVER, Seat::A, "a.toml"),
            part(COSERVER, Seat::B, "b.toml"),
            part(CLIENT, Seat::Client, "client.toml"),
        ];
        Ok(Cast { parts, keep: Some(Box::new(directory)) })
    }
}

fn part(
    directory: &tempfile::TempDir,
    kind: &'static str,
    seat: Seat,
    file: &str,
    durability: Durability,
) -> PartSpec {
    let file = directory.path().join(file).to_string_lossy().into_owned();
    let durability = match durability {
        Durability::Memory => MEMORY,
        Durability::Journal => JOURNAL,
    };
    PartSpec { program: Program::Own, kind, seat, words: vec![file, durability.to_owned()] }
}

/// Keys and configuration of a pair that nobody had before.
fn directory(setup: &Setup) -> Result<tempfile::TempDir, RunError> {
    let directory = tempfile::Builder::new().prefix("lockstep-latency-").tempdir_in(&setup.disk);
    let directory = directory.map_err(|error| RunError::Prepare(error.to_string()))?;
    let mut plan = Plan::new(directory.path());
    plan.free_ports = true;
    (plan.a_links, plan.b_links) =
        links(setup.links).map_err(|error| RunError::Prepare(error.to_string()))?;
    // The machine may be busy, and a removal would end the round.
    plan.silence = Some(Duration::from_secs(2));
    let made = plan.write(|_| Ok::<_, std::io::Error>(ServiceSections::default()));
    made.map_err(|error| RunError::Prepare(error.to_string()))?;
    Ok(directory)
}

/// Free addresses of both ends. Loopback addresses of their own stand for networks.
fn links(count: u8) -> io::Result<(Vec<SocketAddr>, Vec<SocketAddr>)> {
    let mut held = Vec::new();
    let mut free = |link| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, link), 0))?;
        let address = socket.local_addr();
        // Held until all are found, so that none is found twice.
        held.push(socket);
        address
    };
    (1..=count).map(|link| Ok((free(link)?, free(link)?))).collect()
}

fn file(part: &Part) -> Result<PathBuf, PartError> {
    let word = part.options.words.first();
    word.map(PathBuf::from).ok_or_else(|| PartError::Arguments("no configuration file".into()))
}

pub(super) fn witness(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let config = WitnessConfig::read(&file(part)?, &Overrides::new())
        .map_err(PartError::other("read the witness's configuration"))?;
    let _lock = DataDirectory::open(&config.directory)
        .map_err(PartError::other("open the witness's directory"))?;
    let records = open_records(&config.directory).map_err(PartError::other("open the records"))?;
    current_thread()?.block_on(async {
        let server =
            WitnessServer::start(config, records).map_err(PartError::other("start the witness"))?;
        part.ready(Ready::silent())?;
        server.run().await;
        Ok(None)
    })
}

pub(super) fn coserver(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let path = file(part)?;
    current_thread()?.block_on(async {
        let (driver, _finished) = Driver::new(part);
        let coserver = start(part, &path, driver)?;
        part.ready(Ready::silent())?;
        // As a task: the future that is given to `block_on` is woken at a higher price.
        let mut running = JoinSet::new();
        running.spawn(coserver.run());
        running.join_next().await;
        Ok(None)
    })
}

pub(super) fn commit(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let path = file(part)?;
    current_thread()?.block_on(async {
        let (driver, mut finished) = Driver::new(part);
        let coserver = start(part, &path, driver)?;
        let handle = coserver.handle();
        part.ready(Ready::silent())?;
        let mut running = JoinSet::new();
        running.spawn(coserver.run());
        let formed = async {
            while !handle.status().await.is_ok_and(|status| {
                matches!(status.standing, Standing::Serving { duplex: true, .. })
            }) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(FORMED_WITHIN, formed)
            .await
            .map_err(PartError::other("form the pair"))?;
        let inputs = finished.inputs.recv().await;
        let inputs = inputs.ok_or_else(|| PartError::NoGo("no device".into()))?;
        // Any input sets the driver off; what it is shows in its length.
        inputs.push(Bytes::new()).await.map_err(PartError::other("set off"))?;
        let histogram = finished.histogram.recv().await;
        histogram.ok_or_else(|| PartError::NoGo("the CoServer ended".into()))?.map(Some)
    })
}

fn start(part: &Part, path: &Path, driver: Driver) -> Result<CoServer<Echo>, PartError> {
    let mut config = CoServerConfig::read(path, &Overrides::new())
        .map_err(PartError::other("read the CoServer's configuration"))?;
    std::fs::create_dir_all(&config.directory).map_err(PartError::io("make the directory"))?;
    config.settings.storage.durability = match part.options.words.get(1).map(String::as_str) {
        Some(MEMORY) => Durability::Memory,
        Some(JOURNAL) => Durability::Journal,
        _ => return Err(PartError::Arguments("no durability".into())),
    };
    let mut devices = Devices::default();
    devices
        .table
        .add("driver", OutputClass::Repeatable)
        .map_err(PartError::other("name the device"))?;
    devices.outsides.push(Box::new(driver));
    CoServer::start(config.settings, config.credentials, Echo, devices)
        .map_err(PartError::other("start the CoServer"))
}

pub(super) fn client(part: &Part) -> Result<Option<Histogram<u64>>, PartError> {
    let config = ClientConfig::read(&file(part)?, &Overrides::new())
        .map_err(PartError::other("read the client's configuration"))?;
    current_thread()?.block_on(async {
        part.ready(Ready::silent())?;
        let mut settings = ClientSettings::new(config.pair, config.coservers, config.credentials);
        settings.open_within = FORMED_WITHIN;
        let session = Session::open(settings).await.map_err(PartError::other("open a session"))?;
        let mut trips = Trips::new(part.options.load);
        let mut tickets = std::collections::VecDeque::new();
        while !trips.is_finished() {
            while let Some(number) = trips.depart() {
                let mut body = number.to_le_bytes().to_vec();
                body.resize(part.options.load.size, 0);
                let ticket = session.submit(body).await;
                tickets.push_back(ticket.map_err(PartError::other("ask"))?);
            }
            let Some(ticket) = tickets.pop_front() else { break };
            let reply = ticket.await.map_err(PartError::other("wait for a reply"))?;
            trips.arrive((&reply[..]).get_u64_le())?;
        }
        Ok(Some(trips.into_histogram()))
    })
}

/// Gives every message back: a request to its client, an input to its device.
struct Echo;

struct Nothing;

impl Freeze for Nothing {
    fn write(&self, _: &mut dyn RecordSink) -> Result<(), SinkError> {
        Ok(())
    }
}

impl StateMachine for Echo {
    type Frozen = Nothing;

    fn identity(&self) -> Identity {
        Identity { name: "echo".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        match step {
            Step::Request { body, .. } => return Bytes::copy_from_slice(body),
            Step::Device { device, place, bytes } => {
                context.send(device, Carrier::Replica(place), bytes.clone());
            }
            _ => {}
        }
        Bytes::new()
    }

    fn freeze(&self) -> Nothing {
        Nothing
    }

    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// A device that pushes the next input when an output is released: nothing else stands between
/// two trips.
struct Driver {
    trips: Option<Trips>,
    size: usize,
    inputs: Option<Inputs>,
    given: mpsc::UnboundedSender<Inputs>,
    finished: mpsc::UnboundedSender<Result<Histogram<u64>, PartError>>,
}

/// What comes of a driver.
struct Finished {
    inputs: mpsc::UnboundedReceiver<Inputs>,
    histogram: mpsc::UnboundedReceiver<Result<Histogram<u64>, PartError>>,
}

impl Driver {
    fn new(part: &Part) -> (Self, Finished) {
        let (given, inputs) = mpsc::unbounded_channel();
        let (finished, histogram) = mpsc::unbounded_channel();
        let load = part.options.load;
        let trips = Some(Trips::new(load));
        let driver = Self { trips, size: load.size, inputs: None, given, finished };
        (driver, Finished { inputs, histogram })
    }

    fn on_released(&mut self, mut bytes: Bytes) -> Result<(), PartError> {
        let (Some(trips), Some(inputs)) = (&mut self.trips, &self.inputs) else { return Ok(()) };
        if !bytes.is_empty() {
            trips.arrive(bytes.get_u64_le())?;
        }
        while let Some(number) = trips.depart() {
            let mut message = number.to_le_bytes().to_vec();
            message.resize(self.size, 0);
            inputs.try_push(message.into()).map_err(PartError::other("push an input"))?;
        }
        if trips.is_finished()
            && let Some(trips) = self.trips.take()
        {
            let _ = self.finished.send(Ok(trips.into_histogram()));
        }
        Ok(())
    }
}

impl Outside for Driver {
    fn start(mut self: Box<Self>, setup: DeviceSetup) -> Result<Box<dyn Device>, StartError> {
        let _ = self.given.send(setup.inputs.clone());
        self.inputs = Some(setup.inputs);
        Ok(self)
    }
}

impl Device for Driver {
    fn release(&mut self, released: Released) {
        if let Err(error) = self.on_released(released.bytes) {
            let _ = self.finished.send(Err(error));
        }
    }

    fn standing(&mut self, _: Standing) {}
}
