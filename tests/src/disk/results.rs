//! What came of a campaign of failing system calls. It is a file that grows with every fault, so
//! that a campaign that was broken off goes on where it was, and a table of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

/// What is said of the fault for which a run had too few calls: the one before was the last.
pub const NO_MORE: &str = "no more calls";

/// What a fault is said to have come to that was answered wrongly begins so.
const WRONG: &str = "wrong";

/// One call failing with one error in one scene.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Where it strikes.
    pub scene: String,
    /// The system call.
    pub call: String,
    /// What it fails with.
    pub error: String,
}

/// One fault, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Result {
    /// What it was.
    pub row: Row,
    /// The how manieth call failed, from 1.
    pub when: u32,
    /// What the process did, in few words; [`NO_MORE`], or what was wrong.
    pub did: String,
    /// The call as strace shows it, or why it was wrong.
    pub detail: String,
}

/// The results of a campaign.
#[derive(Debug, Default)]
pub struct Results {
    all: BTreeMap<Row, BTreeMap<u32, String>>,
    file: Option<File>,
}

impl Result {
    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let word = |name: &str| Some(value[name].as_str()?.to_owned());
        let row = Row { scene: word("scene")?, call: word("call")?, error: word("error")? };
        let when = value["when"].as_u64()?.try_into().ok()?;
        Some(Self { row, when, did: word("did")?, detail: word("detail")? })
    }

    fn line(&self) -> String {
        let Row { scene, call, error } = &self.row;
        let (when, did, detail) = (self.when, &self.did, &self.detail);
        json!({ "scene": scene, "call": call, "error": error, "when": when, "did": did, "detail": detail })
            .to_string()
    }
}

impl Results {
    /// Those in a file, which is made if it is not there, and to which later ones are added. A
    /// last line that is not whole does not count.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn kept_in(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut results = Self::default();
        text.lines().filter_map(Result::parse).for_each(|result| results.count(&result));
        let mut file = File::options().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        results.file = Some(file);
        Ok(results)
    }

    fn count(&mut self, result: &Result) {
        self.all.entry(result.row.clone()).or_default().insert(result.when, result.did.clone());
    }

    /// Adds one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, result: &Result) -> io::Result<()> {
        self.count(result);
        match &mut self.file {
            Some(file) => writeln!(file, "{}", result.line()),
            None => Ok(()),
        }
    }

    /// What is known of a fault. What was wrong is tried again.
    pub fn of(&self, row: &Row, when: u32) -> Option<&str> {
        let did = self.all.get(row)?.get(&when)?;
        (!did.starts_with(WRONG)).then_some(did)
    }

    /// Faults that were injected.
    pub fn injected(&self) -> usize {
        self.outcomes().filter(|did| *did != NO_MORE).count()
    }

    /// Those that were answered wrongly.
    pub fn wrong(&self) -> usize {
        self.outcomes().filter(|did| did.starts_with(WRONG)).count()
    }

    fn outcomes(&self) -> impl Iterator<Item = &str> {
        self.all.values().flat_map(|row| row.values().map(String::as_str))
    }

    /// Everything that was done, and how often, for each row.
    fn summary(&self) -> impl Iterator<Item = (&Row, BTreeMap<&str, u64>, bool)> {
        self.all.iter().map(|(row, all)| {
            let mut counts = BTreeMap::new();
            let injected = all.values().filter(|did| *did != NO_MORE);
            injected.for_each(|did| *counts.entry(did.as_str()).or_default() += 1);
            (row, counts, all.values().any(|did| did == NO_MORE))
        })
    }

    /// The summary for programs. `whole` says of a row that it went to the last call of a run.
    pub fn to_json(&self) -> Value {
        let rows = self.summary().map(|(Row { scene, call, error }, counts, whole)| {
            json!({ "scene": scene, "call": call, "error": error, "whole": whole, "did": counts })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "injected": self.injected(), "wrong": self.wrong(), "rows": rows })
    }
}

/// The summary as a table.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Row { scene, call, error }, counts, whole) in self.summary() {
            let calls: u64 = counts.values().sum();
            let all = if whole { "" } else { "+" };
            write!(f, "{scene:<13} {call:<27} {error:<7} {:>5}", format!("{calls}{all}"))?;
            counts.iter().try_for_each(|(did, count)| write!(f, "  {did}: {count}"))?;
            writeln!(f)?;
        }
        write!(f, "{} faults, {} wrong", self.injected(), self.wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(when: u32, did: &str) -> Result {
        let row = Row { scene: "Journal".into(), call: "fdatasync".into(), error: "EIO".into() };
        Result { row, when, did: did.into(), detail: "fdatasync(3)".into() }
    }

    #[test]
    fn a_campaign_that_was_broken_off_knows_what_was_done() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("results");
        let mut results = Results::kept_in(&file).unwrap();
        let done = [result(1, "ended 74"), result(2, "went on"), result(3, "wrong: lost")];
        done.iter().for_each(|result| results.add(result).unwrap());
        // As it is when the process dies in the middle of a line.
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(r#"{"scene":"Jour"#);
        std::fs::write(&file, text).unwrap();

        let mut results = Results::kept_in(&file).unwrap();
        let row = &done[0].row;
        assert_eq!(results.of(row, 1), Some("ended 74"));
        assert_eq!((results.of(row, 3), results.of(row, 4)), (None, None), "tried again");
        assert_eq!((results.injected(), results.wrong()), (3, 1));
        results.add(&result(3, "went on")).unwrap();
        results.add(&result(4, NO_MORE)).unwrap();
        let results = Results::kept_in(&file).unwrap();
        assert_eq!((results.injected(), results.wrong()), (3, 0));
        let rows = &results.to_json()["rows"];
        assert_eq!(rows[0]["did"], json!({ "ended 74": 1, "went on": 2 }));
        assert_eq!(rows[0]["whole"], true);
        assert!(results.to_string().contains("3  ended 74: 1  went on: 2"), "{results}");
    }
}
