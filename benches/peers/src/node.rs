//! One node as a process: its member of the group, its connections, its clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use lockstep_benches::part::{Part, PartError, current_thread};
use lockstep_benches::talk::{Go, Ready};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::group::{LEADER, Member};
use crate::network::{Event, INBOX, SERVING, accept_all, dial, encode};

/// One tick: a heartbeat every 20 ms, an election after 100 to 200 ms.
const TICK: Duration = Duration::from_millis(10);
/// Events taken before the member works them off; so what came together is
/// replicated together.
const EVENT_BATCH: usize = 1_024;

/// Runs until the parent ends it.
pub(crate) fn play(part: &Part) -> Result<(), PartError> {
    let id = match part.options.words.as_slice() {
        [id] => id.parse().ok().filter(|id| (1..=u64::from(u8::MAX)).contains(id)),
        _ => None,
    };
    let id = id.ok_or_else(|| PartError::Arguments("raft-node needs its number".to_owned()))?;
    current_thread()?.block_on(async {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener =
            TcpListener::bind(loopback).await.map_err(PartError::io("bind a TCP socket"))?;
        let address = listener.local_addr().map_err(PartError::io("read the address"))?;
        let go = part.ready(Ready::at(address))?;
        let (inbox, events) = mpsc::channel(INBOX);
        tokio::spawn(accept_all(listener, part.options.load.size, inbox.clone()));
        let nodes = connect(id, &go, inbox)?;
        Node::new(id, nodes)?.run(events).await
    })
}

/// Connects to every node with a higher number; how many there are in all.
fn connect(own: u64, go: &Go, inbox: mpsc::Sender<Event>) -> Result<u64, PartError> {
    let nodes: BTreeMap<u64, _> =
        (1..).zip(go.parts.iter().filter_map(|ready| ready.address)).collect();
    if !nodes.contains_key(&own) {
        return Err(PartError::NoGo(format!("node {own} of {}", nodes.len())));
    }
    for (far, address) in nodes.range(own + 1..) {
        tokio::spawn(dial(own, *far, *address, inbox.clone()));
    }
    Ok(nodes.len() as u64)
}

struct Node {
    id: u64,
    /// How many other nodes there are.
    others: usize,
    member: Member,
    nodes: BTreeMap<u64, mpsc::Sender<Bytes>>,
    clients: BTreeMap<u32, mpsc::Sender<Bytes>>,
    /// Connected before this node led.
    waiting: Vec<u32>,
}

impl Node {
    fn new(id: u64, nodes: u64) -> Result<Self, PartError> {
        Ok(Self {
            id,
            others: usize::try_from(nodes - 1).unwrap_or(usize::MAX),
            member: Member::new(id, nodes).map_err(PartError::other("start raft-rs"))?,
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            waiting: Vec::new(),
        })
    }

    async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Result<(), PartError> {
        let mut ticks = tokio::time::interval(TICK);
        // After a pause of the whole process the ticks missed are not made up
        // for: a burst of them would call an election.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(EVENT_BATCH);
        loop {
            tokio::select! {
                // A full inbox must not keep time from passing.
                biased;
                _ = ticks.tick() => self.member.tick(),
                taken = events.recv_many(&mut batch, EVENT_BATCH) => {
                    if taken == 0 {
                        return Ok(());
                    }
                    for event in batch.drain(..) {
                        self.on_event(event)?;
                    }
                }
            }
            self.carry_out()?;
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), PartError> {
        match event {
            Event::Node(far, outbox) => self.on_node(far, outbox)?,
            Event::NodeGone(far) => {
                self.nodes.remove(&far);
                self.member.unreachable(far);
            }
            Event::Message(message) => self.member.step(*message),
            Event::Client(number, outbox) => {
                self.clients.insert(number, outbox);
                self.waiting.push(number);
            }
            Event::Request(number, body) => {
                // Refused: its connection ends, and the client says so.
                if self.member.propose(number, &body).is_err() {
                    self.clients.remove(&number);
                }
            }
            Event::ClientGone(number) => {
                self.clients.remove(&number);
            }
        }
        Ok(())
    }

    fn on_node(&mut self, far: u64, outbox: mpsc::Sender<Bytes>) -> Result<(), PartError> {
        self.nodes.insert(far, outbox);
        if self.id == LEADER && self.nodes.len() == self.others {
            self.member.campaign().map_err(PartError::other("campaign"))?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), PartError> {
        let effects = self.member.work().map_err(PartError::other("replicate"))?;
        for message in effects.messages {
            let framed = encode(&message).map_err(PartError::other("encode a message"))?;
            let outbox = self.nodes.get(&message.to);
            if outbox.is_none_or(|outbox| outbox.try_send(framed).is_err()) {
                self.member.unreachable(message.to);
            }
        }
        for (number, body) in effects.committed {
            self.reply(number, body);
        }
        if !self.waiting.is_empty() && self.member.is_serving() {
            for number in std::mem::take(&mut self.waiting) {
                self.reply(number, Bytes::from_static(&[SERVING]));
            }
        }
        Ok(())
    }

    /// Only the node that a client is connected to finds it here. A client that does not read its
    /// replies is disconnected.
    fn reply(&mut self, number: u32, body: Bytes) {
        if let Some(outbox) = self.clients.get(&number)
            && outbox.try_send(body).is_err()
        {
            self.clients.remove(&number);
        }
    }
}
