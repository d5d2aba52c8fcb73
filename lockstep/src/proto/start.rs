//! A process that has started and is no member yet: which process it meets, and what it claims
//! (section J of `docs/protocol.md`).

use core::time::Duration;

use super::io::{Disk, Membership, Output, Recovered, Standing};
use super::log::Log;
use super::membership;
use super::replica::Replica;
use crate::event::{Event, StopCause};
use crate::ids::{Epoch, Incarnation, Index, Lineage, LogTime, MonotonicTime, ReplicaId};
use crate::record::{Members, Origin, Record};
use crate::wire::frames::{Claim, Hello, LogPosition};

/// A process that yields to the other's better claim tries for this many times as long as one that
/// meets no other, before it claims all the same.
const YIELD: u32 = 5;

/// The other is told what this machine's clock says no more often than this.
const CLOCK_EVERY: Duration = Duration::from_millis(500);

/// A process that can become nothing, and hears of none that could take it in, waits this many
/// times as long before it calls for an operator. Links take their time to come up.
const PATIENT: u32 = 5;

/// A process that cannot run with this one has introduced itself again after this long, or is gone.
/// Dialling pauses for less, also where one of two links is lost.
const COMES_AGAIN: Duration = Duration::from_secs(2);

/// What a process knows of itself and of the other before it is a member.
#[derive(Debug)]
pub(super) struct Start {
    since: MonotonicTime,
    /// What the disk holds, until it turns out not to be usable.
    pub(super) disk: Option<Disk>,
    /// The state is being restored from it.
    pub(super) recovering: bool,
    pub(super) adopt: bool,
    peer: Option<Presence>,
    /// The last process at the other place that cannot run with this one.
    stranger: Option<Presence>,
    /// What the operator has been told of this replica's waiting.
    waits: WaitNotice,
    /// Whether the operator has been told that this replica does not believe a clock (rule O13).
    disbelieves: bool,
    /// Whether the other's clock was not believed at some time. Either of the two may then have to
    /// hear that the clocks agree now.
    tells_clock: bool,
    /// When the other was last told this clock in answer to its own.
    answered_clock: Option<MonotonicTime>,
}

/// What an operator has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum WaitNotice {
    #[default]
    Unsaid,
    /// The operator has been told that the replica waits.
    Said,
    /// The operator has been told that the replica waits in vain.
    Alarmed,
}

/// What the other process said of itself.
#[derive(Clone, Copy, Debug)]
struct Presence {
    incarnation: Incarnation,
    /// The epoch in which it is a member.
    record: Option<Record>,
    claim: Option<Claim>,
    /// What its wall clock said, and when that was heard.
    wall: LogTime,
    at: MonotonicTime,
}

impl Start {
    pub(super) fn new(disk: Option<Disk>, adopt: bool, now: MonotonicTime) -> Self {
        let disk = disk.filter(|disk| !never_began(disk));
        Self {
            since: now,
            disk,
            recovering: false,
            adopt,
            peer: None,
            stranger: None,
            waits: WaitNotice::Unsaid,
            disbelieves: false,
            tells_clock: false,
            answered_clock: None,
        }
    }

    /// Whether there is nothing here that could be lost.
    fn is_fresh(&self) -> bool {
        self.disk.is_none()
    }
}

/// A predecessor asked for the pair to be formed and got no further: there is nothing to lose, and
/// nothing to restore. What it asked for counts all the same.
fn never_began(disk: &Disk) -> bool {
    let Membership { record, asked, witness: _ } = &disk.membership;
    let formed = asked.iter().all(|asked| asked.origin == Origin::Formed);
    disk.last_index == Index(0) && record.is_none() && formed && !asked.is_empty()
}

impl Replica {
    /// The state is restored at once, whatever it will be good for.
    pub(super) fn recover(&mut self) {
        if self.start.disk.is_some() {
            self.start.recovering = true;
            self.outputs.push_back(Output::Recover { to: None });
        }
    }

    pub(super) fn on_recovered(&mut self, result: Result<Box<Recovered>, String>) {
        if self.join.is_some() {
            return self.on_recovered_to_join(result);
        }
        match result {
            Ok(mut recovered) => {
                let contradicts = recovered.contradicts.take();
                if let Err(why) = self.restore(*recovered) {
                    return self.give_up_log(why);
                }
                if let Some(why) = contradicts {
                    // Found again at every start; so the disk may remember what it was a member of.
                    self.event(Event::Contradicts { why });
                    self.membership.forget();
                }
            }
            Err(why) => self.lose_disk(why),
        }
        self.start.recovering = false;
        let said = self.start.disk.as_ref().map_or(Index(0), |disk| disk.last_index);
        if self.log.last_index() < said && self.membership.last_known().is_some() {
            // What is missing may have been released: this process can join, and claim nothing.
            let why = format!("it gave entries up to {}, not {said}", self.log.last_index());
            self.disclaim(Event::Unrecovered { why });
        }
        self.find_move();
    }

    /// What the disk has is not all that was released: it is good for joining, or for a new
    /// lineage (rule J8), not for its predecessor's place.
    fn disclaim(&mut self, event: Event) {
        self.event(event);
        self.membership.forget();
        self.persist_membership();
    }

    /// What was restored is no log after all. The disk still has it, and the service its state:
    /// both begin anew before anything else is done with them.
    pub(super) fn give_up_log(&mut self, why: String) {
        self.lose_disk(why);
        self.outputs.push_back(Output::Recover { to: Some(Index(0)) });
    }

    /// The log cannot be used: whatever it was, this process is a joiner (rule J1).
    pub(super) fn lose_disk(&mut self, why: String) {
        self.event(Event::Unrecovered { why });
        if self.membership.record().is_none() {
            self.membership.forget();
            self.persist_membership();
        }
        // Not fresh: what was lost here must not be taken for a new pair's empty state.
        if let Some(disk) = &mut self.start.disk {
            disk.points.clear();
            disk.last_index = Index(0);
        }
        self.log = Log::default();
        (self.persisted, self.handed_out, self.released) = (Index(0), Index(0), Index(0));
    }

    /// Goes on from a state that was restored; or says why the entries after it do not follow.
    pub(super) fn restore(&mut self, recovered: Recovered) -> Result<(), String> {
        let Recovered { history, outputs, wakeup, replayed, contradicts: _, tail } = recovered;
        let base = history.index;
        self.clock.restored(history.time);
        self.sequencer = history.sequencer;
        self.log = Log::restored(history, outputs, wakeup);
        self.restart_checkpoints(replayed);
        (self.persisted, self.handed_out, self.released) = (base, base, base);
        for entry in tail {
            let checked = self.log.history().check(&entry);
            checked.map_err(|misfit| format!("entry {}: {misfit}", entry.index))?;
            self.clock.restored(entry.last_time());
            self.log.append(entry, self.sequencer);
            self.sequencer = self.log.history().sequencer;
        }
        self.persisted = self.log.last_index();
        let (released, last_index) = (base, self.log.last_index());
        self.event(Event::Recovered { released, held: last_index });
        Ok(())
    }

    /// What may be claimed with what is on the disk, for the other to know. A disk that is good
    /// for no claim says so with one below every other: its process is not fresh (rule E3).
    pub(super) fn claim(&self) -> Option<Claim> {
        let disk = self.start.disk.as_ref()?;
        let known = self.membership.last_known().unwrap_or_default();
        let (lineage, epoch) = self.moving_to().map_or(known, |moving| moving.max(known));
        Some(Claim { lineage, epoch, last_index: disk.last_index })
    }

    /// The other process introduced itself.
    pub(super) fn on_presence(&mut self, hello: &Hello) {
        let Hello { incarnation, record, claim, wall, .. } = *hello;
        let known = self.start.peer.filter(|peer| peer.incarnation == incarnation);
        let record = record.or(known.and_then(|known| known.record));
        let at = self.now.mono;
        self.start.peer = Some(Presence { incarnation, record, claim, wall, at });
        self.start.stranger = None;
        self.on_presence_of_move(hello);
    }

    /// A process that cannot run with this one introduced itself. Whether it did so for the
    /// first time.
    pub(super) fn on_stranger(&mut self, hello: &Hello) -> bool {
        let Hello { incarnation, record, claim, wall, .. } = *hello;
        let presence = Presence { incarnation, record, claim, wall, at: self.now.mono };
        let before = self.start.stranger.replace(presence);
        before.is_none_or(|before| before.incarnation != incarnation)
    }

    /// Whether this process ends because the other cannot run with it (rule E2). It does so if it
    /// is no member, and either the other is one or this one has nothing with which it could go on
    /// by itself.
    pub(super) fn yields(&self) -> bool {
        if self.membership.record().is_some() {
            return false;
        }
        let other = self.start.stranger.or(self.linked_peer());
        if self.join.is_some() || other.is_some_and(|other| other.record.is_some()) {
            return true;
        }
        let unknown = self.membership.present().is_none() && self.membership.vacant().is_none();
        let adopts = self.start.adopt && self.membership.vacant().is_some();
        let may_claim = self.membership.claimable().is_some();
        !may_claim && (self.start.is_fresh() || !(unknown || adopts))
    }

    /// A record told on a link on which that process is the other.
    pub(super) fn on_presence_told(&mut self, incarnation: Incarnation, record: Record) {
        let there = self.config.place.other();
        if let Some(peer) = &mut self.start.peer
            && peer.incarnation == incarnation
            && record.members.has(there, incarnation)
        {
            peer.record = Some(record);
        }
        if let Some(join) = &mut self.join
            && join.donor == incarnation
            && (record.lineage, record.epoch) > (join.record.lineage, join.record.epoch)
        {
            join.record = record;
        }
    }

    /// Whether the other, which can run with this one, is there.
    pub(super) fn meets_other(&self) -> bool {
        self.linked_peer().is_some()
    }

    /// Whether the other is there and cannot run with this one: it comes again and again, and its
    /// connection is closed each time.
    pub(super) fn is_met_by_stranger(&self) -> bool {
        let now = self.now.mono;
        self.start.stranger.is_some_and(|other| now.since(other.at) < COMES_AGAIN)
    }

    fn linked_peer(&self) -> Option<Presence> {
        self.start.peer.filter(|peer| self.is_linked_to(peer.incarnation))
    }

    /// Whether both are fresh, so that a pair can be formed (rule E3).
    pub(super) fn fresh_peer(&self) -> Option<Incarnation> {
        let peer = self.linked_peer().filter(|peer| peer.claim.is_none())?;
        (self.start.is_fresh() && self.peer_incarnation == Some(peer.incarnation))
            .then_some(peer.incarnation)
    }

    /// No process is a member. What a disk holds is of a lineage that is over, unless an operator
    /// wants it to be the beginning of the next one (rule J8).
    pub(super) fn on_vacant(&mut self) {
        let Some(disk) = &self.start.disk else {
            if self.start.adopt {
                return self.stop(StopCause::LineageOver { lineage: Lineage(0), held: Index(0) });
            }
            return self.form();
        };
        let (lineage, last_index) = (disk.lineage, disk.last_index);
        if self.start.adopt && self.start.recovering {
            return;
        }
        if !self.start.adopt || self.log.last_index() == Index(0) {
            // Nothing is not what is to be adopted: to begin with nothing is another decision.
            return self.stop(StopCause::LineageOver { lineage, held: last_index });
        }
        if self.membership.open().is_some() || !self.believes_clock() {
            return;
        }
        let last = self.log.history().epoch;
        self.ask(|membership, nonce| membership.ask_adopted(nonce, last));
    }

    /// As long as it is neither a member nor joining, the process finds out what it can become.
    pub(super) fn on_start_due(&mut self) {
        if self.membership.record().is_some() || self.join.is_some() || self.start.recovering {
            return;
        }
        if let Some((donor, record)) = self.donor_to_join() {
            return self.begin_join(donor, record);
        }
        if self.membership.vacant().is_some() {
            return self.on_vacant();
        }
        if self.membership.claimable().is_some() {
            if self.may_claim_now() && self.believes_clock() {
                self.ask(membership::Membership::ask_restarted);
            }
            return;
        }
        self.say_that_it_waits();
    }

    /// A sole member at the other place (rule J3).
    fn donor_to_join(&self) -> Option<(Incarnation, Record)> {
        let peer = self.linked_peer()?;
        let record = peer.record?;
        let alone = Members::alone(self.config.place.other(), peer.incarnation);
        (record.members == alone).then_some((peer.incarnation, record))
    }

    /// Who of two claims first (rule J2). The order of claims is a preference: the witness decides.
    fn may_claim_now(&self) -> bool {
        let waited = self.now.mono.since(self.start.since);
        let meeting = self.config.meeting;
        // A process that has fallen silent is not waited for. A process that cannot run with this
        // one may have more to lose all the same.
        let met = self.linked_peer().filter(|peer| self.hears(peer.incarnation));
        let Some(peer) = met.or(self.start.stranger) else {
            return waited >= meeting;
        };
        if peer.record.is_some() {
            // A member: it goes on alone first, and then this one joins it.
            return false;
        }
        let (ours, theirs) = (self.claim(), peer.claim);
        let first = ours > theirs || (ours == theirs && self.config.place == ReplicaId::A);
        first || waited >= meeting * YIELD
    }

    /// Whether log time may take up what this machine's clock says: it could not be taken back
    /// (rule O13). Looked at again and again, so a clock that is corrected needs nothing else.
    fn believes_clock(&mut self) -> bool {
        let most = self.config.clock_step;
        let Some(step) = self.clock.leap(self.now, most) else {
            self.start.disbelieves = false;
            return true;
        };
        if !core::mem::replace(&mut self.start.disbelieves, true) {
            let (wall, log) = (self.now.wall, self.clock.last());
            self.event(Event::ClockLeaps { wall, log, step, most });
        }
        false
    }

    /// Whether log time may begin with what this machine's clock says: the other's is near it (rule
    /// O13). Which of the two clocks is wrong is not known here.
    pub(super) fn believes_first_clock(&mut self) -> bool {
        let (most, now) = (self.config.clock_step, self.now);
        let Some(peer) = self.linked_peer() else { return false };
        let theirs = LogTime(peer.wall.0.saturating_add(now.mono.0.saturating_sub(peer.at.0)));
        let apart = Duration::from_nanos(theirs.0.abs_diff(now.wall.0));
        if apart <= most {
            self.start.disbelieves = false;
            return true;
        }
        self.start.tells_clock = true;
        if !core::mem::replace(&mut self.start.disbelieves, true) {
            self.event(Event::ClocksDiffer { ours: now.wall, theirs, apart, most });
        }
        false
    }

    /// The other process, whose clock was too far from this one, is not there any more.
    pub(super) fn forget_clock(&mut self) {
        self.start.disbelieves = false;
    }

    /// Whether the other is told again and again what this machine's clock says.
    pub(super) fn tells_clock(&self) -> bool {
        self.start.tells_clock && self.membership.record().is_none() && self.join.is_none()
    }

    /// Whether the other, which tells its clock again, is told this one's: it is asked by that.
    pub(super) fn answers_clock(&mut self) -> bool {
        let now = self.now.mono;
        let none = self.membership.record().is_none() && self.join.is_none();
        let due = none && self.start.answered_clock.is_none_or(|at| now.since(at) >= CLOCK_EVERY);
        if due {
            self.start.answered_clock = Some(now);
        }
        due
    }

    /// Whether this machine's clock, or the other's, keeps it from beginning.
    pub(super) fn disbelieves_clock(&self) -> bool {
        self.start.disbelieves && self.membership.record().is_none() && self.join.is_none()
    }

    fn say_that_it_waits(&mut self) {
        let (waited, meeting) = (self.now.mono.since(self.start.since), self.config.meeting);
        let Some(&record) = self.membership.present().filter(|_| waited >= meeting) else { return };
        let in_vain = waited >= meeting * PATIENT && !self.may_be_taken_in();
        let waits = if in_vain { WaitNotice::Alarmed } else { WaitNotice::Said };
        if waits > self.start.waits {
            self.start.waits = waits;
            let wait = self.find_wait_of_newcomer();
            self.event(Event::Waiting { record, in_vain, wait });
        }
    }

    /// Whether the other, which is there, is a member or has what it takes to become one.
    fn may_be_taken_in(&self) -> bool {
        let claims = |claim: Claim| claim.epoch != Epoch(0);
        let peer = self.linked_peer();
        peer.is_some_and(|peer| peer.record.is_some() || peer.claim.is_some_and(claims))
    }

    /// What this process can show a sole member of its log.
    pub(super) fn points(&self) -> Vec<LogPosition> {
        let tail =
            LogPosition { index: self.log.last_index(), log_digest: self.log.history().log_digest };
        let disk = self.start.disk.as_ref().map(|disk| disk.points.clone()).unwrap_or_default();
        let mut points = vec![tail];
        points.extend(disk.into_iter().filter(|point| point.index < tail.index));
        points.push(LogPosition { index: Index(0), log_digest: crate::digest::Digest::ZERO });
        points.dedup();
        points.truncate(crate::limits::POINTS);
        points
    }

    pub(super) fn starting_standing(&self) -> Standing {
        if self.join.is_some() { Standing::Joining } else { Standing::Starting }
    }
}
