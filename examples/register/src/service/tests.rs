//! The service without a pair.

use lockstep::ids::ReplicaId;
use lockstep::testing::{Input, Script, Solo, check_determinism};

use super::*;

fn ask(solo: &mut Solo<Register>, op: Op) -> Answer {
    Answer::decode(&solo.request(1, op.encode()).unwrap()).unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn registers_hold_what_was_set() {
    let mut solo = Solo::new(Register::new());
    let name = || text("r");
    assert_eq!(ask(&mut solo, Op::Get { name: name() }), Answer::Value(None));
    assert_eq!(ask(&mut solo, Op::Set { name: name(), value: 3 }), Answer::Value(None));
    assert_eq!(ask(&mut solo, Op::Add { name: name(), delta: -5 }), Answer::Value(Some(-2)));
    let cas = |expected, value| Op::Cas { name: name(), expected, value };
    assert_eq!(ask(&mut solo, cas(Some(3), 9)), Answer::Differs(Some(-2)));
    assert_eq!(ask(&mut solo, cas(Some(-2), 9)), Answer::Swapped);
    assert_eq!(ask(&mut solo, Op::Get { name: name() }), Answer::Value(Some(9)));
    let overflow = Op::Add { name: name(), delta: i64::MAX };
    assert_eq!(ask(&mut solo, overflow), Answer::Refused(Refusal::Overflow));
    assert_eq!(ask(&mut solo, Op::Get { name: name() }), Answer::Value(Some(9)));
}

/// Whatever is said to change nothing changes nothing, and nothing else is said so.
#[test]
fn what_only_reads_leaves_the_state_as_it_is() {
    let (name, queue, item) = (|| text("r"), || text("q"), || text("x"));
    let ops = [
        (Op::Set { name: name(), value: 1 }, false),
        (Op::Push { queue: queue(), item: item() }, false),
        (Op::Get { name: name() }, true),
        (Op::Peek { queue: queue() }, true),
        (Op::Len { queue: queue() }, true),
        (Op::Now, true),
        (Op::Info, true),
        (Op::Cas { name: name(), expected: Some(1), value: 2 }, false),
        (Op::Add { name: name(), delta: 1 }, false),
        (Op::Random { below: 9 }, false),
        (Op::Remind { queue: queue(), item: item(), after: 1_000_000_000 }, false),
        (Op::Pop { queue: queue() }, false),
    ];
    let mut register = Register::new();
    for (op, reads) in ops {
        assert_eq!(Register::is_read_only(&op.encode()), reads, "{op:?}");
        let before = register.state.clone();
        register.apply(op.clone(), LogTime(1));
        assert_eq!(register.state == before, reads, "{op:?}");
    }
    for malformed in [&b""[..], b"get", &[0], &[1]] {
        assert!(!Register::is_read_only(malformed));
    }
}

#[test]
fn queues_give_back_in_order() {
    let mut solo = Solo::new(Register::new());
    let queue = || text("q");
    for (item, length) in [("one", 1), ("two", 2)] {
        let push = Op::Push { queue: queue(), item: text(item) };
        assert_eq!(ask(&mut solo, push), Answer::Length(length));
    }
    assert_eq!(ask(&mut solo, Op::Peek { queue: queue() }), Answer::Item(Some(text("one"))));
    for item in [Some("one"), Some("two"), None] {
        let answer = Answer::Item(item.map(text));
        assert_eq!(ask(&mut solo, Op::Pop { queue: queue() }), answer);
    }
    assert_eq!(ask(&mut solo, Op::Info), Answer::Info(Info::default()));
}

#[test]
fn reminders_come_when_they_are_due_and_in_order() {
    let mut solo = Solo::new(Register::new());
    let queue = || text("q");
    let remind = |item, after: Duration| Op::Remind {
        queue: queue(),
        item: text(item),
        after: after.as_nanos() as u64,
    };
    let Answer::Due(due) = ask(&mut solo, remind("later", Duration::from_secs(2))) else {
        panic!("refused");
    };
    assert_eq!(due, solo.now().0 + 2_000_000_000);
    ask(&mut solo, remind("sooner", Duration::from_secs(1)));
    solo.pass(Duration::from_millis(900));
    assert_eq!(ask(&mut solo, Op::Len { queue: queue() }), Answer::Length(0));
    solo.pass(Duration::from_secs(2));
    assert_eq!(solo.wakeup().filter(|at| *at <= solo.now()), None);
    for item in ["sooner", "later"] {
        let answer = Answer::Item(Some(text(item)));
        assert_eq!(ask(&mut solo, Op::Pop { queue: queue() }), answer);
    }
    let far = remind("never", limits::REMIND + Duration::from_nanos(1));
    assert_eq!(ask(&mut solo, far), Answer::Refused(Refusal::TooFar));
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let mut solo = Solo::new(Register::new());
    let mut refused = |op| match ask(&mut solo, op) {
        Answer::Refused(refusal) => refusal,
        answer => panic!("{answer:?}"),
    };
    let long = "x".repeat(limits::NAME_BYTES + 1);
    assert_eq!(refused(Op::Set { name: long, value: 0 }), Refusal::Name);
    assert_eq!(refused(Op::Push { queue: text(""), item: text("") }), Refusal::Name);
    let item = "x".repeat(limits::ITEM_BYTES + 1);
    assert_eq!(refused(Op::Push { queue: text("q"), item }), Refusal::ItemTooLong);
    assert_eq!(refused(Op::Random { below: 0 }), Refusal::Empty);
    let nonsense = solo.request(1, "nonsense").unwrap();
    assert_eq!(Answer::decode(&nonsense), Ok(Answer::Refused(Refusal::Malformed)));
}

#[test]
fn there_are_no_more_queues_and_texts_than_may_be() {
    let mut state = State::default();
    for n in 0..limits::QUEUES {
        state.push(n.to_string(), text("x")).unwrap();
    }
    assert_eq!(state.push(text("one more"), text("x")), Err(Refusal::TooManyQueues));
    let due = (LogTime(1), 0);
    state.reminders.insert(due, Reminder { queue: text("one more"), item: text("x") });
    state.remind(LogTime(1));
    assert_eq!((state.missed, state.reminders.len()), (1, 0));
    while state.items < limits::ITEMS {
        state.push(text("0"), text("x")).unwrap();
    }
    assert_eq!(state.check_room("0", "x"), Err(Refusal::TooManyItems));
    while state.registers.len() < limits::REGISTERS {
        state.set(state.registers.len().to_string(), 1).unwrap();
    }
    assert_eq!(state.set(text("one more"), 1), Err(Refusal::TooManyRegisters));
    assert_eq!(state.set(text("0"), 2), Ok(Some(1)));
}

#[test]
fn the_state_survives_a_restart() {
    let mut solo = Solo::new(Register::new());
    for n in 0..3000 {
        ask(&mut solo, Op::Set { name: format!("{n:060}"), value: n });
        let item = "x".repeat(limits::ITEM_BYTES);
        ask(&mut solo, Op::Push { queue: text("long"), item: item.clone() });
        ask(&mut solo, Op::Remind { queue: text("r"), item, after: 1_000_000_000_000 });
    }
    ask(&mut solo, Op::Random { below: 7 });
    let before = solo.service().state.clone();
    solo.restart(Register::new()).unwrap();
    assert_eq!(solo.service().state, before);
}

#[test]
fn nothing_is_lost_when_processes_end_and_come_back() {
    let mut solo = Solo::new(Register::new());
    ask(&mut solo, Op::Set { name: text("r"), value: 7 });
    ask(&mut solo, Op::Push { queue: text("q"), item: text("one") });
    ask(&mut solo, Op::Remind { queue: text("q"), item: text("two"), after: 5_000_000_000 });
    let before = solo.service().state.clone();
    for input in [
        Input::Alone(ReplicaId::A),
        Input::Duplex { sequencer: ReplicaId::A },
        Input::Restarted(ReplicaId::B),
        Input::Duplex { sequencer: ReplicaId::B },
    ] {
        solo.restart(Register::new()).unwrap();
        solo.feed(input);
        assert_eq!(solo.service().state, before);
    }
    solo.pass(Duration::from_secs(6));
    assert_eq!(ask(&mut solo, Op::Len { queue: text("q") }), Answer::Length(2));
}

#[test]
fn reminders_of_a_time_in_which_nobody_ran_come_late_and_once() {
    let mut solo = Solo::new(Register::new());
    ask(&mut solo, Op::Remind { queue: text("q"), item: text("one"), after: 5_000_000_000 });
    let gap = Duration::from_secs(3600);
    solo.feed(Input::RestartedAfter { place: ReplicaId::A, gap });
    assert_eq!(ask(&mut solo, Op::Len { queue: text("q") }), Answer::Length(1));
    solo.pass(gap);
    assert_eq!(ask(&mut solo, Op::Len { queue: text("q") }), Answer::Length(1));
}

#[test]
fn a_view_shares_what_does_not_change() {
    let mut state = State::default();
    for n in 0..limits::REGISTERS {
        state.set(format!("{n:06}"), 1).unwrap();
    }
    let view = Register { state: state.clone() }.freeze();
    assert!(view.state().registers.ptr_eq(&state.registers), "no copy is made");
    state.set(text("000000"), 2).unwrap();
    assert_eq!(view.state().registers.get("000000"), Some(&1), "the view stays as it was");
    state.registers.insert(text("000000"), 1);
    assert_eq!(view.state().registers, state.registers);
}

#[test]
fn it_is_deterministic() {
    for seed in 0..6 {
        let script = Script::random(seed, 400, |dice| {
            let name = format!("n{}", dice.below(4));
            let value = dice.below(5) as i64;
            let (item, after) = (format!("i{}", dice.below(1000)), dice.below(3_000_000_000));
            let op = match dice.below(12) {
                0 => Op::Get { name },
                1 => Op::Set { name, value },
                2 => Op::Cas { name, expected: Some(value), value: value + 1 },
                3 => Op::Add { name, delta: value },
                4 | 5 => Op::Push { queue: name, item },
                6 => Op::Pop { queue: name },
                7 => Op::Peek { queue: name },
                8 => Op::Remind { queue: name, item, after },
                9 => Op::Random { below: 1 + value as u64 },
                10 => Op::Now,
                _ => Op::Info,
            };
            op.encode()
        });
        let script =
            script.restarted(ReplicaId::A).duplex(ReplicaId::A).request(1, Op::Info.encode());
        check_determinism(Register::new, &script).unwrap();
    }
}

#[test]
fn a_damaged_state_is_refused() {
    struct Records(Vec<Bytes>);
    impl RecordSource for Records {
        fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
            Ok((!self.0.is_empty()).then(|| self.0.remove(0)))
        }
    }
    let mut register = Register::new();
    assert!(matches!(
        register.restore(&mut Records(Vec::new())),
        Err(RestoreError::Missing { missing: "header" })
    ));
    let header = [&[1u8][..], &[0; 32], &[0; 16], &[0; 16], &1u64.to_le_bytes(), &[0; 16]].concat();
    let mut cut = Records(vec![header.clone().into()]);
    assert!(matches!(register.restore(&mut cut), Err(RestoreError::Missing { .. })));
    let mut wrong = Records(vec![header.into(), Bytes::from_static(&[9, 0])]);
    assert!(matches!(register.restore(&mut wrong), Err(RestoreError::Invalid { .. })));
}
