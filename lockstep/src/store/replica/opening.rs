//! What a start finds on the disk, put in order.

use std::io;

use super::failure::CHECK_DISK_HINT;
use super::settings::{Durability, StorageSettings};
use super::store::ReplicaStore;
use super::{Service, Who, aside, reset};
use crate::ids::{Index, Lineage};
use crate::proto::Disk;
use crate::proto::io::Membership;
use crate::store::checkpoint::{self, CheckpointError, Summary};
use crate::store::files::Directory;
use crate::store::home::{Home, HomeError, Kept};
use crate::store::journal::{Journal, JournalError, State};
use crate::store::membership::{MembershipError, MembershipStore, NAMES};
use crate::wire::frames::LogPosition;

/// The disk cannot be used. The directory's log stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is another CoServer's, a copy, or of another version.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The membership is of another version, or damaged.
    #[error(transparent)]
    Membership(MembershipError),
    /// The journal is of another version or another CoServer, or cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A checkpoint is of another version, or damaged.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The system refused to read or write a file.
    #[error("{CHECK_DISK_HINT}")]
    Io(#[from] io::Error),
    /// The files are of another service.
    #[error(
        "it holds the state of the service `{found}`, this program runs `{ours}`: \
         start the right program, or give this one a directory of its own"
    )]
    OtherService {
        /// The name of the service whose state it is.
        found: String,
        /// The name of the service that this program runs.
        ours: String,
    },
    /// The log was computed by another version of the service, or with other settings.
    #[error(
        "the log in it was computed by `{name}` of version {found}{settings}, and this \
         program runs version {ours}: replayed, it would come to something else than what clients \
         were told. Put the program and the service's settings back as they were. \
         To change them: stop both CoServers, begin a new lineage (`new-lineage`), then start one \
         with `--adopt` and the other with `--discard`. If the other CoServer already serves with \
         the new ones, start this one with `--discard`",
        settings = if found == ours { " with other settings or devices, or another lockstep" } else { "" }
    )]
    OtherBehaviour {
        /// The name of the service.
        name: String,
        /// The version that computed the log.
        found: u32,
        /// The version of this program.
        ours: u32,
    },
    /// There is a log that was kept under `journal`, where `memory` begins with nothing.
    #[error(
        "there is a log in it that was kept with `durability = \"journal\"`, and the configuration \
         now says \"memory\", with which a CoServer begins with nothing at every start. Put \
         `durability` back, or give the log up with `--discard`: while the other CoServer serves \
         nothing is lost by that; when both are stopped, everything is"
    )]
    KeptLog,
}

impl OpenError {
    /// Whether what is on the disk keeps this CoServer from starting, and is its own: it has to be
    /// discarded unless something better is known.
    #[cfg(feature = "cli")]
    pub(crate) fn calls_for_discarding(&self) -> bool {
        match self {
            Self::Home(error) => !matches!(
                error,
                HomeError::Io { .. }
                    | HomeError::OtherPair { .. }
                    | HomeError::OtherPlace { .. }
                    | HomeError::Exists
            ),
            Self::Membership(MembershipError::Version { .. })
            | Self::Journal(JournalError::Version { .. })
            | Self::Checkpoint(CheckpointError::Version { .. }) => true,
            _ => false,
        }
    }
}

impl From<MembershipError> for OpenError {
    /// What the system refused needs the disk to be looked at; the rest says what to do.
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Io { .. } => Self::Io(io::Error::other(error)),
            error => Self::Membership(error),
        }
    }
}

impl From<CheckpointError> for OpenError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io { .. } => Self::Io(io::Error::other(error)),
            error => Self::Checkpoint(error),
        }
    }
}

/// What a directory was found to hold.
pub(crate) struct Found {
    /// For the core; `None` if the directory was new.
    pub(crate) disk: Option<Disk>,
    /// Why the log that was there cannot be used.
    pub(crate) damage: Option<String>,
}

/// Opens a directory, which is locked.
pub(crate) fn open(
    directory: Box<dyn Directory>,
    who: Who,
    settings: &StorageSettings,
    adopt: bool,
    seed: u64,
) -> Result<(ReplicaStore, Found), OpenError> {
    reset::finish(&*directory)?;
    let home = match Home::open(&*directory, who.pair, who.place)? {
        Some(home) => home,
        None => Home::create(&*directory, who.pair, who.place, &who.service, settings.kept())?,
    };
    if home.kept == Kept::InMemory {
        // The log may lack what was released.
        discard_log(&*directory)?;
    }
    aside::finish(&*directory)?;
    checkpoint::tidy(&*directory, checkpoint::newest_unfinished(&*directory)?)?;
    let (membership, remembered) = open_membership(&*directory)?;
    let options = settings.journal_options(seed);
    let (journal, recovery) = Journal::open(directory.share(), who.journal_identity(), options)?;
    let is_kept = journal.held().0 > Index(0)
        || matches!(recovery.state, State::Damaged(_))
        || remembered.is_damaged
        || remembered.membership != Membership::default();
    if settings.durability == Durability::Memory && is_kept {
        return Err(OpenError::KeptLog);
    }
    let named = home.service.clone().filter(|_| journal.held().0 > Index(0));
    let computed_by = named.unwrap_or_else(|| who.service.clone());
    check_service(&computed_by, &who.service, adopt)?;
    let discarding = reset::is_pending(&*directory)?;
    let mut store = ReplicaStore {
        directory,
        discarding,
        who,
        computed_by,
        lineage: Lineage(0),
        settings: settings.clone(),
        seed,
        journal,
        membership,
        checkpoints: Vec::new(),
        outgoing: None,
        incoming: None,
        retain: None,
        is_log_lost: false,
    };
    if recovery.torn > 0 {
        tracing::info!(event = "torn_batch_dropped", bytes = recovery.torn);
    }
    let mut damage = match recovery.state {
        State::Damaged(damage) => Some(format!(
            "the journal's file {} is damaged at byte {}: {}",
            damage.file, damage.offset, damage.why
        )),
        // The journal was set aside, and the process ended before the membership said so; or files
        // are gone.
        State::Empty if remembered.membership.record.is_some() => {
            Some("there is no journal any more, and by its membership this CoServer had one".into())
        }
        State::Empty | State::Whole => None,
    };
    if damage.is_none() {
        store.find_checkpoints()?;
        if store.oldest_start().is_none() {
            damage = Some("there is no checkpoint from which the journal goes on".into());
        }
    }
    let found = found(&mut store, remembered, damage)?;
    if home.service.as_ref() == Some(&store.computed_by) && home.kept == settings.kept() {
        store.renew_home();
    } else {
        // What is computed from here on must not be taken for another service's, nor for more than
        // it is worth.
        store.write_home()?;
    }
    Ok((store, found))
}

/// Whether what computed the log is what runs here: a replay by anything else may contradict what
/// was released (rule R5).
/// An operator may adopt a log all the same, of the same service.
fn check_service(found: &Service, ours: &Service, adopt: bool) -> Result<(), OpenError> {
    if found.name != ours.name {
        let (found, ours) = (found.name.clone(), ours.name.clone());
        return Err(OpenError::OtherService { found, ours });
    }
    if found != ours && !adopt {
        let (name, found, ours) = (ours.name.clone(), found.version, ours.version);
        return Err(OpenError::OtherBehaviour { name, found, ours });
    }
    Ok(())
}

fn found(
    store: &mut ReplicaStore,
    remembered: Remembered,
    damage: Option<String>,
) -> Result<Found, OpenError> {
    let aside = damage.is_some() || aside::is_any(&*store.directory)?;
    let (held, _) = store.journal.held();
    let Remembered { membership, is_damaged } = remembered;
    let known = is_damaged || membership != Membership::default();
    let lineage = match membership.record.or(membership.asked.last().copied()) {
        Some(record) => record.lineage,
        None if damage.is_none() => store.last_lineage()?,
        None => Lineage(0),
    };
    store.lineage = lineage;
    let points = match &damage {
        Some(why) => {
            tracing::error!(event = "log_set_aside", why);
            store.set_aside().map_err(io::Error::other)?;
            Vec::new()
        }
        None => store.points()?,
    };
    // A directory whose membership was damaged has an empty one, and is not new either.
    let used = aside || held > Index(0) || known;
    let disk = used.then_some(Disk { membership, lineage, last_index: held, points });
    Ok(Found { disk, damage })
}

/// Removes what a CoServer remembers, so that it is a new one; its identity stays.
fn discard_log(directory: &dyn Directory) -> io::Result<()> {
    aside::wipe(directory)?;
    for name in NAMES {
        match directory.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    directory.sync()
}

/// Makes a directory that of a CoServer that has never run, whatever is in it.
pub(super) fn wipe(directory: &dyn Directory) -> io::Result<()> {
    discard_log(directory)?;
    match directory.remove(crate::store::home::NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => directory.sync(),
    }
}

/// The membership on the disk; an empty one if it is damaged.
struct Remembered {
    membership: Membership,
    is_damaged: bool,
}

fn open_membership(directory: &dyn Directory) -> Result<(MembershipStore, Remembered), OpenError> {
    match MembershipStore::load(directory) {
        Err(error @ MembershipError::Damaged { .. }) => {
            tracing::error!(event = "membership_damaged", why = %error);
            let remembered = Remembered { membership: Membership::default(), is_damaged: true };
            Ok((MembershipStore::start_anew(directory), remembered))
        }
        loaded => {
            let (store, membership) = loaded?;
            let membership = membership.unwrap_or_default();
            Ok((store, Remembered { membership, is_damaged: false }))
        }
    }
}

impl ReplicaStore {
    /// Takes stock of the checkpoints. Checkpoints that the journal does not go on from are
    /// removed: they hold entries that never became durable, or ones that were dropped.
    fn find_checkpoints(&mut self) -> Result<(), OpenError> {
        let listing = checkpoint::list(&*self.directory)?;
        for (index, error) in listing.unusable {
            if matches!(error, CheckpointError::Version { .. }) || !error.is_damage() {
                return Err(error.into());
            }
            tracing::error!(event = "checkpoint_damaged", index = index.0, why = %error);
            aside::one(&*self.directory, &checkpoint::file_name(index))?;
        }
        for summary in listing.whole {
            self.take_stock(summary)?;
        }
        Ok(())
    }

    fn take_stock(&mut self, summary: Summary) -> Result<(), OpenError> {
        let found = &summary.header.service.name;
        if *found != self.who.service.name {
            let ours = self.who.service.name.clone();
            return Err(OpenError::OtherService { found: found.clone(), ours });
        }
        let history = &summary.header.history;
        if self.journal.log_digest_at(history.index)? == Some(history.log_digest) {
            self.checkpoints.push(summary);
            return Ok(());
        }
        tracing::warn!(event = "checkpoint_dropped", index = history.index.0);
        self.directory.remove(&checkpoint::file_name(history.index))?;
        Ok(self.directory.sync()?)
    }

    /// Entries from which this disk can go on, the last first.
    fn points(&mut self) -> Result<Vec<LogPosition>, OpenError> {
        let oldest = self.oldest_start().unwrap_or(Index(u64::MAX));
        let points = self.journal.points()?.into_iter().filter(|(index, _)| *index >= oldest);
        let points = points.map(|(index, log_digest)| LogPosition { index, log_digest });
        Ok(points.take(crate::limits::POINTS).collect())
    }

    /// The lineage of the last entry, as far as the files say.
    fn last_lineage(&mut self) -> Result<Lineage, OpenError> {
        let newest = self.checkpoints.last().map(|summary| &summary.header.history);
        let (from, mut lineage) =
            newest.map_or((Index(0), Lineage(0)), |history| (history.index, history.lineage()));
        if self.journal.held().0 > from {
            for item in self.journal.replay(from.next())? {
                if let Some(record) = item?.0.kind.begins() {
                    lineage = record.lineage;
                }
            }
        }
        Ok(lineage)
    }
}
