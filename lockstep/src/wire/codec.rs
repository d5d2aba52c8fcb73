//! Frames to bytes and back.

use bytes::{Bytes, BytesMut};
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::de::Pool;
use rkyv::rancor::{Error, Source, Strategy};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::FRAME_BYTES;
use crate::wire::check::Checked;
use crate::wire::error::FrameError;
use crate::wire::frames::{
    ClientAnswer, ClientCall, DeathNotice, PeerFrame, WitnessAnswer, WitnessCall,
};
use crate::wire::header::{self, HEADER_BYTES};

/// Encoded frames are cut from blocks of this size, so that a small frame costs no allocation of
/// its own. A block lives until its last frame is dropped.
const BLOCK_BYTES: usize = 64 << 10;

/// Makes bytes of frames. Holds the memory that encoding needs, so one encoder should serve all
/// frames of a thread. Payloads are copied once: from where they lie into the frame.
///
/// What is encoded has passed the same checks that its reader makes. A frame that is refused here
/// is a mistake of the caller, who must not send it in pieces or try again.
#[derive(Default)]
pub struct Encoder {
    block: BytesMut,
    arena: Arena,
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Encoder").field("room", &self.block.capacity()).finish_non_exhaustive()
    }
}

macro_rules! codec {
    ($($what:literal $frame:ty: $encode:ident, $encode_once:ident, $decode:ident;)*) => {
        impl Encoder {
            $(
                #[doc = concat!("Encodes ", $what, ".")]
                ///
                /// # Errors
                /// If something in it is over a limit or contradicts itself.
                pub fn $encode(&mut self, frame: &$frame) -> Result<Bytes, FrameError> {
                    self.encode(frame)
                }
            )*
        }

        $(
            #[doc = concat!("Encodes ", $what, ", in memory set aside for it alone; see [`Encoder`].")]
            ///
            /// # Errors
            /// If something in it is over a limit or contradicts itself.
            pub fn $encode_once(frame: &$frame) -> Result<Bytes, FrameError> {
                Encoder::new().encode(frame)
            }

            #[doc = concat!("Reads ", $what, ". Payloads are copied once, out of `bytes`, which may lie anywhere.")]
            ///
            /// # Errors
            /// What is wrong with the bytes. The connection that they came on should be closed.
            pub fn $decode(bytes: &[u8]) -> Result<$frame, FrameError> {
                decode(bytes)
            }
        )*
    };
}

codec! {
    "a frame between the CoServers" PeerFrame: peer, encode_peer, decode_peer;
    "a call to the witness" WitnessCall: witness_call, encode_witness_call, decode_witness_call;
    "an answer of the witness"
        WitnessAnswer: witness_answer, encode_witness_answer, decode_witness_answer;
    "calls of a client" Vec<ClientCall>: client_calls, encode_client_calls, decode_client_calls;
    "answers to a client"
        Vec<ClientAnswer>: client_answers, encode_client_answers, decode_client_answers;
    "a notice of a guardian" DeathNotice: death_notice, encode_death_notice, decode_death_notice;
}

impl Encoder {
    /// An encoder without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn encode<F>(&mut self, frame: &F) -> Result<Bytes, FrameError>
    where
        F: Checked + for<'a> Serialize<Strategy<Serializer<Body<'a>, ArenaHandle<'a>, ()>, Error>>,
    {
        frame.check()?;
        self.make_room(HEADER_BYTES + frame.size_hint());
        self.block.extend_from_slice(&[0; HEADER_BYTES]);
        let body = Body { block: &mut self.block, gave_up: None };
        let mut serializer = Serializer::new(body, self.arena.acquire(), ());
        let done = rkyv::api::serialize_using::<_, Error>(frame, &mut serializer);
        let gave_up = serializer.into_writer().gave_up;
        if let Err(error) = done {
            self.block.clear();
            return Err(match gave_up {
                Some(len) => FrameError::TooLong { len, limit: FRAME_BYTES },
                None => FrameError::Archive { why: error.to_string() },
            });
        }
        let mut bytes = self.block.split();
        let header = header::seal(F::KIND, &bytes[HEADER_BYTES..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        Ok(bytes.freeze())
    }

    /// Begins a new block rather than have the present one grow, which would copy it.
    fn make_room(&mut self, hint: usize) {
        if self.block.capacity() < hint {
            self.block.reserve(hint.max(BLOCK_BYTES));
        }
    }
}

/// Where a frame's archive goes: behind the room for its header, never beyond a frame's limit.
struct Body<'a> {
    block: &'a mut BytesMut,
    gave_up: Option<usize>,
}

impl Positional for Body<'_> {
    fn pos(&self) -> usize {
        self.block.len() - HEADER_BYTES
    }
}

impl<E: Source> Writer<E> for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        let len = self.block.len() + bytes.len();
        if len > FRAME_BYTES {
            self.gave_up = Some(len);
            return Err(E::new(FrameError::TooLong { len, limit: FRAME_BYTES }));
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }
}

/// A valid archive claims no byte twice, so what a frame takes in memory is bounded by a small
/// multiple of its length, whatever it says about itself.
fn decode<F>(bytes: &[u8]) -> Result<F, FrameError>
where
    F: Checked + Archive,
    F::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<F, Strategy<Pool, Error>>,
{
    let body = header::open(bytes, F::KIND)?;
    let frame: F = rkyv::from_bytes::<F, Error>(body)
        .map_err(|error| FrameError::Archive { why: error.to_string() })?;
    frame.check()?;
    Ok(frame)
}
