//! Every system call of the storage failing at every one of its calls, under a pair of real
//! processes: `disk_faults [SCENE] [CALL] [ERROR] [MOST]`, each `all` if left out. `MOST` bounds
//! the how manieth call it goes up to.
//!
//! `--from N` begins at the N-th call. `--results FILE` keeps what came of each fault in a file,
//! and does not repeat what is there already. So a campaign that was broken off goes on, and
//! several may share the work by scenes. At the end a table is printed; with `--json` one line
//! of JSON.
//!
//! Needs root and strace, and ext4 on a loop device for the power cuts; says so where they
//! are missing.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command's output")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use lockstep_tests::disk::matrix::{Matrix, Scene};
use lockstep_tests::disk::medium;
use lockstep_tests::disk::results::{NO_MORE, Result as Done, Results, Row};
use lockstep_tests::disk::tracer::{CALLS, ERRORS, Fault, missing};

const USAGE: &str = "\
disk_faults [SCENE] [CALL] [ERROR] [MOST] [--from N] [--results FILE] [--json]";

/// So many wrong answers one after the other: the rest would only repeat them.
const TOO_MANY: u32 = 5;

/// What is asked for on the command line.
#[derive(Debug, Default)]
struct Plan {
    words: Vec<String>,
    from: u32,
    results: Option<String>,
    json: bool,
}

impl Plan {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self { from: 1, ..Self::default() };
        while let Some(word) = words.next() {
            if word == "--help" {
                return Err(USAGE.to_owned());
            }
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--from" => plan.from = number(&value()?)?,
                "--results" => plan.results = Some(value()?),
                "--json" => plan.json = true,
                _ if word.starts_with('-') => return Err(format!("{word} is unknown; {USAGE}")),
                _ => plan.words.push(word),
            }
        }
        plan.check()?;
        Ok(plan)
    }

    fn chosen(&self, place: usize, name: &str) -> bool {
        match self.words.get(place).map(|word| word.to_lowercase()) {
            None => true,
            Some(word) if word == "all" => true,
            Some(word) => name.to_lowercase().split([',', '=']).any(|part| part == word),
        }
    }

    /// # Errors
    /// If a word names nothing that there is: nothing would be injected, and all be well.
    fn check(&self) -> Result<(), String> {
        let any = |place, mut names: Box<dyn Iterator<Item = String>>| {
            names.any(|name| self.chosen(place, &name))
        };
        let scenes = Box::new(Scene::ALL.into_iter().map(|scene| format!("{scene:?}")));
        let calls = Box::new(CALLS.into_iter().map(str::to_owned));
        let errors = Box::new(ERRORS.into_iter().map(str::to_owned));
        if any(0, scenes) && any(1, calls) && any(2, errors) {
            return self.most().map(|_| ());
        }
        Err(format!(
            "nothing is called so; scenes: {:?}, calls: {CALLS:?}, errors: {ERRORS:?}",
            Scene::ALL
        ))
    }

    fn most(&self) -> Result<u32, String> {
        self.words.get(3).map_or(Ok(u32::MAX), |word| number(word))
    }

    fn scenes(&self) -> impl Iterator<Item = Scene> {
        Scene::ALL.into_iter().filter(|scene| self.chosen(0, &format!("{scene:?}")))
    }
}

fn number(word: &str) -> Result<u32, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn main() -> ExitCode {
    match Plan::read(std::env::args().skip(1)).and_then(|plan| run(&plan)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Does it all; how many were wrong.
fn run(plan: &Plan) -> Result<usize, String> {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return Ok(0);
    }
    if let Some(why) = medium::missing() {
        println!("without power cuts: {why}");
    }
    let kept = |file: &String| Results::kept_in(Path::new(file)).map_err(|why| why.to_string());
    let results = plan.results.as_ref().map_or(Ok(Results::default()), kept)?;
    let mut campaign = Campaign { matrix: None, results, from: plan.from, most: plan.most()? };
    for scene in plan.scenes() {
        for call in CALLS.into_iter().filter(|call| plan.chosen(1, call)) {
            for action in ERRORS.into_iter().filter(|action| plan.chosen(2, action)) {
                if campaign.row(scene, call, action)? == 0 && plan.from == 1 {
                    // No such call with this error, so none with another one.
                    break;
                }
            }
        }
    }
    let Campaign { results, .. } = campaign;
    if plan.json {
        println!("{}", results.to_json())
    } else {
        println!("{results}")
    }
    Ok(results.wrong())
}

/// A campaign on the way.
#[derive(Debug)]
struct Campaign {
    matrix: Option<Matrix>,
    results: Results,
    from: u32,
    most: u32,
}

impl Campaign {
    /// One call with one error at each of its calls, until there are no more of them; how many
    /// there were.
    fn row(
        &mut self,
        scene: Scene,
        call: &'static str,
        action: &'static str,
    ) -> Result<u32, String> {
        let error = action.trim_start_matches("error=").to_owned();
        let row = Row { scene: format!("{scene:?}"), call: call.to_owned(), error };
        let mut wrong_in_a_row = 0;
        for when in self.from..=self.most {
            let did = match self.results.of(&row, when) {
                Some(did) => did.to_owned(),
                None => self.one(&row, scene, Fault { call, action, when })?,
            };
            if did == NO_MORE {
                return Ok(when - 1);
            }
            wrong_in_a_row = if did.starts_with("wrong") { wrong_in_a_row + 1 } else { 0 };
            if wrong_in_a_row == TOO_MANY {
                println!("{TOO_MANY} wrong ones one after the other: on to the next");
                return Ok(when);
            }
        }
        Ok(self.most)
    }

    /// One fault, on a pair of its own if the one before it broke that.
    fn one(&mut self, row: &Row, scene: Scene, fault: Fault) -> Result<String, String> {
        let matrix = self.matrix.get_or_insert_with(Matrix::start);
        let done = catch_unwind(AssertUnwindSafe(|| {
            let done = matrix.inject(scene, fault);
            if let Err(why) = &done {
                println!("wrong: {why}{}", matrix.site.pair.logs());
            }
            done
        }));
        let (did, detail) = match done {
            Ok(Ok(Some(struck))) => (struck.did.to_string(), struck.call),
            Ok(Ok(None)) => (NO_MORE.to_owned(), String::new()),
            Ok(Err(why)) => ("wrong".to_owned(), why),
            Err(_) => {
                self.matrix = None;
                ("wrong: the pair did not come back".to_owned(), "see standard error".to_owned())
            }
        };
        println!("{} {} {} {}: {did}: {detail}", row.scene, row.call, row.error, fault.when);
        let result = Done { row: row.clone(), when: fault.when, did: did.clone(), detail };
        self.results.add(&result).map_err(|why| why.to_string())?;
        Ok(did)
    }
}
