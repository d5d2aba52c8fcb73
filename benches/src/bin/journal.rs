//! `journal`: what a commit of the journal costs on this disk, against appending to a growing file.
//!
//! ```sh
//! cargo run --release -p lockstep-benches --bin journal -- DIRECTORY [COMMITS]
//! ```
//!
//! Four ways take turns, commit by commit, so that whatever else the disk does befalls all.
//! `journal` uses zero-filled segments, turned over so that most are used for the second time or
//! more. `overwrite` writes one block of a zero-filled file, then `fdatasync`: what the disk costs.
//! `append` writes the same block at the end of a growing file, then `fdatasync`. `append-small`
//! does the same with no more bytes than the entry has, so that a block is filled by many commits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use lockstep::clap::{self, Parser};
use lockstep::entry::{Entry, InputKind, Origin};
use lockstep::ids::{
    DeviceId, Epoch, Incarnation, Index, LogTime, OriginNumber, PairId, ReplicaId,
};
use lockstep::store::journal::{BLOCK_BYTES, Identity, Journal, Mark, Options};
use lockstep::store::os::OsDirectory;
use lockstep_benches::cli::unread;

const WAYS: [&str; 4] = ["journal", "overwrite", "append", "append-small"];

const PAYLOAD_BYTES: usize = 64;
/// Short, so that segments turn over many times in a run.
const SEGMENT_BYTES: u32 = 2 << 20;
const COMMITS: u64 = 4_000;
/// Commits before any is counted: until segments are used again.
const WARM_UP: u64 = 1_500;

/// Longer times count as this long.
const LONGEST_NANOS: u64 = 60_000_000_000;

type AnyError = Box<dyn std::error::Error>;

/// What a commit of the journal costs on a disk, against appending to a growing file
#[derive(Debug, Parser)]
#[command(
    name = "journal",
    override_usage = "cargo run --release -p lockstep-benches --bin journal -- DIRECTORY [COMMITS]",
    after_help = "Exit codes: 0 measured, 1 it failed, 2 the command line is wrong."
)]
struct Arguments {
    /// Where files are made for the time of the run, on the disk to measure
    directory: PathBuf,
    /// How many commits of each way are counted
    #[arg(default_value_t = COMMITS)]
    commits: u64,
}

fn main() -> ExitCode {
    let Arguments { directory, commits } = match Arguments::try_parse() {
        Ok(options) => options,
        Err(answer) => return unread(&answer),
    };
    match measure(&directory, commits) {
        Ok(report) => {
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "journal: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(directory: &Path, commits: u64) -> Result<String, AnyError> {
    let place = tempfile::Builder::new().prefix("lockstep-journal-").tempdir_in(directory)?;
    let mut ways = Ways::new(place.path())?;
    let mut times = [(); WAYS.len()].map(|()| empty());
    for number in 0..WARM_UP + commits {
        // Each goes first as often as the others.
        for turn in 0..WAYS.len() as u64 {
            let way = (number + turn) % WAYS.len() as u64;
            let took = ways.commit(way, number)?;
            if number >= WARM_UP {
                times[way as usize].saturating_record(took.as_nanos() as u64);
            }
        }
        ways.tidy(number)?;
    }
    Ok(report(&times, commits))
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("bounds within what a histogram can do")
}

struct Ways {
    journal: Journal,
    overwritten: File,
    appended: [File; 2],
    block: Vec<u8>,
    small: Vec<u8>,
}

impl Ways {
    fn new(place: &Path) -> Result<Self, AnyError> {
        let inside = place.join("journal");
        fs::create_dir(&inside)?;
        let identity = Identity { pair: PairId([1; 16]), place: ReplicaId::A };
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::new(1) };
        let directory = Box::new(OsDirectory::open(inside)?);
        let (mut journal, _) = Journal::open(directory, identity, options)?;
        while !journal.prepare()? {}
        let make = |name: &str| {
            OpenOptions::new().create_new(true).read(true).write(true).open(place.join(name))
        };
        let overwritten = make("overwritten")?;
        let appended = [make("appended")?, make("appended-small")?];
        overwritten.write_all_at(&vec![0; SEGMENT_BYTES as usize], 0)?;
        overwritten.sync_all()?;
        let (block, small) = (vec![7; BLOCK_BYTES as usize], vec![7; 2 * PAYLOAD_BYTES]);
        Ok(Self { journal, overwritten, appended, block, small })
    }

    #[expect(clippy::disallowed_methods, reason = "measuring time is what this is for")]
    fn commit(&mut self, way: u64, number: u64) -> Result<Duration, AnyError> {
        let began = Instant::now();
        match way {
            0 => {
                self.journal.append(&entry(number + 1))?;
                self.journal.commit(Mark::default())?;
            }
            1 => {
                let blocks = u64::from(SEGMENT_BYTES / BLOCK_BYTES);
                let offset = number % blocks * u64::from(BLOCK_BYTES);
                self.overwritten.write_all_at(&self.block, offset)?;
                self.overwritten.sync_data()?;
            }
            _ => {
                let bytes = if way == 2 { &self.block } else { &self.small };
                let file = &self.appended[way as usize - 2];
                file.write_all_at(bytes, number * bytes.len() as u64)?;
                file.sync_data()?;
            }
        }
        Ok(began.elapsed())
    }

    /// What a CoServer does between commits, and is not counted.
    fn tidy(&mut self, number: u64) -> Result<(), AnyError> {
        if number.is_multiple_of(64) {
            self.journal.release_before(Index(number.saturating_sub(64)))?;
            while !self.journal.prepare()? {}
        }
        Ok(())
    }
}

fn entry(index: u64) -> Entry {
    Entry {
        index: Index(index),
        epoch: Epoch(1),
        time: LogTime(index),
        origin: Origin {
            place: ReplicaId::A,
            incarnation: Incarnation(1),
            number: OriginNumber(index),
        },
        kind: InputKind::Device {
            device: DeviceId(0),
            bytes: Bytes::from_static(&[7; PAYLOAD_BYTES]),
        }
        .into(),
    }
}

fn report(times: &[Histogram<u64>], commits: u64) -> String {
    let mut text = format!(
        "{commits} commits of one entry of {PAYLOAD_BYTES} bytes each, in turns; microseconds, and \
         as a multiple of the journal's\n\n{:<12} {:>8} {:>6} {:>8} {:>6} {:>8}\n",
        "", "p50", "", "p99", "", "max"
    );
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let at = |way: &Histogram<u64>, quantile| micros(way.value_at_quantile(quantile));
    let reference = (at(&times[0], 0.5), at(&times[0], 0.99));
    for (name, way) in WAYS.into_iter().zip(times) {
        let (half, most) = (at(way, 0.5), at(way, 0.99));
        text += &format!(
            "{name:<12} {half:>8.0} {:>6.2} {most:>8.0} {:>6.2} {:>8.0}\n",
            half / reference.0,
            most / reference.1,
            micros(way.max()),
        );
    }
    text
}
