//! Another key for a party in a configuration file, with everything else left as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::document::{Document, Overrides};
use super::error::ConfigError;
use super::section::Section;
use super::value::Keys;
use crate::ids::{PairId, ReplicaId};
use crate::runtime::keys::PublicKey;
use crate::runtime::private;

/// Makes `key` the only one of the other CoServer in a CoServer's file. When this returns it is
/// on disk; at every moment the file is the old one or the new one.
///
/// # Errors
/// If the file cannot be read or written, or does not have the field.
pub fn replace_peer(file: &Path, key: PublicKey) -> Result<(), ConfigError> {
    replace(file, "coserver", key, |mut root| root.section("peers"))
}

/// Makes `key` the only one of a place of a pair in a witness's file, likewise.
///
/// # Errors
/// If the file cannot be read or written, or does not have the pair.
pub fn replace_pair_key(
    file: &Path,
    pair: PairId,
    place: ReplicaId,
    key: PublicKey,
) -> Result<(), ConfigError> {
    let field = if place == ReplicaId::A { "a" } else { "b" };
    replace(file, field, key, |mut root| {
        for mut section in root.sections("pairs")? {
            if section.required::<PairId>("id", "the pair's id")? == pair {
                return Ok(section);
            }
        }
        Err(root.fault("pairs", "the pair is not in the file", "name one that is"))
    })
}

fn replace(
    file: &Path,
    field: &'static str,
    key: PublicKey,
    find: impl Fn(Section) -> Result<Section, ConfigError>,
) -> Result<(), ConfigError> {
    let meaning = "the public key of the CoServer at this place";
    let mut section = find(Document::read(file, &Overrides::new())?.into_root())?;
    let _: Keys = section.required(field, meaning)?;
    let remedy = "write the key there by hand";
    let text = section
        .spliced(field, &format!("\"{key}\""))
        .ok_or_else(|| section.fault(field, "cannot be replaced", remedy))?;
    // What was spliced has to say what was meant, before it takes the file's place.
    let mut after = find(Document::parse(file, text.clone(), &Overrides::new())?.into_root())?;
    let Keys(keys) = after.required(field, meaning)?;
    if keys != [key] {
        return Err(section.fault(field, "cannot be replaced", remedy));
    }
    write(file, &text).map_err(|source| ConfigError::Write { file: file.into(), source })
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = directory.join(name);
    let permissions = fs::metadata(file)?.permissions();
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut made = private::open(&mut options, &new)?;
    made.write_all(text.as_bytes())?;
    made.set_permissions(permissions)?;
    made.sync_all()?;
    fs::rename(&new, file)?;
    File::open(directory)?.sync_all()
}
