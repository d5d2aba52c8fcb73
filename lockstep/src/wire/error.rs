//! Why bytes are no frame.

use crate::wire::header::{Kind, VERSION};

/// Why bytes were not taken for a frame, or a frame could not be made into bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header has.
    #[error("{len} bytes are too few for a frame: the connection was cut or does not carry frames")]
    TooShort {
        /// How many bytes there were.
        len: usize,
    },
    /// More bytes than a frame may have.
    #[error("a frame of {len} bytes is over the limit of {limit}: send less in one frame")]
    TooLong {
        /// How many bytes there were, or had been written when encoding was given up.
        len: usize,
        /// Most bytes that a frame may have.
        limit: usize,
    },
    /// The bytes do not begin like a frame.
    #[error("these bytes are no frame of lockstep: check that the other end is a lockstep process")]
    Magic,
    /// A frame of another version of the format.
    #[error(
        "the frame is of format version {theirs}, this process reads version {VERSION}: run the \
         same version on both ends"
    )]
    Version {
        /// The version in the frame's header.
        theirs: u16,
    },
    /// A frame that does not belong on this connection.
    #[error(
        "a {expected} was expected and kind {found} came: check that the address is that of the \
         right port"
    )]
    Kind {
        /// The kind in its header.
        found: u8,
        /// The kind of frames that this connection carries.
        expected: Kind,
    },
    /// The header says another length than the bytes have.
    #[error("the header speaks of a body of {header} bytes, there are {actual}")]
    Length {
        /// The length of the body by the header.
        header: usize,
        /// The length of the body by counting.
        actual: usize,
    },
    /// The bytes changed after the frame was made.
    #[error("the frame's checksum is wrong: it was damaged in the memory of one of the machines")]
    Checksum,
    /// The body is no valid archive.
    #[error("the frame's body is malformed: {why}")]
    Archive {
        /// What the decoder says about the body.
        why: String,
    },
    /// Something in the frame is over its limit.
    #[error("{what} of {len} is over the limit of {limit}")]
    Limit {
        /// The part that there is too much of.
        what: &'static str,
        /// How much of it there is.
        len: usize,
        /// How much of it there may be.
        limit: usize,
    },
    /// The frame contradicts itself.
    #[error("the frame contradicts itself: {what}")]
    Contradiction {
        /// The parts that contradict each other.
        what: &'static str,
    },
}
