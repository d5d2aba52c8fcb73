//! How a checkpoint begins: what it is a checkpoint of. The same on both CoServers.

use crate::digest::{Digest, Hasher};
use crate::history::History;
use crate::ids::{Epoch, OriginNumber, PairId};
use crate::limits::NAME_BYTES;
use crate::machine::Identity;
use crate::store::fields::{Broken, Fields, begin, put_record, seal, unseal};

const MAGIC: &[u8; 8] = b"LKSTCKPT";

/// The version of the format.
pub const VERSION: u16 = 1;

/// Where the first block begins.
pub(super) const HEADER_BYTES: usize = crate::store::fields::SEALED_BYTES;

/// What a checkpoint is one of, without its place, so that both files are the same (rule K3): see
/// `docs/checkpoint.md` for its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The pair whose state it is.
    pub pair: PairId,
    /// The service that was running. Its name has at most [`NAME_BYTES`] bytes.
    pub service: Identity,
    /// The log at the checkpoint.
    pub history: History,
    /// The running digest of the outputs at the checkpoint.
    pub outputs: Digest,
}

impl Header {
    /// # Panics
    /// If the service's name is longer than a name may be: nothing starts with such a one.
    pub(super) fn encode(&self) -> Vec<u8> {
        let name = self.service.name.as_bytes();
        assert!(name.len() <= NAME_BYTES, "the service's name is longer than {NAME_BYTES} bytes");
        let mut out = begin(MAGIC, VERSION);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.service.version.to_le_bytes());
        out.extend_from_slice(&self.pair.0);
        out.extend_from_slice(&self.service.configuration.0);
        put_history(&mut out, &self.history);
        out.extend_from_slice(&self.outputs.0);
        out.extend_from_slice(name);
        seal(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let fields = unseal(bytes, MAGIC, VERSION)?;
        let header = take(fields).ok_or(Broken::Damaged("its fields contradict each other"))?;
        // There is one way of writing each header; else equal states could have unequal files.
        if header.encode() != bytes {
            return Err(Broken::Damaged("its fields contradict each other"));
        }
        Ok(header)
    }

    /// Begins the state hash: over the header's fields as they are laid out, without the
    /// format's version, so that a later format can give the same state the same hash.
    pub(super) fn state_hasher(&self) -> Hasher {
        let encoded = self.encode();
        let mut hasher = Hasher::after(Digest::ZERO);
        hasher.bytes(&encoded[10..HEADER_BYTES - 16]);
        hasher
    }
}

fn put_history(out: &mut Vec<u8>, history: &History) {
    out.extend_from_slice(&history.index.0.to_le_bytes());
    out.extend_from_slice(&history.log_digest.0);
    out.extend_from_slice(&history.time.0.to_le_bytes());
    out.extend_from_slice(&history.epoch.0.to_le_bytes());
    out.extend_from_slice(&history.began.0.to_le_bytes());
    out.extend_from_slice(&(history.sequencer.slot() as u64).to_le_bytes());
    for number in history.ordered {
        out.extend_from_slice(&number.0.to_le_bytes());
    }
    put_record(out, history.record.as_ref());
    out.extend_from_slice(&u64::from(history.witness).to_le_bytes());
    put_record(out, history.enrolled.as_ref());
}

fn take(mut fields: Fields<'_>) -> Option<Header> {
    let name = usize::from(fields.u16()?);
    let version = fields.u32()?;
    let (pair, configuration) = (fields.pair()?, fields.digest()?);
    let history = take_history(&mut fields)?;
    let outputs = fields.digest()?;
    let sound = history.began <= history.index && history.index.0 < u64::MAX;
    if name > NAME_BYTES || !sound {
        return None;
    }
    let name = str::from_utf8(fields.take(name)?).ok()?.to_owned();
    fields.end()?;
    Some(Header { pair, service: Identity { name, version, configuration }, history, outputs })
}

fn take_history(fields: &mut Fields<'_>) -> Option<History> {
    Some(History {
        index: fields.index()?,
        log_digest: fields.digest()?,
        time: fields.time()?,
        epoch: Epoch(fields.u64()?),
        began: fields.index()?,
        sequencer: {
            let place = fields.place()?;
            fields.zeros(7)?;
            place
        },
        ordered: [OriginNumber(fields.u64()?), OriginNumber(fields.u64()?)],
        record: fields.record()?,
        witness: fields.u64().and_then(|slot| u8::try_from(slot).ok())?,
        enrolled: fields.record()?,
    })
}
