//! Power cuts: both CoServers, at any moment.

use rustix::process::Signal;

use crate::disk::Draw;
use crate::disk::load::Load;
use crate::disk::site::Site;
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
pub fn round(site: &mut Site, cut: Cut, prefix: &str) -> Result<(), String> {
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

fn go(site: &mut Site, order: Order, machines: &[Part]) {
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

fn back(site: &mut Site, cut: Cut, machines: &[Part]) {
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

/// Requests of a round that counts syncs; few, since the last sync ends the campaign.
const SHORT: u64 = 150;

/// As [`round`], with the power going when one of these CoServers begins the n-th sync that its
/// journal's thread makes in a short run. `false` if it made fewer.
///
/// # Errors
/// What went wrong with the history.
///
/// # Panics
/// If the pair does not come back.
pub fn at_sync(
    site: &mut Site,
    victims: &[Part],
    when: u32,
    lost: Option<Part>,
    prefix: &str,
) -> Result<bool, String> {
    let fault = Fault { call: "fsync,fdatasync", action: "signal=SIGKILL", when };
    let attach = |part: &Part| {
        let pid = site.pair.process(*part).pid();
        let thread = thread(pid, "lockstep-journal").expect("it has such a thread");
        Tracer::attach(pid, Some(thread), fault, site.pair.directory())
    };
    let tracers: Vec<Tracer> = victims.iter().map(attach).collect();
    let load = Load::start_with_bulk(&site.pair, SHORT, prefix);
    let struck = || {
        let dead = victims.iter().any(|part| site.pair.process(*part).ended().is_some());
        (dead || load.is_finished()).then_some(dead).ok_or(())
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

/// Of a lost machine there is a new one.
fn replace(site: &mut Site, lost: Option<Part>) {
    if let Some(lost) = lost {
        site.give_medium(lost, MIB);
        site.pair.run(lost);
    }
}
