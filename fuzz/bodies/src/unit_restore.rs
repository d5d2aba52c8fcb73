//! Any bytes as a frozen unit.
//!
//! The first byte says what the rest is: the byte string of a frozen state (even), or its records,
//! each after its length in two bytes. Those need no right checksums.

use bytes::Bytes;
use lockstep::entry::{Entry, EntryKind, Origin};
use lockstep::ids::{Epoch, Incarnation, LogTime, OriginNumber, ReplicaId};
use lockstep::machine::{RecordSource, RestoreError};
use lockstep::unit::records::Reader;
use lockstep::unit::{Unit, UnitConfig};

use crate::counting_service::CountingService;
use crate::source::Source;

/// Nothing in the records is taken on trust; and what is restored can be frozen, restored to
/// the same, and go on.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    if how & 1 == 0 {
        if let Ok(mut reader) = Reader::open(Bytes::copy_from_slice(rest)) {
            restore(&mut reader);
        }
    } else {
        restore(&mut Records(Source::new(rest)));
    }
}

fn restore(source: &mut dyn RecordSource) {
    let Ok(mut unit) = Unit::restore(CountingService::default(), UnitConfig::default(), source)
    else {
        return;
    };
    let bytes = unit.freeze().to_bytes().expect("what was restored can be frozen");
    let mut reader = Reader::open(bytes.clone()).expect("what was just written can be read");
    let again = Unit::restore(CountingService::default(), UnitConfig::default(), &mut reader)
        .expect("what was just frozen can be restored");
    assert_eq!(again.freeze().to_bytes().expect("as before"), bytes, "a unit changes");
    go_on(&mut unit);
}

fn go_on(unit: &mut Unit<CountingService>) {
    let entry = Entry {
        index: unit.index().next(),
        epoch: Epoch(1),
        time: LogTime(unit.time().0.saturating_add(1)),
        origin: Origin {
            place: ReplicaId::A,
            incarnation: Incarnation(1),
            number: OriginNumber(0),
        },
        kind: EntryKind::Tick,
    };
    let executed = unit.execute(&entry);
    assert_eq!(executed.panic, None);
}

/// Records as the input says.
struct Records<'a>(Source<'a>);

impl RecordSource for Records<'_> {
    fn record(&mut self) -> Result<Option<Bytes>, RestoreError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let len = u16::from_le_bytes([self.0.byte(), self.0.byte()]);
        Ok(Some(Bytes::copy_from_slice(self.0.take(len.into()))))
    }
}
