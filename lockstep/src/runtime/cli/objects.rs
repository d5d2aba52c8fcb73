//! The operator's commands for a witness that is an object store.

use std::path::Path;

#[cfg(feature = "object-witness")]
use super::print;
use super::{Failure, UsageError};
use crate::ids::PairId;
use crate::runtime::config::{ConfigError, Document, Overrides, witness_address};
use crate::runtime::coserver::WitnessAddress;
use crate::runtime::exit::Exit;
#[cfg(not(feature = "object-witness"))]
use crate::runtime::witness::ObjectLink;
#[cfg(feature = "object-witness")]
use crate::runtime::witness::{ObjectClient, ObjectFailure, describe};

/// A pair and its store.
pub(super) struct Store {
    pair: PairId,
    url: String,
}

/// The store that a CoServer's file names as its witness; `None` if the file is another one. Only
/// that is read.
pub(super) fn store_of(config: &Path) -> Result<Option<Store>, ConfigError> {
    let mut root = Document::read(config, &Overrides::new())?.into_root();
    if !root.is_table("witness") {
        return Ok(None);
    }
    let pair = root.required("pair", "the pair's id, the same in all of its files")?;
    Ok(match witness_address(&mut root)? {
        WitnessAddress::Objects(url) => Some(Store { pair, url }),
        WitnessAddress::Process(_) => None,
    })
}

pub(super) fn enrol(config: &Path) -> Result<Exit, Failure> {
    let store = store_of(config)?.ok_or_else(|| {
        UsageError::Instead(format!(
            "the witness in {} is a process, not an object store, and nothing is to be enrolled: it makes \
             the first record of each pair in its `[[pairs]]` when it starts",
            config.display()
        ))
    })?;
    store.enrol()
}

pub(super) fn new_lineage(store: &Store, yes: bool) -> Result<Exit, Failure> {
    store.new_lineage(yes)
}

#[cfg(feature = "object-witness")]
impl Store {
    fn with<T>(
        &self,
        job: impl AsyncFnOnce(&mut ObjectClient) -> Result<T, ObjectFailure>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(super::PartError::from)?;
        let done = runtime.block_on(async {
            let mut client = ObjectClient::open(&self.url, self.pair)?;
            job(&mut client).await
        });
        Ok(done?)
    }

    fn enrol(&self) -> Result<Exit, Failure> {
        let made = self.with(async |client| Ok(client.enrol().await?))?;
        print(&format!("pair {} is in {} at {}", self.pair, describe(&made), self.url));
        Ok(Exit::Done)
    }

    fn new_lineage(&self, yes: bool) -> Result<Exit, Failure> {
        let pair = self.pair;
        let before = self.with(async |client| Ok(client.look().await?))?;
        if !yes {
            print(&format!(
                "pair {pair} is in {}.\nA new lineage gives up what its record says: no CoServer \
                 goes on by it any more. Stop both first. To go ahead, say --yes.",
                describe(&before)
            ));
            return Err(UsageError::Missing("--yes").into());
        }
        let after = self.with(async |client| Ok(client.new_lineage().await?))?;
        print(&format!(
            "pair {pair} was in {}; it is in {} now. Start each CoServer whose disk holds entries with \
             --adopt (the one with the longer log) or --discard, and one with an empty disk as it is.",
            describe(&before),
            describe(&after)
        ));
        Ok(Exit::Done)
    }
}

#[cfg(not(feature = "object-witness"))]
impl Store {
    fn enrol(&self) -> Result<Exit, Failure> {
        ObjectLink::start(&self.url, self.pair).map_err(super::PartError::from)?;
        Ok(Exit::Done)
    }

    fn new_lineage(&self, _: bool) -> Result<Exit, Failure> {
        self.enrol()
    }
}

#[cfg(all(test, feature = "object-witness"))]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_enrolled_once_and_begins_a_new_lineage_when_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let (file, folder) = (directory.path().join("a.toml"), directory.path().join("store"));
        let text = |witness: &str| format!("pair = \"{}\"\n{witness}", PairId([5; 16]));
        std::fs::write(&file, text("witness = \"127.0.0.1:7000\"")).unwrap();
        assert!(store_of(&file).unwrap().is_none());
        let refused = enrol(&file).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.message.contains("is a process"), "{}", refused.message);

        let table = format!("[witness]\nkind = \"object\"\nurl = \"file://{}\"", folder.display());
        std::fs::write(&file, text(&table)).unwrap();
        assert_eq!(enrol(&file).unwrap_err().exit, Exit::Storage, "there is no such folder");
        std::fs::create_dir(&folder).unwrap();
        let store = store_of(&file).unwrap().unwrap();
        assert_eq!(new_lineage(&store, true).unwrap_err().exit, Exit::Config, "not enrolled");
        assert_eq!(enrol(&file).unwrap(), Exit::Done);
        assert_eq!(enrol(&file).unwrap_err().exit, Exit::Config, "enrolled already");
        assert_eq!(new_lineage(&store, false).unwrap_err().exit, Exit::Usage);
        assert_eq!(new_lineage(&store, true).unwrap(), Exit::Done);
        let record = store.with(async |client| Ok(client.look().await?)).unwrap();
        assert_eq!((record.lineage.0, record.epoch.0), (2, 1));
    }
}
