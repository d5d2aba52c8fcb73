//! A bucket of a server that speaks S3 as the witness of a pair of real processes. Needs the
//! feature `s3`, and moto; skipped with a reason without that.

use std::process::Command;

use lockstep_tests::caller::Caller;
use lockstep_tests::emulator::Emulator;
use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS, other};
use lockstep_tests::process::wait_for;
use lockstep_tests::s3::{BUCKET, Mode, Store};

const REGISTERS: &str = env!("CARGO_BIN_EXE_registers");

/// Answers that are lost before one comes again.
const LOST: u64 = 4;

/// A pair and the store that is its witness.
struct TestSite {
    // The processes end before the server does.
    pair: Pair,
    store: Store,
}

impl TestSite {
    /// With the pair's configuration; `None` if there is no such server here.
    fn init() -> Option<Self> {
        let pair = Pair::init(REGISTERS, SILENCE);
        let store = Store::start(pair.directory())?;
        let address = pair.addresses(WITNESS, "listen")[0];
        let url = format!("s3://{BUCKET}/pairs");
        for part in [A, B] {
            let text = std::fs::read_to_string(pair.config(part)).unwrap();
            let key = text.lines().rfind(|line| line.starts_with("witness = \"ed25519:")).unwrap();
            pair.change(part, &format!("{key}\n"), "");
            pair.change(part, &format!("witness = \"{address}\"\n"), "");
            let table = format!("[witness]\nkind = \"object\"\nurl = \"{url}\"\n\n[peers]");
            pair.change(part, "[peers]", &table);
        }
        Some(Self { pair, store })
    }

    fn start() -> Option<Self> {
        let mut site = Self::init()?;
        site.form();
        Some(site)
    }

    fn form(&mut self) {
        assert_eq!(self.enrol(A), Some(0));
        for part in [A, B] {
            self.run(part);
        }
        self.pair.wait_for_duplex();
    }

    fn run(&mut self, part: Part) {
        let words = [vec!["env".into()], self.store.environment()].concat();
        self.pair.run_under(part, &words);
    }

    fn command(&self, part: Part, words: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args(self.store.environment()).arg(REGISTERS).args(words);
        command.arg("--config").arg(self.pair.config(part));
        command
    }

    fn enrol(&self, part: Part) -> Option<i32> {
        self.command(part, &["enrol"]).status().unwrap().code()
    }

    /// How many objects the pair has.
    fn objects(&self) -> u64 {
        let at = |number| format!("/{BUCKET}/pairs/{}/epoch-{number}", self.pair.id());
        let there = |number: &u64| self.store.request("GET", &at(*number), "").unwrap() == 200;
        (0..).take_while(there).count() as u64
    }
}

/// What all of it rests on.
#[test]
fn the_server_creates_an_object_only_if_it_is_absent() {
    let directory = tempfile::tempdir().unwrap();
    let Some(store) = Store::start(directory.path()) else { return };
    let create =
        || store.request("PUT", &format!("/{BUCKET}/one"), "If-None-Match: *\r\n").unwrap();
    assert_eq!((create(), create()), (200, 412));
}

#[test]
fn a_pair_lives_by_the_word_of_its_bucket() {
    let Some(mut site) = TestSite::start() else { return };
    assert_eq!(site.enrol(B), Some(78), "it is enrolled already");
    let caller = Caller::start(&site.pair, "n");
    for part in [A, B] {
        let before = site.objects();
        site.pair.kill(part);
        site.pair.wait_for_mode(other(part), "simplex");
        assert_eq!(site.objects(), before + 1);
        caller.goes_on(&site.pair);
        site.run(part);
        site.pair.wait_for_duplex();
        caller.goes_on(&site.pair);
    }
    caller.finish();
}

#[test]
fn of_two_that_enrol_a_pair_at_once_one_does() {
    let Some(site) = TestSite::init() else { return };
    for round in 0..8 {
        for part in [A, B] {
            let text = std::fs::read_to_string(site.pair.config(part)).unwrap();
            let url = text.lines().find(|line| line.starts_with("url = ")).unwrap();
            site.pair.change(part, url, &format!("url = \"s3://{BUCKET}/race-{round}\""));
        }
        let enrols = [A, B].map(|part| site.command(part, &["enrol"]).spawn().unwrap());
        let mut codes = enrols.map(|mut process| process.wait().unwrap().code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(78)], "round {round}");
    }
}

#[test]
fn of_two_coservers_that_ask_at_once_one_goes_on() {
    let Some(mut site) = TestSite::init() else { return };
    let links = site.pair.emulate_links();
    site.form();
    let caller = Caller::start(&site.pair, "n");
    for _ in 0..2 {
        let before = site.objects();
        links.iter().for_each(Emulator::cut);
        let mode = |part| site.pair.status(part).ok().map(|status| status["mode"].clone());
        let settled = || {
            let modes = [A, B].map(mode);
            let alone = modes.iter().filter(|mode| **mode == Some("simplex".into())).count();
            let starting = modes.contains(&Some("starting".into()));
            (alone == 1 && starting).then_some(()).ok_or(modes)
        };
        wait_for(DEADLINE, settled).unwrap_or_else(|modes| panic!("{modes:?}{}", site.pair.logs()));
        assert_eq!(site.objects(), before + 1);
        caller.goes_on(&site.pair);
        links.iter().for_each(Emulator::mend);
        site.pair.wait_for_duplex();
        caller.goes_on(&site.pair);
    }
    caller.finish();
}

#[test]
fn a_request_whose_answer_is_lost_is_settled_by_reading_back() {
    let Some(mut site) = TestSite::start() else { return };
    let caller = Caller::start(&site.pair, "n");
    let before = site.objects();
    site.store.set(Mode::LosesAnswers);
    site.pair.kill(B);
    // More than the client tries by itself, so that the CoServer is not told either.
    let lost = || if site.store.lost() >= LOST { Ok(()) } else { Err(site.store.lost()) };
    wait_for(DEADLINE, lost).unwrap_or_else(|lost| panic!("{lost} lost{}", site.pair.logs()));
    assert_ne!(site.pair.status(A).unwrap()["mode"], "simplex");
    assert_eq!(site.objects(), before + 1, "it is there all the same");
    site.store.set(Mode::Carries);
    site.pair.wait_for_mode(A, "simplex");
    assert_eq!(site.objects(), before + 1, "and was not made twice");
    caller.goes_on(&site.pair);
    // The return is recorded over the same way.
    site.run(B);
    site.pair.wait_for_duplex();
    caller.goes_on(&site.pair);
    caller.finish();
}

/// The server is away, in one way or another, when a CoServer is lost, and comes back.
fn holds_without_the_server(away: impl Fn(&Store), back: impl Fn(&Store)) {
    let Some(mut site) = TestSite::start() else { return };
    let caller = Caller::start(&site.pair, "n");
    away(&site.store);
    for part in [A, B] {
        site.pair.wait_until(part, "without a witness", |status| status["witness"] == false);
    }
    caller.goes_on(&site.pair);
    site.pair.kill(B);
    let status = site.pair.wait_for_mode(A, "holding");
    let answered = caller.answered();
    let later = site.pair.status(A).unwrap();
    assert_eq!(later["released"], status["released"], "it released an output");
    back(&site.store);
    site.pair.wait_for_mode(A, "simplex");
    caller.goes_on(&site.pair);
    site.run(B);
    site.pair.wait_for_duplex();
    caller.goes_on(&site.pair);
    assert!(caller.finish().answered > answered);
}

#[test]
fn one_that_lost_its_peer_holds_while_the_server_is_gone() {
    holds_without_the_server(|store| store.set(Mode::Refuses), |store| store.set(Mode::Carries));
}

#[test]
fn one_that_lost_its_peer_holds_while_the_server_hangs() {
    holds_without_the_server(Store::pause, Store::resume);
}
