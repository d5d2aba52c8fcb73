//! The witness's loop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Request;
use super::report::WitnessReport;
use super::store::{StoreThread, Written};
use super::troubles::Troubles;
use crate::ids::{ConnId, PairId, ReplicaId};
use crate::runtime::clock::Clock;
use crate::runtime::keys::PublicKey;
use crate::runtime::link::{ConnectionId, Event as NetworkEvent, Network};
use crate::runtime::quic::CloseCode;
use crate::runtime::refusals::Refusals;
use crate::wire::codec::{self, Encoder};
use crate::wire::frames::{WitnessAnswer, WitnessRefusal};
use crate::witness::{Event, Input, Output, StoreError, Stored, Witness};

/// A frame was not valid.
const INVALID_FRAME: CloseCode = CloseCode(CloseCode::FREE.0);
/// The core does not go on with the asker.
const TURNED_AWAY: CloseCode = CloseCode(CloseCode::FREE.0 + 1);

/// How long an asker that is turned away has to take the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// One asker's connection.
struct Asker {
    connection: ConnectionId,
    pair: PairId,
    place: ReplicaId,
}

pub(super) struct Loop {
    core: Witness,
    network: Network,
    store: StoreThread,
    clock: Clock,
    holders: BTreeMap<PublicKey, (PairId, ReplicaId)>,
    pairs: BTreeSet<PairId>,
    asked: mpsc::Receiver<Request>,
    encoder: Encoder,
    askers: BTreeMap<ConnId, Asker>,
    conns: BTreeMap<ConnectionId, ConnId>,
    last_conn: u64,
    refusals: Refusals,
    troubles: Troubles,
    /// Records that the store has and that are not written yet.
    storing: usize,
}

impl Loop {
    pub(super) fn new(
        core: Witness,
        network: Network,
        store: StoreThread,
        clock: Clock,
        holders: BTreeMap<PublicKey, (PairId, ReplicaId)>,
        pairs: BTreeSet<PairId>,
        asked: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            core,
            network,
            store,
            clock,
            holders,
            pairs,
            asked,
            encoder: Encoder::new(),
            askers: BTreeMap::new(),
            conns: BTreeMap::new(),
            last_conn: 0,
            refusals: Refusals::new(),
            troubles: Troubles::default(),
            storing: 0,
        }
    }

    /// The same, with what was amiss already when the records were read.
    pub(super) fn with_troubles(self, troubles: Troubles) -> Self {
        Self { troubles, ..self }
    }

    /// Serves until it is told to stop.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                event = self.network.next() => self.on_network(event),
                Some((pair, written)) = self.store.done() => self.on_stored(pair, &written),
                request = self.asked.recv() => match request {
                    Some(Request::Status(answer)) => {
                        let _ = answer.send(self.report());
                    }
                    Some(Request::Keys(pair, place, answer)) => {
                        let _ = answer.send(self.keys_of(pair, place));
                    }
                    Some(Request::Replaced(pair, place, key)) => self.replace(pair, place, key),
                    Some(Request::Stop) | None => return,
                },
            }
            self.drain();
        }
    }

    /// Waits for what is being written, answers, and says goodbye.
    pub(super) async fn end(mut self, within: Duration) {
        while self.storing > 0
            && let Some((pair, written)) = self.store.done().await
        {
            self.on_stored(pair, &written);
            self.drain();
        }
        self.network.shutdown(CloseCode::SHUTDOWN, "the witness is stopped", within).await;
        self.store.end().await;
    }

    fn keys_of(&self, pair: PairId, place: ReplicaId) -> Option<Vec<PublicKey>> {
        let of = |(key, holder): (&PublicKey, &_)| (*holder == (pair, place)).then_some(*key);
        self.pairs.contains(&pair).then(|| self.holders.iter().filter_map(of).collect())
    }

    fn replace(&mut self, pair: PairId, place: ReplicaId, key: PublicKey) {
        self.holders.retain(|_, holder| *holder != (pair, place));
        self.holders.insert(key, (pair, place));
        for asker in self.askers.values().filter(|asker| (asker.pair, asker.place) == (pair, place))
        {
            let peer = self.network.peer(asker.connection);
            if peer.is_some_and(|peer| peer.key != key) {
                self.network.close(asker.connection, TURNED_AWAY, "the key was replaced");
            }
        }
    }

    fn report(&self) -> WitnessReport {
        let now = self.clock.mono();
        let trouble = |pair| self.troubles.report(now, pair);
        let askers = self.askers.values().map(|asker| (asker.pair, asker.place));
        WitnessReport::new(&self.core, &self.pairs, askers, trouble)
    }

    fn on_network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Up { connection, peer, .. } => match self.holders.get(&peer.key) {
                Some(&(pair, place)) => self.on_up(connection, pair, place),
                // The roster and the holders come from one list.
                None => self.network.close(connection, TURNED_AWAY, "a key without a pair"),
            },
            NetworkEvent::Frame { connection, frame, .. } => self.on_frame(connection, &frame),
            NetworkEvent::Down { connection, peer, lost, .. } => {
                self.refusals.on_lost(&peer, None, &lost);
                if let Some(conn) = self.conns.remove(&connection) {
                    self.askers.remove(&conn);
                    self.handle(Input::Closed { conn });
                }
            }
            NetworkEvent::Failed { error, .. } => self.refusals.on_failed(&error, None),
            NetworkEvent::Writable { .. } => {}
        }
    }

    fn on_up(&mut self, connection: ConnectionId, pair: PairId, place: ReplicaId) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.conns.insert(connection, conn);
        self.askers.insert(conn, Asker { connection, pair, place });
    }

    fn on_frame(&mut self, connection: ConnectionId, frame: &Bytes) {
        let Some(&conn) = self.conns.get(&connection) else { return };
        let Some(Asker { pair, place, .. }) = self.askers.get(&conn) else { return };
        let (pair, place) = (*pair, *place);
        match codec::decode_witness_call(frame) {
            Ok(call) => self.handle(Input::Call { conn, pair, place, call }),
            Err(error) => {
                tracing::warn!(event = "frame_invalid", %pair, %place, %error);
                self.network.close(connection, INVALID_FRAME, &error.to_string());
            }
        }
    }

    fn on_stored(&mut self, pair: PairId, written: &Written) {
        self.storing -= 1;
        self.troubles.on_stored(self.clock.mono(), pair, written);
        self.handle(Input::Stored { pair, stored: Stored::from(written) });
    }

    /// The store's thread has ended, or is given more than one record of a pair at a time.
    fn on_not_taken(&mut self, pair: PairId) {
        self.on_stored(pair, &Err(StoreError::Failed { pair }));
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(self.clock.mono(), input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Answer { conn, answer } => self.answer(conn, &answer),
                Output::Close { conn } => {
                    if let Some(asker) = self.askers.get(&conn) {
                        let connection = asker.connection;
                        self.network.finish(connection, TURNED_AWAY, "turned away", FAREWELL);
                    }
                }
                Output::Store { present, record } => {
                    self.storing += 1;
                    if !self.store.replace(present, record) {
                        self.on_not_taken(record.pair);
                    }
                }
                Output::Adopt { record } => {
                    self.storing += 1;
                    if !self.store.adopt(record) {
                        self.on_not_taken(record.pair);
                    }
                }
                Output::Distrust { pair, told } => self.store.distrust(pair, told),
                Output::Event(event) => self.on_event(&event),
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        log(event);
        let now = self.clock.mono();
        match *event {
            Event::Behind { pair, ours, told } => self.troubles.on_behind(now, pair, ours, told),
            Event::Refused {
                pair,
                reason: WitnessRefusal::Storage | WitnessRefusal::Behind,
                ..
            } => {
                self.troubles.say_if_due(now, pair);
            }
            _ => {}
        }
    }

    /// An asker that takes no answers is disconnected; it asks again on another connection.
    fn answer(&mut self, conn: ConnId, answer: &WitnessAnswer) {
        let Some(asker) = self.askers.get(&conn) else { return };
        let sent = match self.encoder.witness_answer(answer) {
            Ok(bytes) => self.network.send(asker.connection, bytes).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(?conn, error, "answer not sent");
            self.network.close(asker.connection, TURNED_AWAY, "take the answers that you ask for");
        }
    }
}

/// The core's events as structured log events.
fn log(event: &Event) {
    match event {
        Event::Granted { record } => {
            super::report::say_granted(record);
        }
        Event::Denied { asker, why } => {
            tracing::info!(event = "denied", pair = %asker.pair, place = %asker.place, %why);
        }
        // Each time it is asked while it has only just started, which is every start of a pair; or
        // while the pair is in trouble, which is said now and then.
        Event::Refused {
            pair,
            place,
            reason:
                reason @ (WitnessRefusal::Starting | WitnessRefusal::Storage | WitnessRefusal::Behind),
        } => {
            tracing::debug!(event = "refused", %pair, %place, %reason);
        }
        Event::Refused { pair, place, reason } => {
            tracing::warn!(event = "refused", %pair, %place, %reason);
        }
        Event::Behind { pair, ours, told } => super::report::say_behind(*pair, *ours, *told),
        // Said with its reason where the result of writing comes.
        Event::NotStored { .. } => {}
        Event::StorageFailed { pair } => tracing::error!(event = "storage_failed", %pair),
        Event::Dropped { pair } => tracing::warn!(event = "dropped", %pair),
    }
}
