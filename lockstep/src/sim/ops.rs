//! What the simulated clients ask for, and what they are answered, as bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::LogTime;

/// A request: its id is unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of the request, unique in a run.
    pub id: u64,
    /// What is asked.
    pub op: Op,
    /// How many zero bytes make the request longer.
    pub padding: u32,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a register; answered with what was there.
    Set {
        /// The register to write.
        key: u8,
        /// The new value.
        value: u64,
    },
    /// Reads a register.
    Get {
        /// The register to read.
        key: u8,
    },
    /// Writes a register if it has a value.
    Swap {
        /// The register to write.
        key: u8,
        /// The value that it must have.
        from: u64,
        /// The value that it then gets.
        to: u64,
    },
    /// Puts a value into a queue; answered with the queue's length.
    Push {
        /// The queue to put into.
        queue: u8,
        /// The value to put.
        value: u64,
    },
    /// Takes the oldest value out of a queue.
    Pop {
        /// The queue to take from.
        queue: u8,
    },
    /// Makes a list one longer; answered with its length.
    Append {
        /// The list to make longer.
        list: u8,
    },
    /// Sets a timer.
    Later {
        /// Due so many nanoseconds of log time later.
        after: u64,
    },
    /// Asks for a random number.
    Chance,
    /// Makes the service panic.
    Poison,
}

/// What the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A value, or that there is none.
    Value(Option<u64>),
    /// Whether the operation was done.
    Done(bool),
    /// The length of the queue or the list.
    Length(u64),
    /// A random number.
    Noise(u64),
}

/// A timer that has fired, as the service tells a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fired {
    /// The request that set it.
    pub(super) id: u64,
    /// When it was due.
    pub(super) due: LogTime,
}

/// The bytes are no request or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

const HEAD: usize = 8 + 1 + 1 + 8 + 8;

impl Request {
    /// As bytes: id, tag, object, two numbers, padding.
    pub fn encode(&self) -> Bytes {
        let (tag, object, x, y) = match self.op {
            Op::Set { key, value } => (0, key, value, 0),
            Op::Get { key } => (1, key, 0, 0),
            Op::Swap { key, from, to } => (2, key, from, to),
            Op::Push { queue, value } => (3, queue, value, 0),
            Op::Pop { queue } => (4, queue, 0, 0),
            Op::Append { list } => (5, list, 0, 0),
            Op::Later { after } => (6, 0, after, 0),
            Op::Chance => (7, 0, 0, 0),
            Op::Poison => (8, 0, 0, 0),
        };
        let mut bytes = BytesMut::with_capacity(HEAD + self.padding as usize);
        bytes.put_u64_le(self.id);
        bytes.put_u8(tag);
        bytes.put_u8(object);
        bytes.put_u64_le(x);
        bytes.put_u64_le(y);
        bytes.put_bytes(0, self.padding as usize);
        bytes.freeze()
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are no request.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, NotOurs> {
        if bytes.len() < HEAD {
            return Err(NotOurs);
        }
        let id = bytes.get_u64_le();
        let (tag, object) = (bytes.get_u8(), bytes.get_u8());
        let (x, y) = (bytes.get_u64_le(), bytes.get_u64_le());
        let op = match tag {
            0 => Op::Set { key: object, value: x },
            1 => Op::Get { key: object },
            2 => Op::Swap { key: object, from: x, to: y },
            3 => Op::Push { queue: object, value: x },
            4 => Op::Pop { queue: object },
            5 => Op::Append { list: object },
            6 => Op::Later { after: x },
            7 => Op::Chance,
            8 => Op::Poison,
            _ => return Err(NotOurs),
        };
        Ok(Self { id, op, padding: u32::try_from(bytes.len()).map_err(|_| NotOurs)? })
    }
}

impl Answer {
    /// How many bytes it is.
    pub const LEN: usize = 9;

    /// As bytes: tag, number.
    pub fn encode(self) -> Bytes {
        let (tag, number) = match self {
            Self::Value(None) => (0, 0),
            Self::Value(Some(value)) => (1, value),
            Self::Done(done) => (2, u64::from(done)),
            Self::Length(length) => (3, length),
            Self::Noise(noise) => (4, noise),
        };
        let mut bytes = BytesMut::with_capacity(Self::LEN);
        bytes.put_u8(tag);
        bytes.put_u64_le(number);
        bytes.freeze()
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are no answer.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, NotOurs> {
        if bytes.len() != Self::LEN {
            return Err(NotOurs);
        }
        let (tag, number) = (bytes.get_u8(), bytes.get_u64_le());
        Ok(match tag {
            0 => Self::Value(None),
            1 => Self::Value(Some(number)),
            2 => Self::Done(number == 1),
            3 => Self::Length(number),
            4 => Self::Noise(number),
            _ => return Err(NotOurs),
        })
    }
}

impl Fired {
    /// As bytes: two numbers.
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(16);
        bytes.put_u64_le(self.id);
        bytes.put_u64_le(self.due.0);
        bytes.freeze()
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they tell of no timer.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, NotOurs> {
        if bytes.len() != 16 {
            return Err(NotOurs);
        }
        Ok(Self { id: bytes.get_u64_le(), due: LogTime(bytes.get_u64_le()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_from_their_bytes() {
        let ops = [
            Op::Set { key: 1, value: u64::MAX },
            Op::Get { key: 2 },
            Op::Swap { key: 3, from: 4, to: 5 },
            Op::Push { queue: 6, value: 7 },
            Op::Pop { queue: 8 },
            Op::Append { list: 9 },
            Op::Later { after: 10 },
            Op::Chance,
            Op::Poison,
        ];
        for (id, op) in (0..).zip(ops) {
            let request = Request { id, op, padding: id as u32 * 3 };
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        let answers =
            [Answer::Value(None), Answer::Value(Some(3)), Answer::Done(true), Answer::Length(4)];
        for answer in answers {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        assert_eq!(Answer::decode(b"short"), Err(NotOurs));
        assert_eq!(Request::decode(b"short"), Err(NotOurs));
    }
}
