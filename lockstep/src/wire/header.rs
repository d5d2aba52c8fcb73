//! The header of every frame: laid out by hand, so that any version can read any other's far
//! enough to refuse it.
//!
//! ```text
//! offset  bytes  field, integers little-endian
//!      0      4  magic, "LKST"
//!      4      2  version of the format
//!      6      1  kind
//!      7      1  zero
//!      8      4  length of the body in bytes
//!     12      8  XXH3-64 of the body, seeded with bytes 4 to 12 read as one integer
//!     20         body
//! ```
//!
//! TLS already keeps bytes from changing on the way. The checksum is for what TLS does not see: a
//! bit that flips in a buffer before encryption or after decryption. Without it such a bit could
//! become a digest that differs, or another record of the witness; with it the frame is dropped.

use core::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::limits::FRAME_BYTES;
use crate::wire::error::FrameError;

/// The version of the format: of this header, and of the encoding of all bodies.
pub const VERSION: u16 = 9;

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 20;

/// Length of the prefix that stands before each frame on a stream: the frame's length, header
/// included, little-endian.
pub const PREFIX_BYTES: usize = 4;

const MAGIC: [u8; 4] = *b"LKST";

/// On which connections a frame belongs, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Between the CoServers.
    Peer = 1,
    /// From a CoServer to the witness.
    WitnessCall = 2,
    /// From the witness to a CoServer.
    WitnessAnswer = 3,
    /// From a client to a CoServer.
    ClientCall = 4,
    /// From a CoServer to a client.
    ClientAnswer = 5,
    /// From a guardian to the other CoServer.
    DeathNotice = 6,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "frame between CoServers",
            Self::WitnessCall => "call to the witness",
            Self::WitnessAnswer => "answer of the witness",
            Self::ClientCall => "call of a client",
            Self::ClientAnswer => "answer to a client",
            Self::DeathNotice => "notice of a guardian",
        })
    }
}

/// The prefix for a frame of this length.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn prefix(len: usize) -> Result<[u8; PREFIX_BYTES], FrameError> {
    checked_length(len).map(|len| (len as u32).to_le_bytes())
}

/// The length of the frame after this prefix: to be asked before memory is set aside for it.
///
/// # Errors
/// [`FrameError::TooLong`], [`FrameError::TooShort`]; the stream is of no use afterwards.
pub fn frame_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    checked_length(usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX))
}

fn checked_length(len: usize) -> Result<usize, FrameError> {
    match len {
        0..HEADER_BYTES => Err(FrameError::TooShort { len }),
        HEADER_BYTES..=FRAME_BYTES => Ok(len),
        _ => Err(FrameError::TooLong { len, limit: FRAME_BYTES }),
    }
}

/// The header for this body. The body fits a frame: its writer has seen to that.
pub(super) fn seal(kind: Kind, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6] = kind as u8;
    header[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = checksum(&header, body);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The body of a frame of this kind, once the header and the checksum are right.
pub(super) fn open(frame: &[u8], expected: Kind) -> Result<&[u8], FrameError> {
    let Some((header, body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::TooShort { len: frame.len() });
    };
    if header[..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(FrameError::Version { theirs: version });
    }
    checked_length(frame.len())?;
    if header[6] != expected as u8 {
        return Err(FrameError::Kind { found: header[6], expected });
    }
    if header[7] != 0 {
        return Err(FrameError::Contradiction {
            what: "a byte that is zero in this version is not",
        });
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if length != body.len() {
        return Err(FrameError::Length { header: length, actual: body.len() });
    }
    if header[12..] != checksum(header, body).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    Ok(body)
}

fn checksum(header: &[u8; HEADER_BYTES], body: &[u8]) -> u64 {
    let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = *header;
    xxh3_64_with_seed(body, u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}
