//! The parts after the header: blocks of records, then the end mark.
//!
//! A part's checksum covers what it belongs to and where it stands. So a part of another
//! checkpoint, or one that the disk put elsewhere, is as wrong as a damaged one.

use xxhash_rust::xxh3::Xxh3;

use crate::digest::Digest;
use crate::limits::RECORD_BYTES;
use crate::store::fields::Fields;

/// Length of what comes before a block's records.
pub(super) const HEAD_BYTES: usize = 32;

/// Length of the end mark.
pub(super) const END_BYTES: usize = 88;

/// Length of a record in its block beside its bytes.
pub(super) const PREFIX_BYTES: usize = 4;

/// Longest block before compression; none is longer after it, or it stands as it is.
pub(super) const LONGEST: usize = RECORD_BYTES + PREFIX_BYTES;

/// In place of a block's length: no more blocks.
const END: u32 = u32::MAX;

const AS_IT_IS: u32 = 0;
const LZ4: u32 = 1;

/// Where a part stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// The header's checksum.
    pub(super) header: Digest,
    /// How many blocks come before.
    pub(super) number: u64,
    /// Bytes before it in the file.
    pub(super) offset: u64,
}

impl Position {
    fn checksum(&self, head: &[u8], body: &[u8]) -> Digest {
        let mut hasher = Xxh3::new();
        hasher.update(&self.header.0);
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&self.offset.to_le_bytes());
        hasher.update(head);
        hasher.update(body);
        Digest(hasher.digest128().to_le_bytes())
    }
}

/// What stands before a block's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Length of what follows.
    pub(super) stored: u32,
    /// Length of the records, each after its length.
    pub(super) raw: u32,
    /// How many there are.
    pub(super) records: u32,
    how: u32,
    checksum: Digest,
}

/// Writes a block; gives its checksum.
pub(super) fn encode(at: &Position, raw: &[u8], records: u32, out: &mut Vec<u8>) -> Digest {
    let room = lz4_flex::block::get_maximum_output_size(raw.len());
    out.clear();
    out.resize(HEAD_BYTES + room, 0);
    let packed = lz4_flex::block::compress_into(raw, &mut out[HEAD_BYTES..])
        .ok()
        .filter(|packed| *packed < raw.len());
    let (stored, how) = packed.map_or((raw.len(), AS_IT_IS), |packed| (packed, LZ4));
    if how == AS_IT_IS {
        out[HEAD_BYTES..HEAD_BYTES + stored].copy_from_slice(raw);
    }
    out.truncate(HEAD_BYTES + stored);
    let numbers = [stored as u32, raw.len() as u32, records, how];
    for (field, number) in out.chunks_exact_mut(4).zip(numbers) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    let checksum = at.checksum(&out[..16], &out[HEAD_BYTES..]);
    out[16..HEAD_BYTES].copy_from_slice(&checksum.0);
    checksum
}

impl Head {
    /// `Ok(None)` at the end mark.
    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Option<Self>, &'static str> {
        Self::fields(bytes).ok_or("a block's head is not one").and_then(|head| match head {
            Self { stored: END, .. } => Ok(None),
            head if head.is_sound() => Ok(Some(head)),
            _ => Err("a block's head is not one"),
        })
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            stored: fields.u32()?,
            raw: fields.u32()?,
            records: fields.u32()?,
            how: fields.u32()?,
            checksum: fields.digest()?,
        })
    }

    /// Nothing is read or set aside for more than a block can be.
    fn is_sound(&self) -> bool {
        let fits = match self.how {
            AS_IT_IS => self.stored == self.raw,
            LZ4 => self.stored < self.raw,
            _ => false,
        };
        let least = u64::from(self.records) * PREFIX_BYTES as u64;
        fits && self.raw as usize <= LONGEST && self.records > 0 && least <= self.raw.into()
    }

    /// The block's records, each after its length; and its checksum.
    pub(super) fn open(
        &self,
        at: &Position,
        head: &[u8; HEAD_BYTES],
        body: Vec<u8>,
    ) -> Result<(Vec<u8>, Digest), &'static str> {
        if at.checksum(&head[..16], &body) != self.checksum {
            return Err("a block's checksum is wrong");
        }
        if self.how == AS_IT_IS {
            return Ok((body, self.checksum));
        }
        let mut raw = vec![0; self.raw as usize];
        let len = lz4_flex::block::decompress_into(&body, &mut raw)
            .map_err(|_| "a block cannot be decompressed")?;
        if len != raw.len() {
            return Err("a block is shorter than it says");
        }
        Ok((raw, self.checksum))
    }
}

/// What stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) blocks: u64,
    pub(super) records: u64,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Length of the whole file in bytes.
    pub(super) len: u64,
    pub(super) hash: Digest,
    /// Running digest of the blocks' checksums.
    pub(super) blocks_digest: Digest,
}

impl End {
    pub(super) fn encode(&self, header: Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(END_BYTES);
        out.extend_from_slice(&u64::from(END).to_le_bytes());
        for number in [self.blocks, self.records, self.bytes, self.len] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.hash.0);
        out.extend_from_slice(&self.blocks_digest.0);
        let checksum = self.position(header).checksum(&out, &[]);
        out.extend_from_slice(&checksum.0);
        out
    }

    fn position(&self, header: Digest) -> Position {
        let offset = self.len.saturating_sub(END_BYTES as u64);
        Position { header, number: self.blocks, offset }
    }

    pub(super) fn decode(bytes: &[u8; END_BYTES], header: Digest) -> Result<Self, &'static str> {
        let end = Self::fields(bytes).ok_or("the end mark is not one")?;
        if end.encode(header) == bytes { Ok(end) } else { Err("the end mark's checksum is wrong") }
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        fields.take(8)?;
        Some(Self {
            blocks: fields.u64()?,
            records: fields.u64()?,
            bytes: fields.u64()?,
            len: fields.u64()?,
            hash: fields.digest()?,
            blocks_digest: fields.digest()?,
        })
    }
}
