//! A pair in one process, over real QUIC on loopback and real files.

mod back;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::device::{Inputs, OutputClass, Released};
use crate::digest::Digest;
use crate::ids::{Epoch, Lineage, PairId, ReplicaId};
use crate::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, Step,
};
use crate::output::Carrier;
use crate::proto::{Command, Standing, Status};
use crate::record::Record;
use crate::runtime::keys::Role;
use crate::runtime::link::{Event as NetworkEvent, ListenConfig, Network};
use crate::runtime::quic::tests::{Cast, soon};
use crate::wire::codec;
use crate::witness::{self, Held, Witness};

const PAIR: PairId = PairId([3; 16]);
const DEVICE: DeviceId = DeviceId(0);

/// Sends every device input back to where it came from.
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
        if let Step::Device { device, place, bytes } = step {
            context.send(device, Carrier::Replica(place), bytes.clone());
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

/// A device whose outside is the test.
struct Line {
    setup: mpsc::UnboundedSender<Inputs>,
    released: mpsc::UnboundedSender<Bytes>,
}

impl Outside for Line {
    fn start(self: Box<Self>, setup: Setup) -> Result<Box<dyn Device>, StartError> {
        let _ = self.setup.send(setup.inputs);
        Ok(self)
    }
}

impl Device for Line {
    fn release(&mut self, released: Released) {
        let _ = self.released.send(released.bytes);
    }

    fn standing(&mut self, _: Standing) {}
}

struct Running {
    handle: Handle,
    inputs: Inputs,
    released: mpsc::UnboundedReceiver<Bytes>,
    ended: tokio::task::JoinHandle<StopCause>,
}

impl Running {
    async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        soon(async {
            loop {
                let status = self.handle.status().await.unwrap();
                if wanted(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    async fn echo(&mut self, text: &'static str) {
        self.inputs.push(Bytes::from_static(text.as_bytes())).await.unwrap();
        assert_eq!(soon(self.released.recv()).await.unwrap(), text);
    }
}

fn is_duplex(status: &Status) -> bool {
    matches!(status.standing, Standing::Serving { duplex: true, .. })
}

fn is_alone(status: &Status) -> bool {
    matches!(status.standing, Standing::Serving { duplex: false, .. })
}

fn free_port(ip: &str) -> SocketAddr {
    UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// A witness that keeps its record in memory, and hears nobody whose key was replaced.
fn start_witness(cast: &Cast) -> SocketAddr {
    start_witness_at(cast, Lineage(0), Epoch(0))
}

/// The same, of a pair whose lineage begins there.
fn start_witness_at(cast: &Cast, lineage: Lineage, epoch: Epoch) -> SocketAddr {
    let credentials = cast.of(Role::Witness);
    let mut network = Network::new(credentials.clone());
    let address = "127.0.0.1:0".parse().unwrap();
    let port = network.listen(ListenConfig::witness(address, 8)).unwrap();
    let address = network.local_addr(port).unwrap();
    let clock = Clock::start();
    let held = Held::trusted(Record::vacant(PAIR, lineage, epoch));
    let config = witness::Config { grace: Duration::ZERO };
    let mut witness = Witness::new(clock.mono(), config, [(PAIR, Some(held))]);
    tokio::spawn(async move {
        let mut conns = std::collections::BTreeMap::new();
        let mut numbers = std::collections::BTreeMap::new();
        loop {
            match network.next().await {
                NetworkEvent::Up { connection, peer, .. } => {
                    let conn = crate::ids::ConnId(conns.len() as u64 + 1);
                    let Role::CoServer(place) = peer.role else { continue };
                    conns.insert(conn, connection);
                    numbers.insert(connection, (conn, place, peer));
                }
                NetworkEvent::Frame { connection, frame, .. } => {
                    let (conn, place, peer) = numbers[&connection];
                    if credentials.roster().role_of(&peer.key) != Some(peer.role) {
                        continue;
                    }
                    let call = codec::decode_witness_call(&frame).unwrap();
                    let call = witness::Input::Call { conn, pair: PAIR, place, call };
                    witness.handle(clock.mono(), call);
                }
                _ => {}
            }
            while let Some(output) = witness.poll() {
                match output {
                    witness::Output::Answer { conn, answer } => {
                        let bytes = codec::encode_witness_answer(&answer).unwrap();
                        let _ = network.send(conns[&conn], bytes);
                    }
                    witness::Output::Store { .. } | witness::Output::Adopt { .. } => witness
                        .handle(
                            clock.mono(),
                            witness::Input::Stored { pair: PAIR, stored: witness::Stored::There },
                        ),
                    _ => {}
                }
            }
        }
    });
    address
}

/// A pair's addresses, keys, witness and directories, which outlive its processes.
struct Stage {
    cast: Arc<Cast>,
    witness: WitnessAddress,
    links: [(SocketAddr, SocketAddr); 2],
    directories: [tempfile::TempDir; 2],
}

impl Stage {
    fn new() -> Self {
        let cast = Arc::new(Cast::new());
        Self {
            witness: start_witness(&cast).into(),
            cast,
            links: ["127.0.0.1", "127.0.0.2"].map(|ip| (free_port(ip), free_port(ip))),
            directories: [(); 2].map(|()| tempfile::tempdir().unwrap()),
        }
    }

    fn directory(&self, place: ReplicaId) -> std::path::PathBuf {
        self.directories[place.slot()].path().join("store")
    }

    fn settings(&self, place: ReplicaId) -> Settings {
        let links = self.links.map(|(a, b)| match place {
            ReplicaId::A => LinkAddresses { local: a, remote: b.into() },
            ReplicaId::B => LinkAddresses { local: b, remote: a.into() },
        });
        let directory = self.directory(place);
        let mut settings =
            Settings::new(PAIR, place, links.to_vec(), self.witness.clone(), None, directory);
        settings.silence = Duration::from_secs(2);
        settings.silence_floor = Duration::from_secs(2);
        settings.linger = Duration::ZERO;
        settings.storage.segment_bytes = 4 << 20;
        settings
    }

    /// Waits until a process that was killed has let go of its ports.
    async fn ports(&self, settings: &Settings) {
        let bound = |link: &LinkAddresses| UdpSocket::bind(link.local).is_ok();
        soon(async {
            while !settings.links.iter().all(bound) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn start<S: StateMachine>(&self, settings: Settings, service: S) -> Running {
        let locked = Locked::take(&settings.storage.directory).unwrap();
        self.start_on(locked, settings, service)
    }

    fn start_on<S: StateMachine>(&self, locked: Locked, settings: Settings, service: S) -> Running {
        let (setup, mut started) = mpsc::unbounded_channel();
        let (outputs, released) = mpsc::unbounded_channel();
        let mut devices = Devices::default();
        assert_eq!(devices.table.add("line", OutputClass::Repeatable), Ok(DEVICE));
        devices.outsides.push(Box::new(Line { setup, released: outputs }));
        let credentials = self.cast.of(Role::CoServer(settings.place));
        let coserver = CoServer::start_on(locked, settings, credentials, service, devices).unwrap();
        let handle = coserver.handle();
        let inputs = started.try_recv().unwrap();
        let ended = tokio::spawn(coserver.run());
        Running { handle, inputs, released, ended }
    }
}

async fn start(execution: Execution) -> ([Running; 2], Stage) {
    start_on(Stage::new(), execution).await
}

async fn start_on(stage: Stage, execution: Execution) -> ([Running; 2], Stage) {
    let pair = ReplicaId::BOTH.map(|place| {
        let mut settings = stage.settings(place);
        settings.execution = execution;
        stage.start(settings, Echo)
    });
    for side in &pair {
        side.until(is_duplex).await;
    }
    (pair, stage)
}

#[tokio::test]
async fn inputs_of_both_sides_come_out_where_they_came_in() {
    for execution in [Execution::Inline, Execution::Thread] {
        let ([mut a, mut b], _stage) = start(execution).await;
        for _ in 0..20 {
            a.echo("from a").await;
            b.echo("from b").await;
        }
        let metrics = a.handle.metrics().await.unwrap();
        assert!(metrics.counters.entries >= 42, "{:?}", metrics.counters);
        assert!(metrics.commit.len() >= 40);
    }
}

#[tokio::test]
async fn what_was_released_is_seen_without_asking_the_loop() {
    let ([mut a, b], _stage) = start(Execution::Inline).await;
    let seen = [&a, &b].map(|side| side.handle.released().clone());
    let before = a.handle.status().await.unwrap().released;
    a.echo("one").await;
    for released in &seen {
        let reached = soon(released.reached(before.0 + 1)).await.unwrap();
        assert!(reached > before.0);
    }
    let [of_a, of_b] = seen;
    b.handle.command(Command::Stop).unwrap();
    soon(b.ended).await.unwrap();
    assert!(of_b.is_closed(), "it will not grow any more");
    a.until(is_alone).await;
    let last = of_a.get();
    let waiting = tokio::task::spawn_blocking(move || of_a.wait(last + 1, None));
    a.echo("again").await;
    assert!(soon(waiting).await.unwrap().unwrap() > last);
}

#[tokio::test]
async fn many_inputs_at_once_all_come_out_in_order() {
    let ([a, mut b], _stage) = start(Execution::Inline).await;
    let inputs = b.inputs.clone();
    let count = 20_000u32;
    tokio::spawn(async move {
        for number in 0..count {
            inputs.push(Bytes::copy_from_slice(&number.to_le_bytes())).await.unwrap();
        }
    });
    for number in 0..count {
        let bytes = soon(b.released.recv()).await.unwrap();
        assert_eq!(bytes.as_ref(), number.to_le_bytes());
    }
    drop(a);
}

#[tokio::test]
async fn a_member_that_is_told_to_stop_leaves_the_other_alone() {
    let ([a, mut b], _stage) = start(Execution::Inline).await;
    a.handle.command(Command::Stop).unwrap();
    b.until(is_alone).await;
    b.echo("alone").await;
    assert!(matches!(soon(a.ended).await.unwrap(), StopCause::Left { .. }));
}

#[tokio::test]
async fn the_sequencer_role_is_handed_over_on_command() {
    let ([mut a, mut b], _stage) = start(Execution::Inline).await;
    a.handle.command(Command::HandOver).unwrap();
    b.until(|status| status.is_sequencer).await;
    a.echo("from a").await;
    b.echo("from b").await;
}

/// The old machine's process is shut out at once, and the survivor goes on. The witness was told
/// first, so that the old process, which still runs, is not the one that goes on alone.
#[tokio::test]
async fn a_peer_whose_key_is_replaced_is_shut_out_at_once() {
    use crate::runtime::control::{Answer, CoServerControl, PeerKeys};
    use crate::runtime::keys::SecretKey;

    let stage = Stage::new();
    let cast = Arc::clone(&stage.cast);
    let ([mut a, _b], _stage) = start_on(stage, Execution::Inline).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    let (old, of_witness) = (cast.key_of(Role::CoServer(ReplicaId::B)), cast.key_of(Role::Witness));
    let text = format!("[peers]\ncoserver = \"{old}\" # the cellar\nwitness = \"{of_witness}\"\n");
    std::fs::write(&file, &text).unwrap();
    let credentials = cast.of(Role::CoServer(ReplicaId::A));
    let keys =
        PeerKeys { file: file.clone(), credentials: credentials.clone(), place: ReplicaId::B };
    let control = CoServerControl::new(a.handle.clone(), "echo").with_keys(keys);
    let own = cast.key_of(Role::CoServer(ReplicaId::A));
    for bad in [of_witness.to_string(), own.to_string(), "nonsense".into()] {
        let refused = control.answer(&format!("replace-peer {bad}")).await.unwrap_err();
        assert_eq!(refused.code, "not-done", "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    assert!(is_duplex(&a.handle.status().await.unwrap()));

    let key = SecretKey::generate().unwrap().public();
    cast.of(Role::Witness).replace(Role::CoServer(ReplicaId::B), &[old], key).unwrap();
    control.answer(&format!("replace-peer {key}")).await.unwrap();
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, text.replace(&old.to_string(), &key.to_string()));
    assert_eq!(credentials.roster().role_of(&old), None);
    assert_eq!(credentials.roster().role_of(&key), Some(Role::CoServer(ReplicaId::B)));
    let status = a.until(is_alone).await;
    assert!(status.links.iter().all(|link| !link.connected), "{:?}", status.links);
    a.echo("alone").await;
}

/// No process of a witness's own: the CoServers reach the same folder.
#[cfg(feature = "object-witness")]
#[tokio::test]
async fn a_pair_whose_witness_is_a_folder_forms_and_goes_on_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let mut operator = crate::runtime::witness::ObjectClient::open(&url, PAIR).unwrap();
    operator.enrol().await.unwrap();
    let stage = Stage { witness: WitnessAddress::Objects(url), ..Stage::new() };
    let ([a, mut b], _stage) = start_on(stage, Execution::Inline).await;
    assert_eq!(operator.look().await.unwrap().origin, crate::record::Origin::Formed);
    a.handle.command(Command::Stop).unwrap();
    b.until(is_alone).await;
    b.echo("alone").await;
    assert!(!operator.look().await.unwrap().members.is_duplex());
}
