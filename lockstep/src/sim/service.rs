//! The service that the simulated pair runs: registers, queues, lists, timers, chance, echoes.
//!
//! Every request carries an id of its own, and every effect leaves a note on the [`LEDGER`] device.
//! So the checkers see from outside what took effect, where and how often.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use super::ops::{Answer, Fired, Op, Request};
use super::rng::Rng;
use crate::digest::{Digest, Hasher};
use crate::ids::{DeviceId, LogTime, ReplicaId};
use crate::limits;
use crate::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use crate::output::Carrier;

/// Notes of effects; carried by both CoServers.
pub(super) const LEDGER: DeviceId = DeviceId(0);
/// Fired timers; carried by both CoServers.
pub(super) const TIMER: DeviceId = DeviceId(1);
/// Numbered inputs come from here, their echoes go back by a carrier of the input's choice.
pub(super) const PORT: DeviceId = DeviceId(2);

/// The sessions that end, if the service tells.
pub(super) const SESSIONS: DeviceId = DeviceId(3);

/// What a kept reply to a request costs, in bytes.
pub(super) const REPLY_COST: usize = REFUSAL_COST + Answer::LEN;
/// What a kept refusal of a request costs, in bytes.
pub(super) const REFUSAL_COST: usize = 64;

/// What goes wrong inside one replica's service, set from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultSwitch(Arc<AtomicU8>);

/// What can go wrong inside a replica's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceFault {
    /// The next note on the ledger has a bit flipped.
    Flip = 1,
    /// The next request panics.
    Panic = 2,
}

impl FaultSwitch {
    /// Lets the next step of this replica fail so.
    pub(super) fn set(&self, fault: ServiceFault) {
        self.0.store(fault as u8, Ordering::Relaxed);
    }

    /// Lets no more steps fail.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn take(&self, fault: ServiceFault) -> bool {
        self.0.compare_exchange(fault as u8, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// How the service is broken on purpose, to show that a checker notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The service is as it should be.
    #[default]
    None,
    /// Now and then a request takes effect twice.
    Twice,
    /// Now and then a read is answered with an older value.
    StaleRead,
    /// The service never says when it wants to be woken.
    Sleepy,
}

/// The service that the simulator runs on both replicas.
#[derive(Clone, Debug)]
pub(super) struct TestService {
    state: State,
    fault_switch: FaultSwitch,
    flaw: Flaw,
    tells_sessions: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    registers: BTreeMap<u8, u64>,
    older: BTreeMap<u8, u64>,
    queues: BTreeMap<u8, VecDeque<u64>>,
    lists: BTreeMap<u8, u64>,
    timers: BTreeSet<(u64, u64)>,
    chance: u64,
    applied: u64,
    noise: Digest,
    /// So many words that nobody asks for: a state that is long to bring to another CoServer.
    ballast: usize,
}

impl TestService {
    /// An empty shelf.
    pub(super) fn new(fault_switch: FaultSwitch, flaw: Flaw) -> Self {
        Self { state: State::default(), fault_switch, flaw, tells_sessions: false }
    }

    /// The same with so many bytes that lie there.
    pub(super) fn with_ballast(mut self, bytes: usize) -> Self {
        self.state.ballast = bytes / 8;
        self
    }

    /// The same, which tells a device of every session that ends.
    pub(super) fn telling_sessions(mut self, tells: bool) -> Self {
        self.tells_sessions = tells;
        self
    }

    fn request(&mut self, context: &mut Context<'_>, body: &[u8]) -> Bytes {
        let Ok(request) = Request::decode(body) else { return Bytes::new() };
        if self.fault_switch.take(ServiceFault::Panic) || request.op == Op::Poison {
            // Unwinds as a panic does, without the hook's message on standard error.
            std::panic::resume_unwind(Box::new("the simulated service panics"));
        }
        let answer = self.apply(context, request);
        if self.flaw == Flaw::Twice && self.state.applied.is_multiple_of(16) {
            self.apply(context, request);
        }
        answer.encode()
    }

    fn apply(&mut self, context: &mut Context<'_>, request: Request) -> Answer {
        self.note(context, request.id);
        let state = &mut self.state;
        match request.op {
            Op::Set { key, value } => {
                let before = state.registers.insert(key, value);
                before.map(|before| state.older.insert(key, before));
                Answer::Value(before)
            }
            Op::Get { key } => Answer::Value(self.read(key)),
            Op::Swap { key, from, to } => {
                let fits = state.registers.get(&key) == Some(&from);
                if fits {
                    state.registers.insert(key, to);
                }
                Answer::Done(fits)
            }
            Op::Push { queue, value } => {
                let queue = state.queues.entry(queue).or_default();
                queue.push_back(value);
                Answer::Length(queue.len() as u64)
            }
            Op::Pop { queue } => {
                Answer::Value(state.queues.get_mut(&queue).and_then(VecDeque::pop_front))
            }
            Op::Append { list } => {
                let length = state.lists.entry(list).or_default();
                *length += 1;
                Answer::Length(*length)
            }
            Op::Later { after } => {
                let at = context.now().plus(Duration::from_nanos(after));
                state.timers.insert((at.0, request.id));
                self.arm(context);
                Answer::Done(true)
            }
            Op::Chance => Answer::Noise(self.draw()),
            Op::Poison => Answer::Done(false),
        }
    }

    fn read(&self, key: u8) -> Option<u64> {
        let stale = self.flaw == Flaw::StaleRead && self.state.applied.is_multiple_of(7);
        let older = stale.then(|| self.state.older.get(&key)).flatten();
        older.or_else(|| self.state.registers.get(&key)).copied()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), seeded by the lineage's seed.
    fn draw(&mut self) -> u64 {
        self.state.chance = self.state.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Leaves a note that `id` took effect, with the state's running noise.
    fn note(&mut self, context: &mut Context<'_>, id: u64) {
        self.state.applied += 1;
        let mut hasher = Hasher::after(self.state.noise);
        hasher.number(id).number(context.now().0);
        self.state.noise = hasher.finish();
        let mut bytes = BytesMut::with_capacity(16);
        bytes.put_u64_le(id);
        bytes.put_slice(&self.state.noise.0[..8]);
        if self.fault_switch.take(ServiceFault::Flip) {
            bytes[12] ^= 0x10;
        }
        context.send(LEDGER, Carrier::Both, bytes.freeze());
    }

    fn device(&mut self, context: &mut Context<'_>, place: ReplicaId, bytes: &Bytes) {
        let Some(id) = bytes.first_chunk().map(|id| u64::from_le_bytes(*id)) else { return };
        self.note(context, id);
        let carrier = match id % 3 {
            0 => Carrier::Replica(place),
            1 => Carrier::Sequencer,
            _ => Carrier::Both,
        };
        context.send(PORT, carrier, bytes.clone());
    }

    fn wake(&mut self, context: &mut Context<'_>) {
        while let Some((at, id)) = self.state.timers.first().copied() {
            if LogTime(at) > context.now() {
                break;
            }
            self.state.timers.pop_first();
            let fired = Fired { id, due: LogTime(at) };
            context.send(TIMER, Carrier::Both, fired.encode());
        }
        self.arm(context);
    }

    fn arm(&self, context: &mut Context<'_>) {
        if self.flaw == Flaw::Sleepy {
            return;
        }
        context.set_wakeup(self.state.timers.first().map(|(at, _)| LogTime(*at)));
    }
}

/// What every simulated CoServer runs.
pub(super) fn shelf() -> Identity {
    Identity { name: "shelf".into(), version: 1, configuration: Digest::ZERO }
}

impl StateMachine for TestService {
    type Frozen = FrozenShelf;

    fn identity(&self) -> Identity {
        shelf()
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        match step {
            Step::Start { seed } => {
                self.state.chance = seed.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            }
            Step::Wake => self.wake(context),
            Step::Request { body, .. } => return self.request(context, body),
            Step::Device { place, bytes, .. } => self.device(context, place, bytes),
            Step::SessionEnded { session } if self.tells_sessions => {
                let bytes = Bytes::copy_from_slice(&session.0.to_le_bytes());
                context.send(SESSIONS, Carrier::Both, bytes);
            }
            Step::SessionOpened { .. }
            | Step::SessionEnded { .. }
            | Step::Resumed { .. }
            | Step::Members { .. } => {}
        }
        Bytes::new()
    }

    fn freeze(&self) -> FrozenShelf {
        FrozenShelf(self.state.clone())
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let mut next = || records.record()?.ok_or(RestoreError::Missing { missing: "shelf" });
        let mut state = State::default();
        for at in 0..SECTIONS {
            state.read(at, &numbers(&next()?)?)?;
        }
        for block in ballast(state.ballast).chunks(BLOCK) {
            if numbers(&next()?)? != block {
                return Err(invalid("its ballast has shifted"));
            }
        }
        self.state = state;
        Ok(())
    }
}

/// A view of the shelf.
pub(super) struct FrozenShelf(State);

impl Freeze for FrozenShelf {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        for at in 0..SECTIONS {
            let mut bytes = BytesMut::new();
            self.0.section(at).into_iter().for_each(|number| bytes.put_u64_le(number));
            debug_assert!(bytes.len() <= limits::RECORD_BYTES, "the simulated state is small");
            sink.record(&bytes)?;
        }
        for block in ballast(self.0.ballast).chunks(BLOCK) {
            let mut bytes = BytesMut::new();
            block.iter().for_each(|number| bytes.put_u64_le(*number));
            sink.record(&bytes)?;
        }
        Ok(())
    }
}

/// One record for each part of the state, each a row of numbers.
const SECTIONS: usize = 6;

/// Most words of ballast, and how many are in one record.
const BALLAST: u64 = 1 << 17;
const BLOCK: usize = 4096;

impl State {
    fn section(&self, at: usize) -> Vec<u64> {
        let pairs = |map: &BTreeMap<u8, u64>| {
            map.iter().flat_map(|(key, value)| [u64::from(*key), *value]).collect()
        };
        match at {
            0 => pairs(&self.registers),
            1 => pairs(&self.older),
            2 => pairs(&self.lists),
            3 => self
                .queues
                .iter()
                .flat_map(|(key, queue)| {
                    [u64::from(*key), queue.len() as u64].into_iter().chain(queue.iter().copied())
                })
                .collect(),
            4 => vec![self.ballast as u64],
            _ => {
                let mut row = vec![self.chance, self.applied];
                row.extend(self.noise.0.chunks(8).map(le));
                row.extend(self.timers.iter().flat_map(|(deadline, id)| [*deadline, *id]));
                row
            }
        }
    }

    fn read(&mut self, at: usize, row: &[u64]) -> Result<(), RestoreError> {
        let pairs = || row.chunks_exact(2).map(|pair| (pair[0] as u8, pair[1])).collect();
        match at {
            0 => self.registers = pairs(),
            1 => self.older = pairs(),
            2 => self.lists = pairs(),
            3 => {
                let mut rest = row;
                while let [key, len, tail @ ..] = rest {
                    let len = usize::try_from(*len).unwrap_or(usize::MAX);
                    let values = tail.get(..len).ok_or_else(|| invalid("queue is cut off"))?;
                    self.queues.insert(*key as u8, values.iter().copied().collect());
                    rest = &tail[len..];
                }
            }
            4 => match row {
                [words] if *words <= BALLAST => self.ballast = *words as usize,
                _ => return Err(invalid("so much ballast it never had")),
            },
            _ => {
                let [chance, applied, low, high, timers @ ..] = row else {
                    return Err(invalid("counters are missing"));
                };
                (self.chance, self.applied) = (*chance, *applied);
                self.noise.0[..8].copy_from_slice(&low.to_le_bytes());
                self.noise.0[8..].copy_from_slice(&high.to_le_bytes());
                self.timers = timers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            }
        }
        Ok(())
    }
}

/// Words that no compression makes shorter, always the same.
fn ballast(words: usize) -> Vec<u64> {
    let mut rng = Rng::new(0);
    (0..words).map(|_| rng.bits()).collect()
}

fn le(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn numbers(record: &[u8]) -> Result<Vec<u64>, RestoreError> {
    if !record.len().is_multiple_of(8) {
        return Err(invalid("its length is no multiple of eight"));
    }
    Ok(record.chunks_exact(8).map(le).collect())
}

fn invalid(why: &str) -> RestoreError {
    RestoreError::Invalid { record: "shelf", why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Index, RequestNumber, SessionId};

    struct Records(VecDeque<Bytes>);

    impl RecordSink for Records {
        fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
            self.0.push_back(Bytes::copy_from_slice(bytes));
            Ok(())
        }
    }

    impl RecordSource for Records {
        fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
            Ok(self.0.pop_front())
        }
    }

    fn ask(shelf: &mut TestService, id: u64, op: Op) -> Answer {
        let (mut outputs, mut wakeup) = (Vec::new(), None);
        let mut context = Context::new(Index(id), 0, LogTime(1000 * id), &mut outputs, &mut wakeup);
        let body = Request { id, op, padding: 0 }.encode();
        let number = RequestNumber(id);
        let step = Step::Request { session: SessionId(1), number, body: &body };
        let reply = shelf.step(&mut context, step);
        assert_eq!(outputs.len(), 1);
        Answer::decode(&reply).expect("the service answers in its own words")
    }

    #[test]
    fn a_restored_shelf_is_the_frozen_one() {
        let mut shelf = TestService::new(FaultSwitch::default(), Flaw::None).with_ballast(40_000);
        ask(&mut shelf, 1, Op::Set { key: 3, value: 30 });
        ask(&mut shelf, 2, Op::Set { key: 3, value: 31 });
        ask(&mut shelf, 3, Op::Push { queue: 1, value: 5 });
        ask(&mut shelf, 4, Op::Append { list: 2 });
        ask(&mut shelf, 5, Op::Later { after: 77 });
        ask(&mut shelf, 6, Op::Chance);
        let mut records = Records(VecDeque::new());
        shelf.freeze().write(&mut records).expect("the records fit");
        assert!(records.0.iter().any(|record| record.len() == BLOCK * 8));
        let mut copy = TestService::new(FaultSwitch::default(), Flaw::None);
        copy.restore(&mut records).expect("its own records");
        assert_eq!(copy.state, shelf.state);
        assert_eq!(
            ask(&mut copy, 7, Op::Pop { queue: 1 }),
            ask(&mut shelf, 7, Op::Pop { queue: 1 })
        );
    }

    #[test]
    fn a_flipped_bit_changes_one_note_and_not_the_state() {
        let fault_switch = FaultSwitch::default();
        let (mut good, mut bad) = (
            TestService::new(FaultSwitch::default(), Flaw::None),
            TestService::new(fault_switch.clone(), Flaw::None),
        );
        fault_switch.set(ServiceFault::Flip);
        ask(&mut good, 1, Op::Get { key: 1 });
        ask(&mut bad, 1, Op::Get { key: 1 });
        assert_eq!(good.state, bad.state);
        assert!(!fault_switch.take(ServiceFault::Flip));
    }
}
