//! Exit codes by cause: what a supervisor may rely on.
//!
//! | code | name | cause | to be restarted |
//! | --- | --- | --- | --- |
//! | 0 | [`Done`](Exit::Done) | it did what it was asked to; a CoServer or witness was told to stop | no |
//! | 10 | [`Removed`](Exit::Removed) | the other CoServer goes on alone; started again, this one joins it. With `--no-return` only, as 11, 14 and 16 | yes |
//! | 11 | [`NotAMember`](Exit::NotAMember) | an operator has begun a new lineage | yes |
//! | 12 | [`Incompatible`](Exit::Incompatible) | the CoServers cannot run together | no |
//! | 13 | [`Corrupted`](Exit::Corrupted) | outputs changed in this machine's memory | no |
//! | 14 | [`JoinEnded`](Exit::JoinEnded) | the member that brought it up to date is gone | yes |
//! | 15 | [`LineageOver`](Exit::LineageOver) | the disk's lineage is over: an operator has to decide | no |
//! | 16 | [`Hanging`](Exit::Hanging) | its disk or its service hangs, and the other CoServer goes on alone. With `--no-return` only | yes |
//! | 64 | [`Usage`](Exit::Usage) | the command line is wrong | no |
//! | 69 | [`Unavailable`](Exit::Unavailable) | an address is in use, or a process does not answer | later |
//! | 70 | [`Software`](Exit::Software) | a defect, of the build or of the program | no |
//! | 71 | [`System`](Exit::System) | the operating system gives no thread, socket, randomness, descriptor or memory | later |
//! | 73 | [`Exists`](Exit::Exists) | a file is there already and is not overwritten | no |
//! | 74 | [`Storage`](Exit::Storage) | a directory or file cannot be used | no |
//! | 75 | [`Locked`](Exit::Locked) | another process has the directory | later |
//! | 78 | [`Config`](Exit::Config) | the configuration is wrong | no |
//! | 101 | | the process panicked; report it | yes |
//!
//! Codes from 64 on are those of `sysexits.h`; 10 to 16 are this project's own.

use std::process::ExitCode;

use super::config::ConfigError;
use super::control::{AskError, DirectoryError};
use super::coserver::StartupError;
use super::init::InitError;
use super::quic::BindError;
use super::storage::StorageError;
use super::witness::{ObjectStoreError, WitnessError};
use crate::event::StopCause;
use crate::exhaustion::Exhaustion;
use crate::store::home::HomeError;
use crate::store::replica::OpenError;
use crate::witness::StoreError;

/// How a process ends. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// The process did what it was asked to.
    Done = 0,
    /// The other CoServer goes on alone.
    Removed = 10,
    /// An operator has begun a new lineage.
    NotAMember = 11,
    /// The CoServers cannot run together.
    Incompatible = 12,
    /// Memory here is not to be trusted.
    Corrupted = 13,
    /// The member that brought it up to date is gone.
    JoinEnded = 14,
    /// What is on the disk is of a lineage that is over.
    LineageOver = 15,
    /// The process's disk or service hangs.
    Hanging = 16,
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_UNAVAILABLE`: an address is in use, or a process does not answer.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a defect.
    Software = 70,
    /// `EX_OSERR`: the operating system does not give what is needed.
    System = 71,
    /// `EX_CANTCREAT`: something is there already.
    Exists = 73,
    /// `EX_IOERR`: a directory or file cannot be used.
    Storage = 74,
    /// `EX_TEMPFAIL`: another process has the directory.
    Locked = 75,
    /// `EX_CONFIG`: the configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The exit code that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

impl From<&StopCause> for Exit {
    fn from(cause: &StopCause) -> Self {
        match cause {
            StopCause::Asked | StopCause::Left { .. } => Exit::Done,
            StopCause::JoinEnded => Exit::JoinEnded,
            StopCause::LineageOver { .. } => Exit::LineageOver,
            StopCause::Storage { .. } => Exit::Storage,
            StopCause::Exhausted { .. } => Exit::System,
            StopCause::Removed { .. } => Exit::Removed,
            StopCause::NotAMember { .. } => Exit::NotAMember,
            StopCause::Incompatible { .. } => Exit::Incompatible,
            StopCause::Corrupted => Exit::Corrupted,
            StopCause::Hanging { .. } => Exit::Hanging,
        }
    }
}

impl From<&ConfigError> for Exit {
    fn from(_: &ConfigError) -> Self {
        Exit::Config
    }
}

impl From<&BindError> for Exit {
    fn from(error: &BindError) -> Self {
        match error {
            BindError::Address { .. } => Exit::Unavailable,
            BindError::Settings(_) => Exit::Config,
            BindError::Tls(_) => Exit::Software,
        }
    }
}

impl From<&StartupError> for Exit {
    fn from(error: &StartupError) -> Self {
        match error {
            StartupError::Settings(_) => Exit::Config,
            StartupError::Bind(error) => error.into(),
            StartupError::Store(error) => error.into(),
            StartupError::Storage { source, .. } => source.into(),
            StartupError::Device(_) => Exit::Unavailable,
            StartupError::Executor(_) | StartupError::Entropy(_) | StartupError::Descriptors(_) => {
                Exit::System
            }
            StartupError::Queue(_) | StartupError::Panics(_) | StartupError::ServiceName { .. } => {
                Exit::Software
            }
        }
    }
}

impl From<&StorageError> for Exit {
    fn from(error: &StorageError) -> Self {
        match error {
            StorageError::Directory(error) => error.into(),
            StorageError::Open(
                OpenError::Home(HomeError::OtherPair { .. } | HomeError::OtherPlace { .. })
                | OpenError::OtherService { .. }
                | OpenError::OtherBehaviour { .. }
                | OpenError::KeptLog,
            ) => Exit::Config,
            StorageError::Open(_) | StorageError::Io(_) => Exit::Storage,
            StorageError::Thread(_) => Exit::System,
            StorageError::Queue(_) => Exit::Software,
        }
    }
}

impl From<&DirectoryError> for Exit {
    fn from(error: &DirectoryError) -> Self {
        match error {
            DirectoryError::Locked { .. } => Exit::Locked,
            DirectoryError::Io { .. } => Exit::Storage,
            DirectoryError::NotPrivate(_)
            | DirectoryError::Link { .. }
            | DirectoryError::TooLong { .. } => Exit::Config,
        }
    }
}

impl From<&StoreError> for Exit {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Locked { .. } => Exit::Locked,
            StoreError::Unknown { .. } | StoreError::Enrolled { .. } => Exit::Config,
            StoreError::Io { source, .. } | StoreError::Unchanged { source, .. }
                if Exhaustion::of(source).is_some_and(Exhaustion::passes) =>
            {
                Exit::System
            }
            _ => Exit::Storage,
        }
    }
}

impl From<&ObjectStoreError> for Exit {
    fn from(error: &ObjectStoreError) -> Self {
        match error {
            ObjectStoreError::Url { .. } | ObjectStoreError::NotBuilt { .. } => Exit::Config,
            ObjectStoreError::Open { .. } => Exit::Storage,
        }
    }
}

#[cfg(feature = "object-witness")]
impl From<&super::witness::ObjectFailure> for Exit {
    fn from(error: &super::witness::ObjectFailure) -> Self {
        use super::witness::ObjectFailure;
        use crate::witness::object::ObjectError;

        match error {
            ObjectFailure::Store(error) => error.into(),
            ObjectFailure::Objects(ObjectError::Unreached | ObjectError::Raced { .. }) => {
                Exit::Unavailable
            }
            ObjectFailure::Objects(
                ObjectError::Unenrolled { .. } | ObjectError::Enrolled { .. },
            ) => Exit::Config,
            ObjectFailure::Objects(_) => Exit::Storage,
        }
    }
}

impl From<&WitnessError> for Exit {
    fn from(error: &WitnessError) -> Self {
        match error {
            WitnessError::Store(error) => error.into(),
            WitnessError::Directory(error) => error.into(),
            WitnessError::Bind(error) => error.into(),
            WitnessError::Thread(_) => Exit::System,
        }
    }
}

impl From<&InitError> for Exit {
    fn from(error: &InitError) -> Self {
        match error {
            InitError::Exists { .. } => Exit::Exists,
            InitError::Io { .. } => Exit::Storage,
            InitError::Key(_) => Exit::Storage,
            InitError::Entropy(_) => Exit::System,
            InitError::NoPort { .. } => Exit::Unavailable,
            InitError::Links { .. } | InitError::Port { .. } => Exit::Usage,
            InitError::Configuration(_) => Exit::Usage,
            InitError::Service(_) => Exit::Software,
        }
    }
}

impl From<&AskError> for Exit {
    fn from(error: &AskError) -> Self {
        match error {
            AskError::NotRunning { .. } | AskError::NoAnswer { .. } | AskError::NotEnded { .. } => {
                Exit::Unavailable
            }
            AskError::Refused { code, .. } => match code.as_str() {
                "unknown-command" | "too-long" => Exit::Usage,
                "not-done" => Exit::Config,
                "not-written" => Exit::Storage,
                _ => Exit::Unavailable,
            },
            AskError::Directory(error) => error.into(),
        }
    }
}
