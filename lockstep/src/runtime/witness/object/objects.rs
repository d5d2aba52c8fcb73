//! The objects of a pair, through the crate `object_store`.

use std::fs::File;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::ObjectStoreError;
use crate::ids::{Epoch, Lineage, PairId};
use crate::witness::Told;
use crate::witness::object::{Action, Listing, OBJECT_BYTES, Outcome};

/// A pair's objects in a store.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The pair's own folder in it.
    folder: Path,
    /// Where that is on disk, if it is a local folder.
    local: Option<PathBuf>,
    /// Objects below this number are known to be on that disk. What is read goes into answers, so
    /// it must not be lost afterwards, whoever wrote it.
    synced: AtomicU64,
    /// An object is there whose writing failed, so that nobody knows whether it stays.
    doubtful: AtomicBool,
}

impl Objects {
    pub(super) fn open(url: &str, pair: PairId) -> Result<Self, ObjectStoreError> {
        if let Some(path) = url.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Self::open_folder(url, FilePath::new(path), pair);
        }
        match url.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some((bucket, prefix)) if !bucket.is_empty() => {
                Self::open_s3(url, bucket, prefix, pair)
            }
            _ => Err(ObjectStoreError::Url { url: url.into() }),
        }
    }

    fn open_folder(url: &str, path: &FilePath, pair: PairId) -> Result<Self, ObjectStoreError> {
        // An object, and its name, are on disk before creating it returns.
        let store = LocalFileSystem::new_with_prefix(path).map_err(failed(url))?.with_fsync(true);
        let local = path.join(pair.to_string());
        Ok(Self::new(Arc::new(store), Path::from(pair.to_string()), Some(local)))
    }

    #[cfg(feature = "object-witness-s3")]
    fn open_s3(
        url: &str,
        bucket: &str,
        prefix: &str,
        pair: PairId,
    ) -> Result<Self, ObjectStoreError> {
        use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
        use object_store::{ClientConfigKey, RetryConfig};

        // Somebody else in the process may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: super::client::LIMIT,
            ..RetryConfig::default()
        };
        // One by one: options as a whole would replace what the environment says of the client.
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let limit = format!("{}s", super::client::LIMIT.as_secs());
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_config(timeout, limit)
            // Creating is what decides; nothing in the environment may turn that off.
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry)
            .build()
            .map_err(failed(url))?;
        let folder = Path::from(prefix).join(pair.to_string());
        Ok(Self::new(Arc::new(store), folder, None))
    }

    #[cfg(not(feature = "object-witness-s3"))]
    fn open_s3(url: &str, _: &str, _: &str, _: PairId) -> Result<Self, ObjectStoreError> {
        Err(ObjectStoreError::NotBuilt { url: url.into(), feature: "object-witness-s3" })
    }

    fn new(store: Arc<dyn ObjectStore>, folder: Path, local: Option<PathBuf>) -> Self {
        let (synced, doubtful) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { store, folder, local, synced, doubtful }
    }

    /// Does it, and says why if it failed.
    pub(super) async fn carry_out(&self, action: &Action) -> Outcome {
        if self.doubtful.load(Ordering::Relaxed) {
            tracing::error!(
                event = "store_failed",
                "put the disk in order and restart the process"
            );
            return Outcome::Failed;
        }
        let done = match action {
            Action::List => self.list().await.map(Outcome::Listed),
            Action::Read { number } => self.read(*number).await.map(Outcome::Read),
            Action::Create { number, bytes } => self.create(*number, bytes).await,
            Action::Mark { told } => self.mark(*told).await,
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(event = "store_failed", %error);
            Outcome::Failed
        })
    }

    async fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for object in self.store.list_with_delimiter(Some(&self.folder)).await?.objects {
            match object.location.filename().and_then(Name::parse) {
                Some(Name::Record(number)) => drop(listing.numbers.insert(number)),
                Some(Name::Mark(told)) => listing.told = listing.told.max(Some(told)),
                None => tracing::debug!(name = %object.location, "no object of a witness"),
            }
        }
        Ok(listing)
    }

    async fn read(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = match self.store.get(&self.at(Name::Record(number))).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if found.meta.size > OBJECT_BYTES as u64 {
            // Whatever it is, its length alone tells that it is no record.
            return Ok(Some(vec![0; OBJECT_BYTES + 1]));
        }
        let bytes = found.bytes().await?;
        self.keep(number).await?;
        Ok(Some(bytes.to_vec()))
    }

    async fn create(&self, number: u64, bytes: &[u8]) -> Result<Outcome, Error> {
        let at = self.at(Name::Record(number));
        match self.put(&at, bytes.to_vec().into()).await {
            Ok(()) => Ok(Outcome::Created),
            Err(Error::AlreadyExists { .. }) => Ok(Outcome::Exists),
            Err(error) => {
                // It may be there all the same, because only the last sync failed; and a sync
                // that succeeds after one that failed proves nothing.
                if self.local.is_some()
                    && !matches!(self.store.head(&at).await, Err(Error::NotFound { .. }))
                {
                    self.doubtful.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    async fn mark(&self, told: Told) -> Result<Outcome, Error> {
        match self.put(&self.at(Name::Mark(told)), PutPayload::new()).await {
            Ok(()) | Err(Error::AlreadyExists { .. }) => Ok(Outcome::Marked),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, at: &Path, bytes: PutPayload) -> Result<(), Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(at, bytes, options).await.map(drop)
    }

    /// Makes sure that the object is on the disk of a local folder, though its writer may have
    /// died before it was.
    async fn keep(&self, number: u64) -> Result<(), Error> {
        let Some(folder) = self.local.clone() else { return Ok(()) };
        if number < self.synced.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sync = move || -> io::Result<()> {
            File::open(folder.join(Name::Record(number).text()))?.sync_all()?;
            File::open(&folder)?.sync_all()
        };
        let failed = |source| Error::Generic { store: "folder", source };
        let synced =
            tokio::task::spawn_blocking(sync).await.map_err(|error| failed(error.into()))?;
        synced.map_err(|error| failed(error.into()))?;
        self.synced.fetch_max(number + 1, Ordering::Relaxed);
        Ok(())
    }

    fn at(&self, name: Name) -> Path {
        self.folder.clone().join(name.text())
    }
}

fn failed(url: &str) -> impl FnOnce(Error) -> ObjectStoreError + '_ {
    move |error| ObjectStoreError::Open { url: url.into(), why: error.to_string() }
}

/// What the name of an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Record(u64),
    Mark(Told),
}

impl Name {
    fn text(self) -> String {
        match self {
            Self::Record(number) => format!("epoch-{number}"),
            Self::Mark(Told { lineage, epoch }) => format!("behind-{}-{}", lineage.0, epoch.0),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let name = if let Some(number) = text.strip_prefix("epoch-") {
            Self::Record(number.parse().ok()?)
        } else {
            let (lineage, epoch) = text.strip_prefix("behind-")?.split_once('-')?;
            let (lineage, epoch) = (Lineage(lineage.parse().ok()?), Epoch(epoch.parse().ok()?));
            Self::Mark(Told { lineage, epoch })
        };
        // No second spelling of a number.
        (name.text() == text).then_some(name)
    }
}
