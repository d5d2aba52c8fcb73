//! Power cuts: both CoServers, at any moment.

use rustix::process::Signal;

use crate::disk::Draw;
use crate::disk::load::Load;
use crate::disk::site::TestSite;
use crate::disk::tracer::{Fault, Tracer, thread};
use crate::pair::{A, B, DEADLINE, Part, WITNESS};
use crate::process::wait_for;

/// Requests of a round.
pub const OPS: u64 = 1500;

/// MiB of a medium.
pub const MIB: u64 = 64;

/// What goes first when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The processes, then the disks: no process sees an error.
    ProcessesFirst,
    /// The disks, under the running processes: every write and sync fails from then on.
    DisksFirst,
}

/// One cut of the power.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// What goes first.
    pub order: Order,
    /// After how many answers.
    pub after: u64,
    /// The witness's machine loses its power too.
    pub witness: bool,
    /// This machine never comes back.
    pub lost: Option<Part>,
    /// Who is started first again; the other follows once it is looking for its peer.
    pub first: Part,
}

impl Cut {
    /// One at a random moment.
    pub fn draw(draw: &mut Draw) -> Self {
        let parts = [A, B];
        let part = |draw: &mut Draw| parts[draw.below(2) as usize];
        Self {
            order: [Order::ProcessesFirst, Order::DisksFirst][draw.below(2) as usize],
            after: draw.below(OPS * 9 / 10),
            witness: draw.below(4) == 0,
            lost: (draw.below(4) == 0).then(|| part(draw)),
            first: part(draw),
        }
    }
}

/// Has the power go while clients have requests under way, and come back. Every request has to be
/// answered, everything acknowledged to be there, and the pair to be duplex again; of a lost
/// machine there is a new one afterwards.
///
/// # Errors
/// What went wrong with the history.
///
/// # Panics
/// If the pair does not come back.
pub fn round(site: &mut TestSite, cut: Cut, prefix: &str) -> Result<(), String> {
    let load = Load::start(&site.pair, OPS, prefix);
    load.reach(cut.after, &site.pair);
    // The lost one first: nobody has what it alone went on to acknowledge after the other.
    let mut machines = if cut.lost == Some(B) { vec![B, A] } else { vec![A, B] };
    if cut.witness && site.has_medium(WITNESS) {
        machines.push(WITNESS);
    }
    go(site, cut.order, &machines);
    back(site, cut, &machines);
    let done = load.finish(DEADLINE * 2);
    replace(site, cut.lost);
    done?;
    site.duplex();
    Ok(())
}

fn go(site: &mut TestSite, order: Order, machines: &[Part]) {
    if order == Order::DisksFirst {
        machines.iter().for_each(|part| site.medium(*part).cut());
    }
    // Both at once, as nearly as may be.
    for part in machines {
        if site.pair.process(*part).ended().is_none() {
            site.pair.process(*part).signal(Signal::KILL);
        }
    }
    for part in machines {
        site.pair.process(*part).wait(DEADLINE);
        if order == Order::ProcessesFirst {
            site.medium(*part).cut();
        }
    }
}

fn back(site: &mut TestSite, cut: Cut, machines: &[Part]) {
    for part in machines {
        if cut.lost != Some(*part) {
            site.medium(*part).start();
        }
    }
    if machines.contains(&WITNESS) {
        site.pair.run(WITNESS);
    }
    let second = if cut.first == A { B } else { A };
    for part in [cut.first, second] {
        if cut.lost != Some(part) {
            site.pair.run(part);
        }
    }
}

/// Requests of a round that counts syncs; few, since each sync is a round.
const SHORT: u64 = 60;

/// Where syncs are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Those of the journal's thread of a running pair.
    Journal,
    /// Those of the thread that writes checkpoints.
    Checkpoint,
    /// Those of any thread of a process from its first moment on, until it is a member again:
    /// what it finds on its disk, and its join.
    Start,
}

impl Syncs {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Journal, Self::Checkpoint, Self::Start];
}

/// As [`round`], with the power going when one of these CoServers begins its n-th sync of those
/// in a short run. `false` if it made fewer.
///
/// # Errors
/// What went wrong with the history.
///
/// # Panics
/// If the pair does not come back.
pub fn at_sync(
    site: &mut TestSite,
    syncs: Syncs,
    victims: &[Part],
    when: u32,
    lost: Option<Part>,
    prefix: &str,
) -> Result<bool, String> {
    let fault = Fault { call: "fsync,fdatasync", action: "signal=SIGKILL", when };
    let (tracers, load) = match syncs {
        Syncs::Journal => on_threads(site, "lockstep-journal", victims, fault, prefix),
        Syncs::Checkpoint => on_threads(site, "lockstep-checkpoint", victims, fault, prefix),
        Syncs::Start => from_start(site, victims, fault, prefix),
    };
    let struck = || {
        let dead = victims.iter().any(|part| site.pair.process(*part).ended().is_some());
        let level = syncs != Syncs::Start || site.is_duplex();
        (dead || (load.is_finished() && level)).then_some(dead).ok_or(())
    };
    let dead = wait_for(DEADLINE, struck).map_err(|()| "the load stands still")?;
    drop(tracers);
    if dead {
        let first = victims[0];
        let machines = if lost == Some(B) { [B, A] } else { [A, B] };
        let cut = Cut { order: Order::ProcessesFirst, after: 0, witness: false, lost, first };
        go(site, cut.order, &machines);
        back(site, cut, &machines);
    }
    let done = load.finish(DEADLINE * 2);
    replace(site, lost.filter(|_| dead));
    done?;
    site.duplex();
    Ok(dead)
}

/// The fault in a thread of each victim, and a load.
fn on_threads(
    site: &mut TestSite,
    name: &str,
    victims: &[Part],
    fault: Fault,
    prefix: &str,
) -> (Vec<Tracer>, Load) {
    let attach = |part: &Part| {
        let pid = site.pair.process(*part).pid();
        let thread = thread(pid, name).expect("it has such a thread");
        Tracer::attach(pid, Some(thread), fault, site.pair.directory(), &[])
    };
    let tracers = victims.iter().map(attach).collect();
    (tracers, Load::start_with_bulk(&site.pair, SHORT, prefix))
}

/// A load under which the victims are killed, and started again with the fault.
fn from_start(
    site: &mut TestSite,
    victims: &[Part],
    fault: Fault,
    prefix: &str,
) -> (Vec<Tracer>, Load) {
    let load = Load::start_with_bulk(&site.pair, SHORT, prefix);
    load.reach(SHORT / 3, &site.pair);
    victims.iter().for_each(|part| site.pair.kill(*part));
    for part in victims {
        let said = site.pair.directory().join(format!("strace-{}.out", part.name()));
        site.pair.run_under(*part, &fault.wrapper(&said, &[]));
    }
    (Vec::new(), load)
}

/// Of a lost machine there is a new one.
fn replace(site: &mut TestSite, lost: Option<Part>) {
    if let Some(lost) = lost {
        site.give_medium(lost, MIB);
        site.pair.run(lost);
    }
}
