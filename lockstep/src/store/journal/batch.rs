//! A batch: what one commit writes, and how it is read again.
//!
//! Its payload, cut into the sectors of [`format`](super::format):
//!
//! ```text
//! offset  bytes  field, integers little-endian
//!      0      4  magic, "LKJB"
//!      4      4  number of entries
//!      8      8  index of the first entry
//!     16      4  length of the body in bytes
//!     20      4  zero
//!     24      8  agreed mark: index
//!     32     16  agreed mark: outputs digest
//!     48     16  log digest after the last entry
//!     64     16  XXH3-128 of everything before and the body, its seed the sum of the salt and
//!                the batch's offset in the file
//!     80         body: each entry's length (4 bytes), and the entry as an rkyv archive
//! ```

use rkyv::rancor::{Error, Source};
use rkyv::ser::allocator::Arena;
use rkyv::ser::{Positional, Serializer, Writer};
use xxhash_rust::xxh3::Xxh3;

use crate::digest::Digest;
use crate::entry::Entry;
use crate::ids::Index;
use crate::limits::FRAME_BYTES;
use crate::store::files::File;
use crate::store::journal::Mark;
use crate::store::journal::error::{JournalError, attempt};
use crate::store::journal::first_version;
use crate::store::journal::format::{
    self, BLOCK_BYTES, PAYLOAD_BYTES, SECTOR_BYTES, Sector, array, inspect, number,
};
use crate::store::journal::segment::{Spot, Use};
use crate::wire::check::check_entry;

/// Length of a batch's header.
pub(super) const BATCH_HEADER_BYTES: usize = 80;

/// Longest body of a batch: room for a few of the longest entries. A batch that is full is
/// committed before anything is added.
pub(super) const BODY_BYTES: usize = FRAME_BYTES;

const MAGIC: [u8; 4] = *b"LKJB";
const LENGTH_BYTES: usize = 4;

/// Bytes that a batch with a body of this length takes in the file.
pub(super) fn room_for(body: usize) -> usize {
    let sectors = (BATCH_HEADER_BYTES + body).div_ceil(PAYLOAD_BYTES);
    (sectors * SECTOR_BYTES).next_multiple_of(BLOCK_BYTES as usize)
}

/// The longest body for which this many bytes are room.
pub(super) fn body_within(room: usize) -> usize {
    let blocks = room / BLOCK_BYTES as usize;
    let sectors = blocks * (BLOCK_BYTES as usize / SECTOR_BYTES);
    (sectors * PAYLOAD_BYTES).saturating_sub(BATCH_HEADER_BYTES)
}

/// Where an entry's archive goes.
struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl Positional for Body<'_> {
    fn pos(&self) -> usize {
        self.bytes.len() - self.start
    }
}

impl<E: Source> Writer<E> for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Adds an entry to a body.
pub(super) fn encode_entry(
    entry: &Entry,
    arena: &mut Arena,
    body: &mut Vec<u8>,
) -> Result<(), Error> {
    let at = body.len();
    body.extend_from_slice(&[0; LENGTH_BYTES]);
    let start = body.len();
    let mut serializer = Serializer::new(Body { bytes: body, start }, arena.acquire(), ());
    rkyv::api::serialize_using::<_, Error>(entry, &mut serializer)?;
    let len = (body.len() - start) as u32;
    body[at..start].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    pub(super) count: u32,
    pub(super) first: Index,
    pub(super) mark: Mark,
    /// After the last entry.
    pub(super) log_digest: Digest,
}

impl BatchHeader {
    /// Lays the batch out as the file is to hold it, padded with zeros to whole blocks.
    pub(super) fn encode(&self, body: &[u8], within: Use, at: &Spot, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(BATCH_HEADER_BYTES + body.len());
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&self.count.to_le_bytes());
        payload.extend_from_slice(&self.first.0.to_le_bytes());
        payload.extend_from_slice(&(body.len() as u32).to_le_bytes());
        payload.extend_from_slice(&[0; 4]);
        payload.extend_from_slice(&self.mark.index.0.to_le_bytes());
        payload.extend_from_slice(&self.mark.outputs.0);
        payload.extend_from_slice(&self.log_digest.0);
        let checksum = checksum(&payload, body, within.salt, at.offset);
        payload.extend_from_slice(&checksum);
        payload.extend_from_slice(body);

        out.clear();
        out.reserve(room_for(body.len()));
        let mut offset = at.offset;
        for piece in payload.chunks(PAYLOAD_BYTES) {
            out.extend_from_slice(&format::seal_sector(piece, within.salt, at.number, offset));
            offset += SECTOR_BYTES as u32;
        }
        out.resize(room_for(body.len()), 0);
    }

    fn decode(payload: &[u8; BATCH_HEADER_BYTES]) -> Result<(Self, usize), &'static str> {
        if payload[..4] != MAGIC {
            return Err("it does not begin like a batch");
        }
        let header = Self {
            count: u32::from_le_bytes(array(payload, 4)),
            first: Index(number(payload, 8)),
            mark: Mark { index: Index(number(payload, 24)), outputs: Digest(array(payload, 32)) },
            log_digest: Digest(array(payload, 48)),
        };
        let body = u32::from_le_bytes(array(payload, 16)) as usize;
        if body > BODY_BYTES || header.count == 0 || payload[20..24] != [0; 4] {
            return Err("the header of a batch contradicts itself");
        }
        Ok((header, body))
    }
}

fn checksum(header: &[u8], body: &[u8], salt: u64, offset: u32) -> [u8; 16] {
    let mut hasher = Xxh3::with_seed(salt.wrapping_add(offset.into()));
    hasher.update(&header[..64]);
    hasher.update(body);
    hasher.digest128().to_le_bytes()
}

/// A batch as it was read: whole, and its checksum right.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    /// The batch's header and body in one piece.
    payload: Vec<u8>,
    /// The version of the format that its entries are of.
    version: u16,
    /// Bytes that it takes in the file.
    pub(super) room: u32,
}

/// An entry, and the running digest at it.
pub(super) type Chained = (Entry, Digest);

impl Batch {
    /// The batch's entries, if they follow the entry before.
    pub(super) fn entries(&self, next: Index, before: Digest) -> Result<Vec<Chained>, String> {
        if self.header.first != next {
            return Err(format!("entry {next} is missing, {} stands there", self.header.first));
        }
        let entries =
            decode_entries(&self.payload[BATCH_HEADER_BYTES..], self.version, next, before)?;
        if entries.len() != self.header.count as usize {
            return Err("a batch has another number of entries than it says".into());
        }
        if entries.last().is_none_or(|(_, log_digest)| *log_digest != self.header.log_digest) {
            return Err("the running digest of a batch is wrong".into());
        }
        Ok(entries)
    }
}

/// The entries of a body of this version, the first of which has this index.
pub(super) fn decode_entries(
    mut body: &[u8],
    version: u16,
    next: Index,
    before: Digest,
) -> Result<Vec<Chained>, String> {
    let (mut entries, mut next, mut log_digest) = (Vec::new(), next, before);
    while let Some((len, rest)) = body.split_first_chunk::<LENGTH_BYTES>() {
        let len = u32::from_le_bytes(*len) as usize;
        let archive = rest.get(..len).ok_or("an entry is longer than its batch")?;
        body = &rest[len..];
        let entry = decode_entry(archive, version).map_err(|error| error.to_string())?;
        check_entry(&entry).map_err(|error| error.to_string())?;
        if entry.index != next {
            return Err(format!("entry {next} is missing, {} stands there", entry.index));
        }
        log_digest = entry.chain(log_digest);
        next = next.next();
        entries.push((entry, log_digest));
    }
    if body.is_empty() { Ok(entries) } else { Err("a batch ends within an entry".into()) }
}

fn decode_entry(archive: &[u8], version: u16) -> Result<Entry, Error> {
    match version {
        1 => rkyv::from_bytes::<first_version::Entry, Error>(archive).map(Entry::from),
        _ => rkyv::from_bytes(archive),
    }
}

/// What stands where a batch may be.
#[derive(Debug)]
pub(super) enum Found {
    Batch(Batch),
    /// There is no batch, or not all of one; nothing there contradicts that it was
    /// never acknowledged.
    Nothing,
}

/// Reads what stands at this place.
pub(super) fn read(
    file: &dyn File,
    name: &str,
    within: Use,
    at: &Spot,
) -> Result<Found, JournalError> {
    if at.offset + BLOCK_BYTES > within.area_end() {
        return Ok(Found::Nothing);
    }
    let damaged = |offset: u32, why: &str| JournalError::Damaged {
        file: name.to_owned(),
        offset: offset.into(),
        why: why.to_owned(),
    };
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    attempt("read", name, || file.read_exact_at(&mut bytes, at.offset.into()))?;
    let first: [u8; SECTOR_BYTES] = array(&bytes, 0);
    match inspect(&first, within.salt, at.offset) {
        Sector::Own(number) if number == at.number => {}
        Sector::Own(number) if number > at.number => {
            return Err(damaged(at.offset, "a later batch stands where one is missing"));
        }
        Sector::Own(_) | Sector::Blank | Sector::Stale => return Ok(Found::Nothing),
        Sector::Rotten => return Err(damaged(at.offset, "a sector changed since it was written")),
    }
    let (header, body) =
        BatchHeader::decode(&array(&first, 0)).map_err(|why| damaged(at.offset, why))?;
    let room = room_for(body);
    if room > (within.area_end() - at.offset) as usize {
        return Err(damaged(at.offset, "a batch is longer than its segment"));
    }
    if room > bytes.len() {
        bytes.resize(room, 0);
        let rest = &mut bytes[BLOCK_BYTES as usize..];
        let offset = u64::from(at.offset + BLOCK_BYTES);
        attempt("read", name, || file.read_exact_at(rest, offset))?;
    }
    let Some(payload) = gather(&bytes, BATCH_HEADER_BYTES + body, within, at)
        .map_err(|offset| damaged(offset, "a sector changed since it was written"))?
    else {
        return Ok(Found::Nothing);
    };
    let (head, tail) = payload.split_at(BATCH_HEADER_BYTES);
    if head[64..] != checksum(head, tail, within.salt, at.offset) {
        return Err(damaged(at.offset, "the checksum of a batch is wrong"));
    }
    Ok(Found::Batch(Batch { header, payload, version: within.version, room: room as u32 }))
}

/// The payload of a batch's sectors; `None` if one of them was never written.
///
/// # Errors
/// The offset of a sector that is rotten.
fn gather(bytes: &[u8], len: usize, within: Use, at: &Spot) -> Result<Option<Vec<u8>>, u32> {
    let (mut payload, mut whole) = (Vec::with_capacity(len + PAYLOAD_BYTES), true);
    let sectors = bytes.chunks_exact(SECTOR_BYTES).take(len.div_ceil(PAYLOAD_BYTES));
    for (sector, offset) in sectors.zip((at.offset..).step_by(SECTOR_BYTES)) {
        match inspect(&array(sector, 0), within.salt, offset) {
            Sector::Own(number) if number == at.number => {
                payload.extend_from_slice(&sector[..PAYLOAD_BYTES]);
            }
            Sector::Rotten => return Err(offset),
            Sector::Own(_) | Sector::Blank | Sector::Stale => whole = false,
        }
    }
    payload.truncate(len);
    Ok(whole.then_some(payload))
}
