//! Round trips: how many, how many at once, and how long each one took.
//!
//! A message is `size` bytes and begins with its number, little-endian. The process that answers
//! sends the message back as it came. Answers come in order.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::talk::empty_histogram;

/// The smallest message: its number.
pub const MIN_SIZE: usize = 8;
/// The largest message: it fits one UDP datagram on loopback.
pub const MAX_SIZE: usize = 60_000;
/// The most messages in flight.
pub const MAX_DEPTH: usize = 4_096;
/// The most bytes in flight. One driver writes what it may before it reads, so
/// all of it must fit the windows and socket buffers on the way.
pub const MAX_IN_FLIGHT_BYTES: usize = 256 * 1024;
/// The most trips counted in one round; at 100 µs each, a quarter of an hour.
pub const MAX_TRIPS: u64 = 10_000_000;

/// The least number of trips made before any is counted.
const MIN_WARM_UP: u64 = 200;

/// What a driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Trips to count.
    pub trips: u64,
    /// Messages in flight.
    pub depth: usize,
    /// Bytes of a message.
    pub size: usize,
}

/// A load beyond what the harness is made for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// There are no trips, or too many.
    #[error("{0} trips; give 1 to {MAX_TRIPS}")]
    Trips(u64),
    /// Nothing in flight, or too much.
    #[error("a depth of {0}; give 1 to {MAX_DEPTH}")]
    Depth(usize),
    /// Too small for its number, or too large for a datagram.
    #[error("messages of {0} bytes; give {MIN_SIZE} to {MAX_SIZE}")]
    Size(usize),
    /// Depth times size.
    #[error("{0} bytes in flight; depth times size may be at most {MAX_IN_FLIGHT_BYTES}")]
    InFlight(usize),
}

impl Load {
    /// Refuses what is out of bounds.
    pub fn checked(self) -> Result<Self, LoadError> {
        if !(1..=MAX_TRIPS).contains(&self.trips) {
            return Err(LoadError::Trips(self.trips));
        }
        if !(1..=MAX_DEPTH).contains(&self.depth) {
            return Err(LoadError::Depth(self.depth));
        }
        if !(MIN_SIZE..=MAX_SIZE).contains(&self.size) {
            return Err(LoadError::Size(self.size));
        }
        let in_flight = self.depth * self.size;
        if in_flight > MAX_IN_FLIGHT_BYTES {
            return Err(LoadError::InFlight(in_flight));
        }
        Ok(self)
    }

    /// Trips made before the first counted one: caches, windows and the other
    /// side's scheduler settle.
    fn warm_up(&self) -> u64 {
        (self.trips / 10).max(MIN_WARM_UP)
    }
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum TripError {
    /// The far side closed the connection.
    #[error("the far side closed the connection after {0} answers")]
    Closed(u64),
    /// An answer that is not the next one.
    #[error("answer {got} came where {expected} was due")]
    OutOfOrder {
        /// The number of the oldest message in flight.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// An answer to nothing.
    #[error("answer {0} came with nothing in flight")]
    Unasked(u64),
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The book-keeping of one round; does no I/O.
#[derive(Debug)]
pub struct Trips {
    load: Load,
    departed: u64,
    arrived: u64,
    departures: VecDeque<Instant>,
    histogram: Histogram<u64>,
}

impl Trips {
    /// Nothing sent yet.
    pub fn new(load: Load) -> Self {
        let departures = VecDeque::with_capacity(load.depth);
        Self { load, departed: 0, arrived: 0, departures, histogram: empty_histogram() }
    }

    fn total(&self) -> u64 {
        self.load.warm_up() + self.load.trips
    }

    /// Whether every trip is over.
    pub fn is_finished(&self) -> bool {
        self.arrived == self.total()
    }

    /// The number of the next message if one may go now. Its time starts here.
    pub fn depart(&mut self) -> Option<u64> {
        if self.departures.len() == self.load.depth || self.departed == self.total() {
            return None;
        }
        let number = self.departed;
        self.departed += 1;
        self.departures.push_back(crate::now());
        Some(number)
    }

    /// Writes every message that may go now to the end of `out`.
    pub fn depart_into(&mut self, out: &mut Vec<u8>) {
        while let Some(number) = self.depart() {
            let end = out.len() + self.load.size;
            out.extend_from_slice(&number.to_le_bytes());
            out.resize(end, 0);
        }
    }

    /// The answer to message `number` is here.
    pub fn arrive(&mut self, number: u64) -> Result<(), TripError> {
        let departure = self.departures.pop_front().ok_or(TripError::Unasked(number))?;
        let expected = self.arrived;
        if number != expected {
            return Err(TripError::OutOfOrder { expected, got: number });
        }
        self.arrived += 1;
        if self.arrived > self.load.warm_up() {
            let nanos = crate::now().duration_since(departure).as_nanos();
            self.histogram.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Takes every whole answer off the front of `incoming`.
    pub fn arrive_from(&mut self, incoming: &mut BytesMut) -> Result<(), TripError> {
        while incoming.len() >= self.load.size {
            let mut message = incoming.split_to(self.load.size);
            self.arrive(message.get_u64_le())?;
        }
        Ok(())
    }

    /// How long the counted trips took.
    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }
}

/// Drives all trips of a load over one byte stream.
pub async fn drive_stream<R, W>(
    reader: &mut R,
    writer: &mut W,
    load: Load,
) -> Result<Histogram<u64>, TripError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut trips = Trips::new(load);
    let mut outgoing = Vec::with_capacity(load.depth * load.size);
    let mut incoming = BytesMut::with_capacity(load.depth * load.size);
    while !trips.is_finished() {
        outgoing.clear();
        trips.depart_into(&mut outgoing);
        if !outgoing.is_empty() {
            writer.write_all(&outgoing).await?;
        }
        incoming.reserve(load.size);
        if reader.read_buf(&mut incoming).await? == 0 {
            return Err(TripError::Closed(trips.arrived));
        }
        trips.arrive_from(&mut incoming)?;
    }
    Ok(trips.into_histogram())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { trips: 3, depth: 2, size: 8 };

    #[test]
    fn no_more_than_the_depth_is_in_flight_and_the_warm_up_is_not_counted() {
        let mut trips = Trips::new(LOAD);
        let mut next = 0;
        while !trips.is_finished() {
            while trips.depart().is_some() {}
            assert!(trips.departures.len() <= LOAD.depth);
            trips.arrive(next).unwrap();
            next += 1;
        }
        assert_eq!(next, MIN_WARM_UP + LOAD.trips);
        assert_eq!(trips.depart(), None);
        assert_eq!(trips.into_histogram().len(), LOAD.trips);
    }

    #[test]
    fn answers_that_nobody_asked_for_or_in_the_wrong_order_are_errors() {
        let mut trips = Trips::new(LOAD);
        assert!(matches!(trips.arrive(0), Err(TripError::Unasked(0))));
        trips.depart();
        let error = trips.arrive(7).unwrap_err();
        assert!(matches!(error, TripError::OutOfOrder { expected: 0, got: 7 }));
    }

    #[test]
    fn a_load_out_of_bounds_is_refused() {
        assert_eq!(LOAD.checked(), Ok(LOAD));
        assert_eq!(Load { trips: 0, ..LOAD }.checked(), Err(LoadError::Trips(0)));
        assert_eq!(Load { depth: 0, ..LOAD }.checked(), Err(LoadError::Depth(0)));
        assert_eq!(Load { size: 7, ..LOAD }.checked(), Err(LoadError::Size(7)));
        let much = Load { depth: MAX_DEPTH, size: 1_024, ..LOAD };
        assert_eq!(much.checked(), Err(LoadError::InFlight(MAX_DEPTH * 1_024)));
    }

    #[tokio::test]
    async fn a_stream_that_echoes_is_driven_to_the_end_and_one_that_closes_is_an_error() {
        let (mut near, far) = tokio::io::duplex(64);
        let (mut far_reader, mut far_writer) = tokio::io::split(far);
        let echo = tokio::spawn(async move {
            tokio::io::copy(&mut far_reader, &mut far_writer).await.unwrap();
        });
        let (mut reader, mut writer) = tokio::io::split(&mut near);
        let histogram = drive_stream(&mut reader, &mut writer, LOAD).await.unwrap();
        assert_eq!(histogram.len(), LOAD.trips);
        echo.abort();
        let _ = echo.await;
        drive_stream(&mut reader, &mut writer, LOAD).await.unwrap_err();
    }
}
