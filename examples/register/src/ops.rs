//! What can be asked and answered, and its layout in bytes: a mark, then the fields in order.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::layout::{Malformed, Reader, Writer};

/// What can be asked. Texts are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Asks for a register's value.
    Get {
        /// The name of the register.
        name: String,
    },
    /// Gives a register a value.
    Set {
        /// The name of the register.
        name: String,
        /// The new value.
        value: i64,
    },
    /// Gives a register a value if it has the expected one.
    Cas {
        /// The name of the register.
        name: String,
        /// The value that it must have; `None` if it must have none.
        expected: Option<i64>,
        /// The new value.
        value: i64,
    },
    /// Adds to a register; one without a value counts as zero.
    Add {
        /// The name of the register.
        name: String,
        /// What to add.
        delta: i64,
    },
    /// Puts a text at the end of a queue.
    Push {
        /// The name of the queue.
        queue: String,
        /// The text to put there.
        item: String,
    },
    /// Takes the first text out of a queue.
    Pop {
        /// The name of the queue.
        queue: String,
    },
    /// Asks for the first text of a queue, which stays there.
    Peek {
        /// The name of the queue.
        queue: String,
    },
    /// Asks how many texts a queue has.
    Len {
        /// The name of the queue.
        queue: String,
    },
    /// Puts a text at the end of a queue later.
    Remind {
        /// The name of the queue.
        queue: String,
        /// The text to put there.
        item: String,
        /// How much later by log time, in nanoseconds.
        after: u64,
    },
    /// Asks for a random number.
    Random {
        /// The number is smaller than this.
        below: u64,
    },
    /// Asks for log time.
    Now,
    /// Asks how much there is of everything.
    Info,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Op::Get`]: the value; to [`Op::Set`]: the one before; to [`Op::Add`]: the one after.
    Value(Option<i64>),
    /// To [`Op::Cas`]: the register has the new value.
    Swapped,
    /// To [`Op::Cas`]: the register has this value instead of the expected one.
    Differs(Option<i64>),
    /// To [`Op::Push`] and [`Op::Len`]: how many texts the queue has.
    Length(u64),
    /// To [`Op::Pop`] and [`Op::Peek`]: the text; `None` if the queue is empty.
    Item(Option<String>),
    /// To [`Op::Remind`]: when it is due, in nanoseconds since the Unix epoch by log time.
    Due(u64),
    /// To [`Op::Random`]: the number.
    Number(u64),
    /// To [`Op::Now`]: log time, in nanoseconds since the Unix epoch.
    Time(u64),
    /// To [`Op::Info`]: how much there is of everything.
    Info(Info),
    /// The service did nothing, for this reason.
    Refused(Refusal),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Registers that have a value.
    pub registers: u64,
    /// Queues that are not empty.
    pub queues: u64,
    /// Texts in them.
    pub items: u64,
    /// Reminders that are not due yet.
    pub reminders: u64,
    /// Reminders that were due when there were as many queues as may be, and were dropped.
    pub missed: u64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The request is no operation.
    #[error("the request is malformed")]
    Malformed,
    /// A name is empty or too long.
    #[error("a name has 1 to 64 bytes")]
    Name,
    /// A text is too long.
    #[error("a text has at most 1024 bytes")]
    ItemTooLong,
    /// There are as many registers as may be.
    #[error("there are too many registers")]
    TooManyRegisters,
    /// There are as many queues as may be.
    #[error("there are too many queues that are not empty: take something out of one")]
    TooManyQueues,
    /// There are as many texts as may be.
    #[error("there are too many texts in queues and reminders: take some out")]
    TooManyItems,
    /// The reminder would be due too late.
    #[error("a reminder may be set at most a day ahead")]
    TooFar,
    /// The sum is too large for a register.
    #[error("the sum does not fit a register, which keeps its value")]
    Overflow,
    /// Nothing is smaller than zero.
    #[error("a random number below zero there is not")]
    Empty,
}

impl Refusal {
    const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Name,
        Self::ItemTooLong,
        Self::TooManyRegisters,
        Self::TooManyQueues,
        Self::TooManyItems,
        Self::TooFar,
        Self::Overflow,
        Self::Empty,
    ];
}

impl Op {
    /// Whether it changes nothing, whatever there is.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Peek { .. } | Self::Len { .. } => true,
            Self::Random { .. } | Self::Now | Self::Info => true,
            Self::Set { .. } | Self::Cas { .. } | Self::Add { .. } => false,
            Self::Push { .. } | Self::Pop { .. } | Self::Remind { .. } => false,
        }
    }

    /// The request as the bytes that go to the pair.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        match self {
            Self::Get { name } => out.u8(1).text(name),
            Self::Set { name, value } => out.u8(2).text(name).i64(*value),
            Self::Cas { name, expected, value } => {
                out.u8(3).text(name).option(*expected).i64(*value)
            }
            Self::Add { name, delta } => out.u8(4).text(name).i64(*delta),
            Self::Push { queue, item } => out.u8(5).text(queue).text(item),
            Self::Pop { queue } => out.u8(6).text(queue),
            Self::Peek { queue } => out.u8(7).text(queue),
            Self::Len { queue } => out.u8(8).text(queue),
            Self::Remind { queue, item, after } => out.u8(9).text(queue).text(item).u64(*after),
            Self::Random { below } => out.u8(10).u64(*below),
            Self::Now => out.u8(11),
            Self::Info => out.u8(12),
        };
        out.take().into()
    }

    /// Whether it changes nothing, in whatever state. A random number changes the generator.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Peek { .. } | Self::Len { .. } | Self::Now | Self::Info => {
                true
            }
            Self::Set { .. }
            | Self::Cas { .. }
            | Self::Add { .. }
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Remind { .. }
            | Self::Random { .. } => false,
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are no operation.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let tag = input.u8()?;
        let mut text = || input.text().map(str::to_owned);
        let op = match tag {
            1 => Self::Get { name: text()? },
            2 => Self::Set { name: text()?, value: input.i64()? },
            3 => Self::Cas { name: text()?, expected: input.option()?, value: input.i64()? },
            4 => Self::Add { name: text()?, delta: input.i64()? },
            5 => Self::Push { queue: text()?, item: text()? },
            6 => Self::Pop { queue: text()? },
            7 => Self::Peek { queue: text()? },
            8 => Self::Len { queue: text()? },
            9 => Self::Remind { queue: text()?, item: text()?, after: input.u64()? },
            10 => Self::Random { below: input.u64()? },
            11 => Self::Now,
            12 => Self::Info,
            tag => return Err(Malformed::Tag(tag)),
        };
        input.end()?;
        Ok(op)
    }
}

impl Answer {
    /// The answer as the bytes that come from the pair.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        match self {
            Self::Value(value) => out.u8(1).option(*value),
            Self::Swapped => out.u8(2),
            Self::Differs(value) => out.u8(3).option(*value),
            Self::Length(length) => out.u8(4).u64(*length),
            Self::Item(None) => out.u8(5).u8(0),
            Self::Item(Some(item)) => out.u8(5).u8(1).text(item),
            Self::Due(at) => out.u8(6).u64(*at),
            Self::Number(number) => out.u8(7).u64(*number),
            Self::Time(at) => out.u8(8).u64(*at),
            Self::Info(info) => {
                let Info { registers, queues, items, reminders, missed } = *info;
                out.u8(9).u64(registers).u64(queues).u64(items).u64(reminders).u64(missed)
            }
            Self::Refused(refusal) => {
                let code = (1..).zip(Refusal::ALL).find(|(_, known)| known == refusal);
                out.u8(10).u8(code.map_or(0, |(code, _)| code))
            }
        };
        out.take().into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are no answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let answer = match input.u8()? {
            1 => Self::Value(input.option()?),
            2 => Self::Swapped,
            3 => Self::Differs(input.option()?),
            4 => Self::Length(input.u64()?),
            5 => match input.u8()? {
                0 => Self::Item(None),
                1 => Self::Item(Some(input.text()?.to_owned())),
                tag => return Err(Malformed::Tag(tag)),
            },
            6 => Self::Due(input.u64()?),
            7 => Self::Number(input.u64()?),
            8 => Self::Time(input.u64()?),
            9 => Self::Info(Info {
                registers: input.u64()?,
                queues: input.u64()?,
                items: input.u64()?,
                reminders: input.u64()?,
                missed: input.u64()?,
            }),
            10 => {
                let code = input.u8()?;
                let refusal = (1..).zip(Refusal::ALL).find(|(known, _)| *known == code);
                Self::Refused(refusal.ok_or(Malformed::Tag(code))?.1)
            }
            tag => return Err(Malformed::Tag(tag)),
        };
        input.end()?;
        Ok(answer)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Some(value)) => value.fmt(f),
            Self::Value(None) => f.write_str("none"),
            Self::Swapped => f.write_str("swapped"),
            Self::Differs(Some(value)) => write!(f, "not swapped: it is {value}"),
            Self::Differs(None) => f.write_str("not swapped: it has no value"),
            Self::Length(number) | Self::Number(number) => number.fmt(f),
            Self::Item(Some(item)) => f.write_str(item),
            Self::Item(None) => f.write_str("empty"),
            Self::Due(at) | Self::Time(at) => {
                write!(f, "{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
            }
            Self::Info(info) => write!(
                f,
                "{} registers, {} queues with {} texts, {} reminders, {} missed",
                info.registers, info.queues, info.items, info.reminders, info.missed
            ),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_answer_comes_back() {
        let (name, queue, item) = ("r".to_owned(), "q".to_owned(), "text".to_owned());
        let ops = [
            Op::Get { name: name.clone() },
            Op::Set { name: name.clone(), value: i64::MIN },
            Op::Cas { name: name.clone(), expected: None, value: 1 },
            Op::Cas { name: name.clone(), expected: Some(-1), value: 1 },
            Op::Add { name, delta: -5 },
            Op::Push { queue: queue.clone(), item: item.clone() },
            Op::Pop { queue: queue.clone() },
            Op::Peek { queue: queue.clone() },
            Op::Len { queue: queue.clone() },
            Op::Remind { queue, item: item.clone(), after: 7 },
            Op::Random { below: 9 },
            Op::Now,
            Op::Info,
        ];
        for op in ops {
            let bytes = op.encode();
            assert_eq!(Op::decode(&bytes), Ok(op.clone()));
            assert_eq!(Op::decode(&bytes[..bytes.len() - 1]), Err(Malformed::Short));
            assert_eq!(Op::decode(&[&bytes[..], &[0]].concat()), Err(Malformed::Long(1)));
            let json = serde_json::to_string(&op).unwrap();
            assert_eq!(serde_json::from_str::<Op>(&json).unwrap(), op);
        }
        let answers = [
            Answer::Value(Some(3)),
            Answer::Value(None),
            Answer::Swapped,
            Answer::Differs(Some(1)),
            Answer::Length(2),
            Answer::Item(Some(item)),
            Answer::Item(None),
            Answer::Due(1),
            Answer::Number(2),
            Answer::Time(3),
            Answer::Info(Info { registers: 1, queues: 2, items: 3, reminders: 4, missed: 5 }),
        ];
        for answer in answers.into_iter().chain(Refusal::ALL.map(Answer::Refused)) {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn bytes_that_are_nothing_are_refused() {
        assert_eq!(Op::decode(&[]), Err(Malformed::Short));
        assert_eq!(Op::decode(&[99]), Err(Malformed::Tag(99)));
        assert_eq!(Op::decode(&[1, 1, 0, 0xff]), Err(Malformed::Text));
        assert_eq!(Answer::decode(&[10, 0]), Err(Malformed::Tag(0)));
    }
}
