//! The check finds what it is for, and names it; the driver does what it says.

use core::time::Duration;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Check, Difference, Input, Mismatch, Run, Script, Solo, check_determinism, process};
use crate::digest::Digest;
use crate::ids::{DeviceId, Index, ReplicaId};
use crate::machine::{
    Context, Freeze, Identity, RecordSink, RecordSource, RestoreError, SinkError, StateMachine,
    Step,
};
use crate::output::{Carrier, OutputKind, Refusal};
use crate::record::Members;

/// A service with one flaw of choice: it keeps words, and tells how many it has and all of them.
#[derive(Clone)]
struct Words {
    flaw: Flaw,
    words: Vec<Vec<u8>>,
    total: u64,
    shared: Arc<AtomicU64>,
    frozen: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    HashOrder,
    Address,
    ThreadLocal,
    ForgetsInFreeze,
    ForgetsInRestore,
    CountsViews,
    SharesWithView,
    PanicsInRestore,
    Panics,
    LongRecord,
    Wakes,
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Words {
    fn with(flaw: Flaw) -> impl Fn() -> Self + Sync {
        move || Self {
            flaw,
            words: Vec::new(),
            total: 0,
            shared: Arc::default(),
            frozen: Arc::default(),
        }
    }

    #[expect(clippy::disallowed_types, reason = "the mistake that the check has to find")]
    fn listed(&self) -> Vec<u8> {
        if self.flaw == Flaw::HashOrder {
            let set: std::collections::HashSet<_> = self.words.iter().collect();
            return set.into_iter().flatten().copied().collect();
        }
        self.words.concat()
    }

    fn extra(&self) -> u64 {
        match self.flaw {
            Flaw::Address => std::ptr::from_ref(self) as u64,
            Flaw::ThreadLocal => CALLS.with(|calls| calls.replace(calls.get() + 1)),
            Flaw::CountsViews => self.frozen.load(Ordering::Relaxed),
            _ => 0,
        }
    }
}

impl Freeze for Words {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        let total = match self.flaw {
            Flaw::ForgetsInFreeze => 0,
            Flaw::SharesWithView => self.shared.load(Ordering::Relaxed),
            _ => self.total,
        };
        sink.record(&total.to_le_bytes())?;
        if self.flaw == Flaw::LongRecord {
            sink.record(&vec![0; crate::limits::RECORD_BYTES + 1])?;
        }
        self.words.iter().try_for_each(|word| sink.record(word))
    }
}

impl StateMachine for Words {
    type Frozen = Self;

    fn identity(&self) -> Identity {
        Identity { name: "words".into(), version: 1, configuration: Digest::ZERO }
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        let bytes = match step {
            Step::Request { body, .. } => body,
            Step::Device { bytes, .. } => bytes,
            _ => return Bytes::new(),
        };
        assert!(!(self.flaw == Flaw::Panics && bytes == b"panic"), "told to");
        self.total += bytes.len() as u64;
        self.shared.store(self.total, Ordering::Relaxed);
        self.words.push(bytes.to_vec());
        if self.flaw == Flaw::Wakes {
            let at = context
                .now()
                .plus(Duration::from_nanos(std::ptr::from_ref(self) as u64 & 0xFFFF_FFFF));
            context.set_wakeup(Some(at));
        }
        let mut reply = format!("{} {} ", self.total, self.extra()).into_bytes();
        reply.extend(self.listed());
        context.send(DeviceId(3), Carrier::Both, Bytes::copy_from_slice(bytes));
        reply.into()
    }

    fn freeze(&self) -> Self {
        self.frozen.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        assert!(self.flaw != Flaw::PanicsInRestore, "what is this?");
        let total = records.record()?.ok_or(RestoreError::Missing { missing: "total" })?;
        if self.flaw != Flaw::ForgetsInRestore {
            let why = || RestoreError::Missing { missing: "total" };
            self.total = u64::from_le_bytes(total[..].try_into().map_err(|_| why())?);
        }
        while let Some(word) = records.record()? {
            self.words.push(word.to_vec());
        }
        Ok(())
    }
}

fn script() -> Script {
    let mut script = Script::new();
    for word in ["anna", "bert", "carl", "dora", "emil", "frida", "gustav", "helga"] {
        script = script.request(1, word).device(2, ReplicaId::B, word).pass(Duration::from_secs(1));
    }
    script.again(1).request(2, "panic")
}

fn found(flaw: Flaw) -> Difference {
    let difference = check_determinism(Words::with(flaw), &script()).unwrap_err();
    assert!(!difference.to_string().contains('\n'));
    difference
}

#[test]
fn a_deterministic_service_passes() {
    check_determinism(Words::with(Flaw::None), &script()).unwrap();
    Check::new().batches(3).run(Words::with(Flaw::None), &script()).unwrap();
    Check::new().batches(1000).run(Words::with(Flaw::None), &script()).unwrap();
    check_determinism(Words::with(Flaw::None), &Script::new()).unwrap();
}

#[test]
fn hash_order_is_found_and_the_first_byte_named() {
    let difference = found(Flaw::HashOrder);
    assert_eq!(difference.run, Run::Batches);
    let Mismatch::Output { straight: Some(straight), other: Some(other), byte: Some(byte) } =
        &*difference.what
    else {
        panic!("{difference}")
    };
    let bytes = [straight, other].map(|output| match &output.kind {
        OutputKind::Reply { result: Ok(bytes), .. } => bytes.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(bytes[0][..*byte], bytes[1][..*byte]);
    assert_ne!(bytes[0][*byte], bytes[1][*byte]);
    let text = difference.to_string();
    assert!(text.contains("request ") && text.contains(&format!("at byte {byte}")), "{text}");
}

#[test]
fn an_address_in_an_output_is_found() {
    let difference = found(Flaw::Address);
    assert_eq!(difference.run, Run::Batches);
    let entry = difference.input.as_ref().unwrap();
    assert_eq!(entry.index, Index(4), "the first request: {difference}");
    assert!(difference.to_string().contains("\"anna\""), "{difference}");
}

#[test]
fn what_depends_on_how_the_log_is_cut_into_batches_is_found() {
    assert_eq!(found(Flaw::ThreadLocal).run, Run::Batches);
    assert_eq!(found(Flaw::CountsViews).run, Run::Views);
}

#[test]
fn a_wake_up_that_differs_is_found() {
    assert!(matches!(*found(Flaw::Wakes).what, Mismatch::Wakeup { .. }));
}

#[test]
fn a_field_that_is_not_frozen_is_found_at_the_next_output() {
    let difference = found(Flaw::ForgetsInFreeze);
    assert_eq!(difference.run, Run::Restores);
    let restored = difference.restored.unwrap();
    assert!(difference.input.as_ref().unwrap().index > restored);
    assert!(difference.to_string().contains("state restored after entry"), "{difference}");
}

#[test]
fn a_field_that_is_frozen_and_not_restored_is_found_at_once() {
    let difference = found(Flaw::ForgetsInRestore);
    let Mismatch::Restored(spot) = *difference.what else { panic!("{difference}") };
    assert_eq!((spot.record, spot.byte), (Some(0), 0));
    assert!(difference.to_string().contains("byte 0 of the service's record 0"), "{difference}");
}

#[test]
fn a_view_that_is_no_view_is_found() {
    let difference = found(Flaw::SharesWithView);
    assert!(matches!(*difference.what, Mismatch::View(_)), "{difference}");
}

#[test]
fn a_panic_is_told_with_its_message() {
    let difference = found(Flaw::PanicsInRestore);
    assert!(difference.to_string().contains("what is this?"), "{difference}");
    let difference = found(Flaw::Panics);
    assert!(difference.to_string().contains("panics in every run"), "{difference}");
    assert!(difference.to_string().contains("told to"), "{difference}");
}

#[test]
fn a_record_too_long_is_told() {
    let difference = found(Flaw::LongRecord);
    assert!(difference.to_string().contains("smaller records"), "{difference}");
}

#[test]
fn a_random_script_is_the_same_for_the_same_seed_and_reaches_everything() {
    let script = |seed| Script::random(seed, 400, |rng| rng.bytes(8));
    assert_eq!(script(1).entries(), script(1).entries());
    assert_ne!(script(1).entries(), script(2).entries());
    let script = script(1);
    let kinds: std::collections::BTreeSet<_> =
        script.entries().iter().map(|entry| kind_name(&entry.kind)).collect();
    assert_eq!(kinds.len(), 10, "all but device events: {kinds:?}");
    check_determinism(Words::with(Flaw::None), &script).unwrap();
    let devices = Script::random_inputs(3, 100, |rng| Input::device(2, rng.bytes(8)));
    check_determinism(Words::with(Flaw::None), &devices).unwrap();
}

/// Counts the processes that it was run by, in a field that it forgets to freeze.
#[derive(Clone, Default)]
struct Forgetful {
    seen: Vec<Members>,
    changes: u64,
}

impl Freeze for Forgetful {
    fn write(&self, _: &mut dyn RecordSink) -> Result<(), SinkError> {
        Ok(())
    }
}

impl StateMachine for Forgetful {
    type Frozen = Self;

    fn identity(&self) -> Identity {
        Words::with(Flaw::None)().identity()
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        if let Step::Members { members, .. } = step {
            self.seen.push(members);
            self.changes += 1;
            context.send(DeviceId(0), Carrier::Both, self.changes.to_string().into());
        }
        Bytes::new()
    }

    fn freeze(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[test]
fn every_return_is_a_new_process_at_the_same_place() {
    let (a, b) = (|starts| process(ReplicaId::A, starts), |starts| process(ReplicaId::B, starts));
    let mut solo = Solo::new(Forgetful::default());
    let inputs = [
        Input::Alone(ReplicaId::A),
        Input::Duplex { sequencer: ReplicaId::A },
        Input::Duplex { sequencer: ReplicaId::B },
        Input::Restarted(ReplicaId::A),
        Input::Restarted(ReplicaId::A),
        Input::Alone(ReplicaId::B),
    ];
    for input in inputs {
        solo.feed(input);
    }
    let expected = [
        Members::both(a(0), b(0)),
        Members::alone(ReplicaId::A, a(0)),
        Members::both(a(0), b(1)),
        Members::both(a(0), b(1)),
        Members::alone(ReplicaId::A, a(1)),
        Members::alone(ReplicaId::A, a(2)),
        Members::both(a(2), b(2)),
        Members::alone(ReplicaId::B, b(2)),
    ];
    assert_eq!(solo.service().seen, expected);
    let told: std::collections::BTreeSet<u64> = expected
        .iter()
        .flat_map(|members| [members.a, members.b])
        .flatten()
        .map(|it| it.0)
        .collect();
    assert_eq!(told.len(), 6, "no two processes have one name");
}

#[test]
fn a_process_that_starts_again_has_only_what_was_frozen() {
    for script in [
        Script::new().restarted(ReplicaId::B),
        Script::new().alone(ReplicaId::A).duplex(ReplicaId::A),
        Script::new().restarted(ReplicaId::A).duplex(ReplicaId::A).restarted(ReplicaId::B),
    ] {
        let difference = Check::new()
            .batches(1)
            .run(Forgetful::default, &script)
            .expect_err("one batch, and yet it was restored");
        assert_eq!(difference.run, Run::Restores);
        assert!(matches!(*difference.what, Mismatch::Output { .. }), "{difference}");
    }
    Check::new().batches(1).run(Forgetful::default, &Script::new().alone(ReplicaId::A)).unwrap();
}

fn kind_name(kind: &crate::entry::EntryKind) -> String {
    let text = match kind.inputs() {
        [input] => format!("{input:?}"),
        _ => format!("{kind:?}"),
    };
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn inputs_of_a_property_test_make_a_script(
        requests in prop::collection::vec((0u32..3, prop::collection::vec(any::<u8>(), 0..9)), 0..30)
    ) {
        let script: Script =
            requests.into_iter().map(|(client, body)| Input::request(client, body)).collect();
        prop_assert!(check_determinism(Words::with(Flaw::None), &script).is_ok());
    }
}

#[test]
fn solo_gives_answers_and_what_is_sent() {
    let mut solo = Solo::new(Words::with(Flaw::None)());
    assert!(solo.started().is_empty());
    assert_eq!(solo.request(1, "ab").unwrap(), "2 0 ab");
    assert_eq!(solo.request(2, "c").unwrap(), "3 0 abc");
    assert_eq!(solo.device(5, "dd"), [(DeviceId(3), Bytes::from_static(b"dd"))]);
    solo.restart(Words::with(Flaw::None)()).unwrap();
    assert_eq!(solo.request(1, "e").unwrap(), "6 0 abcdde");
    assert_eq!(solo.service().words.len(), 4);
    let again = solo.feed(Input::Again { client: 1, back: 0 });
    assert!(
        matches!(&again[0].kind, OutputKind::Reply { result: Ok(bytes), .. } if bytes == "6 0 abcdde")
    );
}

#[test]
fn solo_lets_sessions_expire() {
    let mut solo = Solo::new(Words::with(Flaw::None)());
    solo.feed(Input::Open { client: 1 });
    assert!(solo.session(1).is_some() && solo.wakeup().is_some());
    solo.pass(crate::limits::SESSION_IDLE);
    assert_eq!(solo.request(1, "x"), Err(Refusal::UnknownSession));
}

/// Wakes itself up every second.
struct Clock(Duration);

impl StateMachine for Clock {
    type Frozen = Words;

    fn identity(&self) -> Identity {
        Words::with(Flaw::None)().identity()
    }

    fn step(&mut self, context: &mut Context<'_>, step: Step<'_>) -> Bytes {
        if matches!(step, Step::Start { .. } | Step::Wake) {
            context.set_wakeup(Some(context.now().plus(self.0)));
            context.send(DeviceId(0), Carrier::Both, Bytes::new());
        }
        Bytes::new()
    }

    fn freeze(&self) -> Words {
        Words::with(Flaw::None)()
    }

    fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> {
        Ok(())
    }
}

#[test]
fn solo_lets_every_wake_up_come_at_its_time() {
    let mut solo = Solo::new(Clock(Duration::from_secs(1)));
    assert_eq!(solo.started().len(), 1);
    assert_eq!(solo.pass(Duration::from_secs(3600)).len(), 3600);
}

#[test]
#[should_panic(expected = "wakes itself up again and again")]
fn solo_does_not_go_on_for_ever() {
    Solo::new(Clock(Duration::ZERO)).pass(Duration::from_secs(1));
}

#[test]
#[should_panic(expected = "told to")]
fn solo_passes_a_panic_on() {
    let _ = Solo::new(Words::with(Flaw::Panics)()).request(1, "panic");
}
