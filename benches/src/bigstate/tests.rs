//! The service without a pair.

use lockstep::ids::ReplicaId;
use lockstep::testing::{Script, Solo, check_determinism};

use super::*;

const BOTH: [Keeping; 2] = [Keeping::Shared, Keeping::Copied];

fn ask(solo: &mut Solo<BigState>, request: &Request) -> Answer {
    Answer::decode(&solo.request(1, request.encode()).unwrap()).unwrap()
}

#[derive(Default, PartialEq, Debug)]
struct Records(Vec<Bytes>);

impl RecordSink for Records {
    fn record(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        assert!(bytes.len() <= RECORD_BYTES);
        self.0.push(Bytes::copy_from_slice(bytes));
        Ok(())
    }
}

impl RecordSource for Records {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        Ok((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

fn written(view: &BigState) -> Records {
    let mut records = Records::default();
    view.write(&mut records).unwrap();
    records
}

#[test]
fn what_was_put_or_filled_can_be_got() {
    for keeping in BOTH {
        let mut solo = Solo::new(BigState::new(keeping));
        let mib = 1 << 20;
        assert_eq!(ask(&mut solo, &Request::Fill(2)), Answer::Size(512, 2 * mib));
        assert_eq!(ask(&mut solo, &Request::Fill(1)), Answer::Size(768, 3 * mib));
        let value = Bytes::from_static(b"value");
        let put = Request::Put(700, value.clone());
        assert_eq!(ask(&mut solo, &put), Answer::Size(768, 3 * mib - 4096 + 5));
        assert_eq!(ask(&mut solo, &Request::Get(700)), Answer::Value(Some(value)));
        assert_eq!(ask(&mut solo, &Request::Get(768)), Answer::Value(None));
        let Answer::Value(Some(page)) = ask(&mut solo, &Request::Get(7)) else { panic!() };
        assert!(page.len() == FILL_BYTES && page[..8] != page[8..16], "{page:?}");
    }
}

#[test]
fn what_is_over_a_bound_or_makes_no_sense_is_refused() {
    let mut solo = Solo::new(BigState::new(Keeping::Shared));
    assert_eq!(ask(&mut solo, &Request::Fill(FILL_MIB + 1)), Answer::Refused);
    let long = Request::Put(1, vec![0; VALUE_BYTES + 1].into());
    assert_eq!(ask(&mut solo, &long), Answer::Refused);
    for nonsense in [&b""[..], b"\x09", b"\x02abc", b"\x03x"] {
        let answer = solo.request(1, Bytes::copy_from_slice(nonsense)).unwrap();
        assert_eq!(Answer::decode(&answer), Some(Answer::Refused));
    }
    assert_eq!(ask(&mut solo, &Request::Size), Answer::Size(0, 0));
    let mut full = BigState::new(Keeping::Copied);
    full.bytes = STATE_BYTES - 4;
    assert_eq!(full.put(1, vec![0; 5]), Answer::Refused);
    assert_eq!(full.put(1, vec![0; 4]), Answer::Size(1, STATE_BYTES));
}

#[test]
fn both_ways_write_the_same_and_either_reads_it() {
    let states = BOTH.map(|keeping| {
        let mut state = BigState::new(keeping);
        state.answer(Request::Fill(3));
        state.answer(Request::Put(u64::MAX, Bytes::from_static(b"last")));
        state
    });
    assert_eq!(written(&states[0]), written(&states[1]));
    for keeping in BOTH {
        let mut restored = BigState::new(keeping);
        restored.restore(&mut written(&states[0])).unwrap();
        assert_eq!(restored.values.keeping(), keeping);
        assert_eq!(restored.answer(Request::Fill(1)), Answer::Size(1025, (4 << 20) + 4));
    }
}

#[test]
fn a_view_stays_as_it_was() {
    for keeping in BOTH {
        let mut state = BigState::new(keeping);
        state.answer(Request::Fill(1));
        let view = state.freeze();
        let before = written(&view);
        state.answer(Request::Put(3, Bytes::from_static(b"changed")));
        state.answer(Request::Fill(1));
        assert_eq!(written(&view), before);
        assert_ne!(written(&state), before);
    }
    let mut state = BigState::new(Keeping::Shared);
    state.answer(Request::Fill(1));
    let view = state.freeze();
    let (Values::Shared(one), Values::Shared(other)) = (&view.values, &state.values) else {
        panic!();
    };
    assert!(one.ptr_eq(other), "nothing is copied");
}

#[test]
fn a_damaged_state_is_refused() {
    let mut state = BigState::new(Keeping::Shared);
    state.answer(Request::Fill(1));
    let whole = written(&state);
    let mut restored = BigState::new(Keeping::Shared);
    for kept in 0..whole.0.len() {
        let mut short = Records(whole.0[..kept].to_vec());
        assert!(restored.restore(&mut short).is_err(), "{kept} records");
    }
    for cut in [1, 11, 100, FILL_BYTES] {
        let mut records = Records(whole.0.clone());
        records.0[1].truncate(whole.0[1].len() - cut);
        assert!(restored.restore(&mut records).is_err(), "{cut} bytes fewer");
    }
}

#[test]
fn it_is_deterministic() {
    for keeping in BOTH {
        let script = Script::random(5, 120, |dice| {
            let key = dice.below(600);
            match dice.below(8) {
                0 => Request::Fill(1),
                1..=3 => Request::Put(key, dice.bytes(300).into()),
                4..=6 => Request::Get(key),
                _ => Request::Size,
            }
            .encode()
        });
        let script = script.restarted(ReplicaId::B).request(1, Request::Size.encode());
        check_determinism(|| BigState::new(keeping), &script).unwrap();
    }
}

#[test]
fn the_flag_names_both_ways() {
    assert_eq!("shared".parse(), Ok(Keeping::Shared));
    assert_eq!("copied".parse(), Ok(Keeping::Copied));
    let error = "cloned".parse::<Keeping>().unwrap_err().to_string();
    assert!(error.contains("write `shared` or `copied`"), "{error}");
}
