//! A part's side of the conversation with the parent.
//!
//! The command line of a process is `part KIND --core N --trips N --depth N --size N [WORD...]`.
//! `--core` is absent where the scheduler may choose, and the words at the end are for the kind. A
//! part dies with its parent.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use hdrhistogram::Histogram;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::placement::{PlacementError, pin};
use crate::talk::{Go, MAX_LINE_BYTES, Ready, Said, to_pairs};
use crate::trips::{Load, LoadError, TripError};

/// The hidden word that makes a program a part.
pub const PART_WORD: &str = "part";

/// Why a part gives up; its text is what the parent prints.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The words after `part` are not what the parent would have written.
    #[error("bad arguments for a part ({0}); parts are started by the latency command")]
    Arguments(String),
    /// A load out of bounds.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The core cannot be had.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The kernel would not promise to end this process with its parent.
    #[error("cannot tie this process to its parent: {0}")]
    Tie(rustix::io::Errno),
    /// The parent is gone or wrote something else.
    #[error("the parent did not say go: {0}")]
    NoGo(String),
    /// A trip failed.
    #[error(transparent)]
    Trip(#[from] TripError),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// Something of the row's own.
    #[error("cannot {what}: {source}")]
    Other {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl PartError {
    /// For `map_err`: a system call failed while trying to do `what`.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: a library's own error while trying to do `what`.
    pub fn other<E: Into<Box<dyn Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Other { what, source: source.into() }
    }
}

/// What a part was told on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOptions {
    /// Which part to play.
    pub kind: String,
    /// The core to run on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// What the driver is to do; the others take the message size from it.
    pub load: Load,
    /// Words for the kind.
    pub words: Vec<String>,
}

impl PartOptions {
    /// The arguments that [`PartOptions::parse`] reads, `part` included.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![PART_WORD.to_owned(), self.kind.clone()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(core) = self.core {
            option("--core", core.to_string());
        }
        option("--trips", self.load.trips.to_string());
        option("--depth", self.load.depth.to_string());
        option("--size", self.load.size.to_string());
        arguments.extend(self.words.iter().cloned());
        arguments
    }

    /// Reads what follows the word `part`.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, PartError> {
        let bad = |what: &str| PartError::Arguments(what.to_owned());
        let mut arguments = arguments
            .map(|word| word.into_string().map_err(|_| bad("a word is not UTF-8")))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .peekable();
        let kind = arguments.next().ok_or_else(|| bad("no kind"))?;
        let mut core = None;
        let (mut trips, mut depth, mut size) = (None, None, None);
        while let Some(name) = arguments.next_if(|word| word.starts_with("--")) {
            let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
            let value = value.ok_or_else(|| bad(&format!("{name} needs a number")))?;
            let small = usize::try_from(value).map_err(|_| bad(&name));
            match name.as_str() {
                "--core" => core = Some(small?),
                "--trips" => trips = Some(value),
                "--depth" => depth = Some(small?),
                "--size" => size = Some(small?),
                _ => return Err(bad(&name)),
            }
        }
        let (Some(trips), Some(depth), Some(size)) = (trips, depth, size) else {
            return Err(bad("--trips, --depth and --size are needed"));
        };
        let load = Load { trips, depth, size }.checked()?;
        Ok(Self { kind, core, load, words: arguments.collect() })
    }
}

/// A running part: tied to its parent, pinned, not yet ready.
#[derive(Debug)]
pub struct Part {
    /// What it was told.
    pub options: PartOptions,
}

impl Part {
    /// Ties this process to its parent and pins it. To be called before
    /// anything that starts threads.
    ///
    /// A parent that dies before the tie is made is noticed in
    /// [`Part::ready`], which then finds the end of its standard input.
    pub fn start(options: PartOptions) -> Result<Self, PartError> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(PartError::Tie)?;
        if let Some(core) = options.core {
            pin(core)?;
        }
        Ok(Self { options })
    }

    /// Says that this part is ready and waits until all are.
    pub fn ready(&self, ready: Ready) -> Result<Go, PartError> {
        say(&Said::Ready(ready)).map_err(PartError::io("tell the parent that all is ready"))?;
        let mut line = String::new();
        let bounded = io::stdin().lock().take(MAX_LINE_BYTES as u64).read_line(&mut line);
        bounded.map_err(PartError::io("read from the parent"))?;
        serde_json::from_str(&line).map_err(|error| PartError::NoGo(error.to_string()))
    }
}

/// Plays the part named on the command line and tells the parent how it went.
///
/// `play` gives back a histogram if it drove the trips, and `None` if it was
/// the far side of them and has nothing more to do.
pub fn play(
    arguments: impl Iterator<Item = OsString>,
    play: impl FnOnce(Part) -> Result<Option<Histogram<u64>>, PartError>,
) -> ExitCode {
    let outcome = PartOptions::parse(arguments).and_then(Part::start).and_then(play);
    let (said, code) = match outcome {
        Ok(Some(histogram)) => (Some(Said::Measured(to_pairs(&histogram))), ExitCode::SUCCESS),
        Ok(None) => (None, ExitCode::SUCCESS),
        Err(error) => (Some(Said::Failed(error.to_string())), ExitCode::FAILURE),
    };
    match said.map_or(Ok(()), |said| say(&said)) {
        Ok(()) => code,
        // Nobody is left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(said: &Said) -> io::Result<()> {
    let mut line = serde_json::to_string(said)?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

/// A runtime for one part: everything on the thread that calls, as a CoServer
/// does it.
pub fn current_thread() -> Result<tokio::runtime::Runtime, PartError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PartError::io("start the tokio runtime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<PartOptions, PartError> {
        PartOptions::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn what_the_parent_writes_is_what_the_part_reads() {
        let load = Load { trips: 10, depth: 2, size: 64 };
        let words = vec!["3".to_owned(), "x".to_owned()];
        for core in [None, Some(1)] {
            let options =
                PartOptions { kind: "raft-node".into(), core, load, words: words.clone() };
            let arguments = options.to_arguments();
            assert_eq!(arguments[0], PART_WORD);
            let read = PartOptions::parse(arguments[1..].iter().map(OsString::from)).unwrap();
            assert_eq!(read, options);
        }
    }

    #[test]
    fn other_words_are_refused() {
        assert!(matches!(parse(&[]), Err(PartError::Arguments(_))));
        assert!(matches!(parse(&["udp-echo"]), Err(PartError::Arguments(_))));
        assert!(matches!(parse(&["udp-echo", "--core", "x"]), Err(PartError::Arguments(_))));
        assert!(matches!(parse(&["udp-echo", "--odd", "1"]), Err(PartError::Arguments(_))));
        let large = ["udp-echo", "--trips", "1", "--depth", "1", "--size", "9999999"];
        assert!(matches!(parse(&large), Err(PartError::Load(LoadError::Size(_)))));
    }
}
