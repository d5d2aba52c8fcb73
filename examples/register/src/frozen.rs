//! The state as records: a header, then registers, queues and reminders in chunks.

use lockstep::ids::LogTime;
use lockstep::machine::{Freeze, RecordSink, RecordSource, RestoreError, SinkError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::layout::{Malformed, Reader, Writer};
use crate::limits::CHUNK_BYTES;
use crate::service::{Reminder, State};

/// The layout's version, the first byte of the header.
const VERSION: u8 = 1;

const REGISTERS: u8 = 1;
const QUEUE: u8 = 2;
const REMINDERS: u8 = 3;

/// A consistent view of the service's state.
#[derive(Debug)]
pub struct Frozen(State);

impl Frozen {
    pub(crate) fn new(state: State) -> Self {
        Self(state)
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> &State {
        &self.0
    }

    /// Reads what [`Freeze::write`] wrote.
    pub(crate) fn read(records: &mut dyn RecordSource) -> Result<State, RestoreError> {
        let header = records.record()?.ok_or(RestoreError::Missing { missing: "header" })?;
        let (mut state, counts) = read_header(&header).map_err(|why| invalid("header", why))?;
        while let Some(record) = records.record()? {
            read_chunk(&mut state, &record).map_err(|why| invalid("content", why))?;
        }
        let found = [state.registers.len(), state.items, state.reminders.len()];
        if found.map(|count| count as u64) != counts {
            return Err(RestoreError::Missing { missing: "content" });
        }
        Ok(state)
    }
}

fn invalid(record: &'static str, why: Malformed) -> RestoreError {
    RestoreError::Invalid { record, why: why.to_string() }
}

impl Freeze for Frozen {
    fn write(&self, sink: &mut dyn RecordSink) -> Result<(), SinkError> {
        let State { registers, queues, reminders, next, missed, items, random } = &self.0;
        let counts = [registers.len(), *items, reminders.len()];
        let mut header = Writer::new();
        header.u8(VERSION).raw(&random.get_seed()).raw(&random.get_word_pos().to_le_bytes());
        header.u64(*next).u64(*missed);
        for count in counts {
            header.u64(count as u64);
        }
        sink.record(&header.take())?;

        let mut chunks = Chunks { sink, chunk: Writer::new() };
        for (name, value) in registers {
            chunks.begin(REGISTERS, None)?.text(name).i64(*value);
        }
        chunks.end()?;
        for (name, items) in queues {
            for item in items {
                chunks.begin(QUEUE, Some(name))?.text(item);
            }
            chunks.end()?;
        }
        for ((due, number), Reminder { queue, item }) in reminders {
            let chunk = chunks.begin(REMINDERS, None)?;
            chunk.u64(due.0).u64(*number).text(queue).text(item);
        }
        chunks.end()
    }
}

/// Fills records one after the other.
struct Chunks<'a> {
    sink: &'a mut dyn RecordSink,
    chunk: Writer,
}

impl Chunks<'_> {
    /// Where the next part goes: the present record, or a new one with its beginning.
    fn begin(&mut self, tag: u8, name: Option<&str>) -> Result<&mut Writer, SinkError> {
        if self.chunk.len() >= CHUNK_BYTES {
            self.end()?;
        }
        if self.chunk.is_empty() {
            self.chunk.u8(tag);
            if let Some(name) = name {
                self.chunk.text(name);
            }
        }
        Ok(&mut self.chunk)
    }

    fn end(&mut self) -> Result<(), SinkError> {
        match self.chunk.is_empty() {
            true => Ok(()),
            false => self.sink.record(&self.chunk.take()),
        }
    }
}

fn read_header(record: &[u8]) -> Result<(State, [u64; 3]), Malformed> {
    let mut input = Reader::new(record);
    let version = input.u8()?;
    if version != VERSION {
        return Err(Malformed::Tag(version));
    }
    let mut random = ChaCha8Rng::from_seed(input.array()?);
    random.set_word_pos(u128::from_le_bytes(input.array()?));
    let (next, missed) = (input.u64()?, input.u64()?);
    let counts = [input.u64()?, input.u64()?, input.u64()?];
    input.end()?;
    Ok((State { next, missed, random, ..State::default() }, counts))
}

fn read_chunk(state: &mut State, record: &[u8]) -> Result<(), Malformed> {
    let mut input = Reader::new(record);
    let tag = input.u8()?;
    let queue = match tag {
        QUEUE => input.text()?,
        _ => "",
    };
    while !input.is_at_end() {
        match tag {
            REGISTERS => {
                state.registers.insert(input.text()?.to_owned(), input.i64()?);
            }
            QUEUE => {
                let items = state.queues.entry(queue.to_owned()).or_default();
                items.push_back(input.text()?.to_owned());
                state.items += 1;
            }
            REMINDERS => {
                let key = (LogTime(input.u64()?), input.u64()?);
                let (queue, item) = (input.text()?.to_owned(), input.text()?.to_owned());
                state.reminders.insert(key, Reminder { queue, item });
            }
            tag => return Err(Malformed::Tag(tag)),
        }
    }
    Ok(())
}
