//! Each system call of the storage failing at each of its calls, on B of a running pair, or on
//! the witness.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::disk::load::Load;
use crate::disk::medium;
use crate::disk::outcome::{Did, ended};
use crate::disk::site::TestSite;
use crate::disk::tracer::{Fault, Tracer, WRITE, injected, thread};
use crate::pair::{A, B, DEADLINE, Part, WITNESS};
use crate::process::wait_for;

/// Requests of a run during which a process starts, or epochs change; the bulk beside them fills a
/// segment of the journal and more.
const OPS: u64 = 300;

/// Those of a run in which each call of a thread fails once: every one more is a run more.
const FEW: u64 = 100;

/// Answers that are waited for after the fault, before the power goes.
const AFTER: u64 = 30;

/// Where the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// The thread of B that writes the journal, in duplex.
    Journal,
    /// The thread of B that writes checkpoints, in duplex.
    Checkpoint,
    /// B from its first moment on, started with the disk of its predecessor.
    Restart,
    /// B from its first moment on, started with an empty disk.
    Wiped,
    /// The running witness, while epochs change.
    Witness,
    /// The witness from its first moment on.
    WitnessStart,
}

impl Scene {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Journal,
        Self::Checkpoint,
        Self::Restart,
        Self::Wiped,
        Self::Witness,
        Self::WitnessStart,
    ];
}

/// A fault that was injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// What the process did about it.
    pub did: Did,
    /// The call that failed, as strace shows it.
    pub call: String,
}

/// A pair to which it is done again and again.
#[derive(Debug)]
pub struct Matrix {
    /// The pair, and what its disks are on.
    pub site: TestSite,
    round: u64,
}

impl Matrix {
    /// Starts a pair. Where the machine allows it, B and the witness have disks that can lose
    /// their power.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        let parts: &[Part] = if medium::missing().is_none() { &[B, WITNESS] } else { &[] };
        let mut site = TestSite::on_media(parts, 128);
        site.pair.form();
        Self { site, round: 0 }
    }

    /// Does it once. `None` if the run had not so many calls. Afterwards the pair is duplex.
    ///
    /// # Errors
    /// What was wrong.
    ///
    /// # Panics
    /// If the pair does not come back.
    pub fn inject(&mut self, scene: Scene, fault: Fault) -> Result<Option<Struck>, String> {
        self.round += 1;
        let before = [B, WITNESS].map(|part| self.log(part).len());
        let done = match scene {
            Scene::Journal => self.on_thread("lockstep-journal", fault, before[0]),
            Scene::Checkpoint => self.on_thread("lockstep-checkpoint", fault, before[0]),
            Scene::Restart => self.strike_from_start(false, fault, before[0]),
            Scene::Wiped => self.strike_from_start(true, fault, before[0]),
            Scene::Witness => self.on_witness(false, fault, before[1]),
            Scene::WitnessStart => self.on_witness(true, fault, before[1]),
        };
        self.mend();
        done.map_err(|why| format!("{scene:?} {fault:?}: {why}"))
    }

    fn log(&self, part: Part) -> String {
        let log = self.site.pair.directory().join(format!("{}.log", part.name()));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    fn said(&self, part: Part, from: usize) -> String {
        self.log(part).get(from..).unwrap_or_default().to_owned()
    }

    /// The files to which a fault is narrowed; none if it is not.
    fn files(&self, part: Part, fault: Fault) -> Vec<PathBuf> {
        if fault.call != WRITE {
            return Vec::new();
        }
        let pair = &self.site.pair;
        let record = format!("{}.new", pair.id());
        // As the program names them, and where they are.
        let folders = names(&pair.data(part));
        let files =
            folders.map(|data| [data.join("process.lock"), data.join("records").join(&record)]);
        files.concat()
    }

    fn load(&self, ops: u64) -> Load {
        Load::start_with_bulk(&self.site.pair, ops, &format!("{}-", self.round))
    }

    fn runs(&mut self, part: Part) -> bool {
        self.site.pair.process(part).ended().is_none()
    }

    /// Waits for duplex, and starts what has ended, or ends meanwhile.
    fn mend(&mut self) {
        let _ = wait_for(DEADLINE, || {
            for part in [WITNESS, A, B] {
                if !self.runs(part) {
                    self.site.pair.run(part);
                }
            }
            self.site.is_duplex().then_some(()).ok_or(())
        });
        self.site.duplex();
    }

    fn on_thread(
        &mut self,
        name: &str,
        fault: Fault,
        from: usize,
    ) -> Result<Option<Struck>, String> {
        let pid = self.site.pair.process(B).pid();
        let thread = thread(pid, name).ok_or("B has no such thread")?;
        let files = self.files(B, fault);
        let directory = self.site.pair.directory();
        let tracer = Tracer::attach(pid, Some(thread), fault, directory, &files);
        let load = self.load(FEW);
        let struck = || (tracer.injected().is_some() || load.is_finished()).then_some(()).ok_or(());
        wait_for(DEADLINE, struck).map_err(|()| "the load stands still")?;
        self.some_more(&load)?;
        let call = tracer.injected();
        drop(tracer);
        let Some(call) = call else {
            load.finish(DEADLINE * 2)?;
            return Ok(None);
        };
        if self.leaves(B) {
            let judged = self.judge(B, Did::WentOn, &call, from);
            if !self.runs(B) {
                // On a busy machine it may have been the only member.
                self.site.pair.run(B);
            }
            load.finish(DEADLINE * 2)?;
            return judged.map(Some);
        }
        let did = self.alone_after_a_cut(from);
        load.finish(DEADLINE * 2)?;
        self.judge(B, did?, &call, from).map(Some)
    }

    /// Lets some requests be answered after the fault, unless B ends over it.
    fn some_more(&mut self, load: &Load) -> Result<(), String> {
        let enough = load.answered() + AFTER;
        let there =
            |matrix: &mut Self| load.answered() >= enough || load.is_finished() || !matrix.runs(B);
        wait_for(DEADLINE, || there(self).then_some(()).ok_or(()))
            .map_err(|()| "the load stands still after the fault".into())
    }

    /// Whether a CoServer has ended, or was out and has come back. One on its way there is waited
    /// for: it may not answer any more, or not yet.
    fn leaves(&mut self, part: Part) -> bool {
        let mut was_out = false;
        let _ = wait_for(DEADLINE, || {
            let mode = self.site.pair.status(part).map(|status| status["mode"].clone());
            was_out |= matches!(&mode, Ok(mode) if mode == "out");
            let member = matches!(&mode, Ok(mode) if mode != "out");
            (member || !self.runs(part)).then_some(()).ok_or(())
        });
        was_out || !self.runs(part)
    }

    /// The power of both machines goes, and only B's comes back. If it was a member it has to go on
    /// alone, and have everything that was acknowledged, or the load finds out.
    ///
    /// # Errors
    /// If it does not go on although the witness has it as a member.
    fn alone_after_a_cut(&mut self, from: usize) -> Result<Did, String> {
        if !self.site.has_medium(B) {
            return Ok(Did::WentOn);
        }
        let before = self.site.pair.status(B).unwrap_or_default();
        for part in [A, B] {
            if self.runs(part) {
                self.site.pair.process(part).signal(Signal::KILL);
            }
        }
        for part in [A, B] {
            self.site.pair.process(part).wait(DEADLINE);
        }
        // Nobody asks any more, so that this is who may go on.
        let record = self.witness_record()?;
        let member = before["mode"] == "duplex" && record["b"] == before["incarnation"];
        self.site.medium(B).cut();
        self.site.medium(B).start();
        self.site.pair.run(B);
        let alone = member && self.comes(DEADLINE, |site| is(site, B, "simplex"));
        self.site.pair.run(A);
        match (member, alone) {
            (_, true) => Ok(Did::ServedAlone),
            (false, false) => Ok(Did::WentOn),
            (true, false) => {
                let said = self.said(B, from);
                Err(format!("B was a member, and does not go on alone: {record}; it said: {said}"))
            }
        }
    }

    fn witness_record(&self) -> Result<Value, String> {
        let status = self.site.pair.status(WITNESS).map_err(|error| error.to_string())?;
        Ok(status["pairs"][0]["record"].clone())
    }

    /// The power of the witness's machine goes and comes back: it has to have what it told.
    fn witness_after_a_cut(&mut self) -> Result<(), String> {
        if !self.site.has_medium(WITNESS) {
            return Ok(());
        }
        let told = self.witness_record()?;
        self.site.pair.kill(WITNESS);
        self.site.medium(WITNESS).cut();
        self.site.medium(WITNESS).start();
        self.site.pair.run(WITNESS);
        let up = || self.witness_record();
        let has = wait_for(DEADLINE, up)?;
        if has == told { Ok(()) } else { Err(format!("the witness had told {told} and has {has}")) }
    }

    fn strike_from_start(
        &mut self,
        wiped: bool,
        fault: Fault,
        from: usize,
    ) -> Result<Option<Struck>, String> {
        self.site.pair.kill(B);
        if wiped {
            std::fs::remove_dir_all(self.site.store(B)).map_err(|error| error.to_string())?;
        }
        let load = self.load(OPS);
        load.reach(AFTER, &self.site.pair);
        let said = self.strace_file();
        let files = self.files(B, fault);
        self.site.pair.run_under(B, &fault.wrapper(&said, &files));
        self.settle(B);
        let early = injected(&said).is_some();
        let did = match early && self.runs(B) {
            true => self.alone_after_a_cut(from),
            false => Ok(Did::WentOn),
        };
        load.finish(DEADLINE * 2)?;
        let (did, call) = (did?, injected(&said));
        if call.is_some() && !early {
            self.leaves(B);
        }
        call.map(|call| self.judge(B, did, &call, from)).transpose()
    }

    fn strace_file(&self) -> PathBuf {
        let said = self.site.pair.directory().join("strace.out");
        let _ = std::fs::remove_file(&said);
        said
    }

    /// Waits until a CoServer is a member of a pair, or has ended.
    fn settle(&mut self, part: Part) {
        let pair = &mut self.site.pair;
        let settled = || {
            let ended = pair.process(part).ended().is_some();
            let member = || matches!(pair.status(part), Ok(status) if status["mode"] == "duplex");
            (ended || member()).then_some(()).ok_or(())
        };
        let settled = wait_for(DEADLINE, settled);
        settled.unwrap_or_else(|()| panic!("it neither joins nor ends{}", self.site.pair.logs()));
    }

    fn on_witness(
        &mut self,
        strike_from_start: bool,
        fault: Fault,
        from: usize,
    ) -> Result<Option<Struck>, String> {
        let mut said = self.strace_file();
        let files = self.files(WITNESS, fault);
        let tracer = if strike_from_start {
            self.site.pair.kill(WITNESS);
            self.site.pair.run_under(WITNESS, &fault.wrapper(&said, &files));
            None
        } else {
            let pid = self.site.pair.process(WITNESS).pid();
            let directory = self.site.pair.directory();
            let tracer = Tracer::attach(pid, None, fault, directory, &files);
            said = tracer.said().to_owned();
            Some(tracer)
        };
        let load = self.load(OPS);
        load.reach(AFTER, &self.site.pair);
        self.site.pair.kill(B);
        let changed = self.changes(|site| is(site, A, "simplex"));
        self.site.pair.run(B);
        let changed =
            changed && self.changes(|site| is(site, A, "duplex") && is(site, B, "duplex"));
        let call = injected(&said);
        drop(tracer);
        let refuses = call.is_some() && !changed && self.runs(WITNESS);
        let did = if refuses { Did::Refused } else { Did::WentOn };
        if !changed {
            let words = self.said(WITNESS, from);
            if refuses && !words.contains("storage_failed") && !words.contains("unreadable") {
                return Err(format!("the witness grants nothing and does not say why: {words}"));
            }
            let judged = call.as_ref().map(|call| self.judge(WITNESS, did, call, from));
            if self.runs(WITNESS) {
                self.site.pair.kill(WITNESS);
            }
            self.site.pair.run(WITNESS);
            load.finish(DEADLINE * 2)?;
            return judged.transpose();
        }
        load.finish(DEADLINE * 2)?;
        let struck = call.map(|call| self.judge(WITNESS, did, &call, from)).transpose()?;
        if struck.is_some() && self.runs(WITNESS) {
            self.witness_after_a_cut()?;
        }
        Ok(struck)
    }

    /// Waits for a change of epoch, unless the witness ends or refuses the pair for good.
    fn changes(&mut self, holds: impl Fn(&TestSite) -> bool) -> bool {
        let mut changed = false;
        let _ = wait_for(DEADLINE, || {
            changed = holds(&self.site);
            let refuses = matches!(self.witness_record(), Ok(record) if record.is_null());
            (changed || refuses || !self.runs(WITNESS)).then_some(()).ok_or(())
        });
        changed
    }

    fn comes(&self, within: Duration, holds: impl Fn(&TestSite) -> bool) -> bool {
        wait_for(within, || holds(&self.site).then_some(()).ok_or(())).is_ok()
    }

    fn judge(&mut self, part: Part, did: Did, call: &str, from: usize) -> Result<Struck, String> {
        if !self.runs(A) {
            return Err(format!("the other CoServer ended over {call}"));
        }
        let Some(status) = self.site.pair.process(part).ended() else {
            return Ok(Struck { did, call: call.into() });
        };
        // As the program names it, and where it is.
        let names = names(&self.site.pair.data(part));
        let is_own = names.iter().any(|name| mentions(call, name));
        let did = ended(status, call, &self.said(part, from), is_own)?;
        Ok(Struck { did, call: call.into() })
    }
}

/// A directory's own name, and where it is.
fn names(directory: &Path) -> [PathBuf; 2] {
    [directory.to_owned(), directory.canonicalize().unwrap_or_else(|_| directory.to_owned())]
}

/// Whether a call is about this directory, or something in it; what only begins with its name is
/// something else.
fn mentions(call: &str, directory: &Path) -> bool {
    let name = directory.to_str().expect("UTF-8");
    let ends = |rest: &str| rest.starts_with(['/', '"', '>']);
    call.match_indices(name).any(|(at, _)| ends(&call[at + name.len()..]))
}

fn is(site: &TestSite, part: Part, mode: &str) -> bool {
    matches!(site.pair.status(part), Ok(status) if status["mode"] == mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_about_a_directory_only_where_its_whole_name_stands() {
        let directory = Path::new("/tmp/x/b");
        for call in [r#"openat(3, "/tmp/x/b", O_RDONLY)"#, "fsync(4</tmp/x/b/store/home>)"] {
            assert!(mentions(call, directory), "{call}");
        }
        assert!(mentions("fsync(4</tmp/x/b>)", directory));
        assert!(!mentions(r#"openat(3, "/tmp/x/b.toml", O_RDONLY)"#, directory));
    }
}
