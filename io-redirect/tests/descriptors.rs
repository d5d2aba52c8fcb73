//! A CoServer without free descriptors neither spins nor gives up. Alone in its process, since
//! the limit is the process's.
#![cfg(feature = "runtime")]

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use io_redirect::snapshot::Snapshot;
use io_redirect::tcp::{ListenOptions, TcpLimits, TcpOptions, TcpOutside};
use io_redirect::{Io, Service, Wrapper};
use lockstep::device::{
    Descriptors, Device, InputQueue, Inputs, Outside, Released, Setup, Standing,
};
use lockstep::digest::Digest;
use lockstep::ids::{DeviceId, Epoch, Index, ReplicaId};
use lockstep::machine::{Identity, RecordSource, RestoreError};
use lockstep::output::{Carrier, OutputKind};
use lockstep::testing::{Solo, process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;

struct Door;

impl Service for Door {
    type Frozen = Snapshot<()>;
    fn identity(&self) -> Identity {
        Identity { name: "door".into(), version: 1, configuration: Digest::ZERO }
    }
    fn on_start(&mut self, io: &mut Io<'_>) {
        io.tcp().listen("door", ListenOptions::default()).unwrap();
    }
    fn freeze(&self) -> Snapshot<()> {
        Snapshot(())
    }
    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Snapshot::read(records)
    }
}

/// What the service wants of place A when it starts.
fn orders() -> Vec<Bytes> {
    let solo = Solo::new(Wrapper::with_tcp(Door, TcpLimits::default()).unwrap());
    let to_a = |kind: &OutputKind| match kind {
        OutputKind::Device { carrier: Carrier::Replica(ReplicaId::A), bytes, .. } => {
            Some(bytes.clone())
        }
        _ => None,
    };
    solo.started().iter().filter_map(|output| to_a(&output.kind)).collect()
}

fn start(queue: &std::sync::Arc<InputQueue>) -> (SocketAddr, Box<dyn Device>) {
    let listen = BTreeMap::from([("door".to_string(), vec![([127, 0, 0, 1], 0).into()])]);
    let options = TcpOptions { listen, ..TcpOptions::default() };
    let outside = TcpOutside::bind(options).unwrap();
    let address = outside.addresses("door")[0];
    let setup = Setup {
        device: DeviceId(0),
        place: ReplicaId::A,
        incarnation: process(ReplicaId::A, 0),
        inputs: Inputs::new(DeviceId(0), queue.clone()),
        descriptors: Descriptors::unbounded(),
    };
    let mut device = Box::new(outside).start(setup).unwrap();
    device.standing(Standing::Serving { epoch: Epoch(1), duplex: true, sequencer: ReplicaId::A });
    for bytes in orders() {
        let (epoch, index) = (Epoch(1), Index(1));
        device.release(Released { epoch, index, step: 0, ordinal: 0, bytes });
    }
    (address, device)
}

/// The processor time of this process.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Waits until this many clients have been accepted in all.
async fn accepted(queue: &InputQueue, count: usize) {
    while queue.len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_descriptors_it_waits_and_then_goes_on() {
    let queue = InputQueue::new(64);
    let (address, _device) = start(&queue);
    let first = loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            break stream;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    accepted(&queue, 1).await;
    // From here on the clients of this process take all descriptors that there are.
    let before = getrlimit(Resource::Nofile);
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 3), ..before }).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = std::net::TcpStream::connect(address) {
        clients.push(client);
    }
    assert!(!clients.is_empty());
    let work = worked();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let spent = worked() - work;
    assert!(spent < Duration::from_millis(200), "{spent:?} of processor time for nothing");
    assert_eq!(queue.len(), 1, "nobody could be accepted");
    setrlimit(Resource::Nofile, before).unwrap();
    let all = 1 + clients.len();
    tokio::time::timeout(Duration::from_secs(20), accepted(&queue, all)).await.unwrap();
    drop((first, clients));
}
