//! Watches for the marks: which situations a run has come to.

use core::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::checkers::{Observation, OutputName, Who};
use super::marks::{Mark, Marks};
use super::options::Options;
use crate::entry::EntryKind;
use crate::event::{Event, StopCause, Suspicion};
use crate::ids::{Epoch, Index, Nonce, OriginNumber, ReplicaId, RequestNumber, SessionId};
use crate::limits;
use crate::proto::io::Standing;
use crate::record::Origin;
use crate::wire::frames::{ClientAnswer, WitnessCall};

/// What has been seen so far, as far as marks need it.
pub(super) struct Watch {
    pub(super) marks: Marks,
    late: u64,
    recorded: BTreeMap<Nonce, u64>,
    asked: BTreeSet<(ReplicaId, Nonce)>,
    asked_alone: BTreeSet<(Epoch, ReplicaId)>,
    members: BTreeSet<Who>,
    suspected_slow: [bool; 2],
    stopped: [bool; 2],
    held: BTreeSet<Who>,
    panicked: BTreeSet<ReplicaId>,
    forwarded: BTreeMap<Who, OriginNumber>,
    answered: BTreeSet<(SessionId, RequestNumber)>,
    quiet: Option<u64>,
    alive: [Option<Who>; 2],
    standings: BTreeMap<Who, Standing>,
    hosts: BTreeSet<Who>,
    unadmitted: BTreeSet<Who>,
    offered: BTreeSet<Who>,
    last: [Index; 2],
    released: BTreeMap<OutputName, Who>,
    slot: u8,
    meeting: u64,
    started: [u64; 2],
    restored: BTreeSet<Who>,
    claimable: [bool; 2],
    moving: bool,
    died_moving: [bool; 2],
}

impl Watch {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            marks: Marks::default(),
            // An answer that comes later than this after the record was written was not the
            // first one.
            late: 4 * options.witness_latency + 30_000_000,
            recorded: BTreeMap::new(),
            asked: BTreeSet::new(),
            asked_alone: BTreeSet::new(),
            members: BTreeSet::new(),
            suspected_slow: [false; 2],
            stopped: [false; 2],
            held: BTreeSet::new(),
            panicked: BTreeSet::new(),
            forwarded: BTreeMap::new(),
            answered: BTreeSet::new(),
            quiet: None,
            alive: [None; 2],
            standings: BTreeMap::new(),
            hosts: BTreeSet::new(),
            unadmitted: BTreeSet::new(),
            offered: BTreeSet::new(),
            last: [Index(0); 2],
            released: BTreeMap::new(),
            slot: 0,
            meeting: options.meeting.as_nanos() as u64,
            started: [0; 2],
            restored: BTreeSet::new(),
            claimable: [false; 2],
            moving: false,
            died_moving: [false; 2],
        }
    }

    /// Since when nothing is waited for.
    pub(super) fn quiet_since(&mut self, at: u64, is_quiet: bool) -> Option<u64> {
        self.quiet = if is_quiet { self.quiet.or(Some(at)) } else { None };
        self.quiet
    }

    /// Whether this request came to the witness before.
    pub(super) fn is_repeated(&mut self, place: ReplicaId, call: &WitnessCall) -> bool {
        let WitnessCall::CompareAndSwap { request } = call else { return false };
        !self.asked.insert((place, request.next.nonce))
    }

    /// A replica forwards inputs up to this number.
    pub(super) fn forwards(&mut self, who: Who, number: OriginNumber) {
        let highest = self.forwarded.entry(who).or_default();
        *highest = number.max(*highest);
    }

    /// A request is answered, by the follower or not.
    pub(super) fn answers(&mut self, session: SessionId, number: RequestNumber, follower: bool) {
        if self.answered.insert((session, number)) && follower {
            self.marks.reach(Mark::FollowerFirst);
        }
    }

    pub(super) fn see(&mut self, at: u64, seen: &Observation<'_>) {
        match *seen {
            Observation::Event { who, event } => self.event(at, who, event),
            Observation::Recorded { slot, record } => {
                self.recorded.insert(record.nonce, at);
                if slot == 1 && record.origin == Origin::Alone {
                    self.marks.reach(Mark::AloneByAlternate);
                }
                match (record.origin, record.asker) {
                    (Origin::Alone, place) => {
                        self.marks.reach(match place {
                            ReplicaId::A => Mark::RemovalByA,
                            ReplicaId::B => Mark::RemovalByB,
                        });
                        if self.stopped[place.other().slot()] {
                            self.marks.reach(Mark::Farewell);
                        }
                        if self.suspected_slow[place.slot()] {
                            self.marks.reach(Mark::SlowRemoval);
                        }
                    }
                    (Origin::Renewal(_), _) => self.marks.reach(Mark::RenewalVoidsRequest),
                    (Origin::Restarted, place) => self.claimed(at, place),
                    (Origin::Left(_), _) => self.marks.reach(Mark::Left),
                    _ => {}
                }
            }
            Observation::Stopped { who, cause } => match cause {
                StopCause::Removed { .. } => self.marks.reach(Mark::Fenced),
                StopCause::NotAMember { .. } => {
                    let was = self.members.contains(&who);
                    self.marks.reach(if was { Mark::Fenced } else { Mark::NotAMember });
                }
                StopCause::Asked => self.stopped[who.place.slot()] = true,
                StopCause::Hanging { .. } => self.marks.reach(Mark::GaveWay),
                _ => {}
            },
            Observation::Started { who } => {
                self.alive[who.place.slot()] = Some(who);
                self.started[who.place.slot()] = at;
            }
            Observation::Remembered { who, membership } => {
                self.claimable[who.place.slot()] = membership.record.is_some();
            }
            Observation::Found { place, membership } => {
                self.claimable[place.slot()] = membership.record.is_some();
            }
            Observation::Wiped { place } => self.claimable[place.slot()] = false,
            Observation::Ended { who } => {
                self.alive[who.place.slot()] = None;
                if self.moving {
                    self.died_moving[who.place.slot()] = true;
                    let both = self.died_moving == [true; 2];
                    self.marks.reach(Mark::DiedInMove);
                    if both {
                        self.marks.reach(Mark::BothDiedInMove);
                    }
                }
            }
            Observation::Standing { who, standing } => {
                self.standings.insert(who, standing);
            }
            Observation::Restored { who, recovered } => {
                let last = recovered.tail.last().map(|entry| entry.index);
                self.last[who.place.slot()] = last.unwrap_or(recovered.history.index);
                self.restored.insert(who);
                if self.offered.contains(&who) {
                    self.marks.reach(Mark::JoinedByOwnCheckpoint);
                }
            }
            Observation::Released { who, name, .. } => {
                let first = *self.released.entry(name).or_insert(who);
                if first.place == who.place && first != who {
                    self.marks.reach(Mark::ReleasedAgain);
                }
            }
            Observation::Appended { who, entry } => {
                self.last[who.place.slot()] = entry.index;
                if matches!(entry.kind, EntryKind::Tick) {
                    self.marks.reach(Mark::IdleWake);
                }
                if entry.steps() > 1 {
                    self.marks.reach(Mark::Together);
                }
                if entry.kind.payload_len() >= limits::BULK_BYTES {
                    self.marks.reach(Mark::Bulk);
                }
            }
            Observation::Answered { answer, .. } => match answer {
                ClientAnswer::Reply { .. } => self.marks.reach(Mark::Duplex),
                ClientAnswer::Refused { .. } => self.marks.reach(Mark::ClientRefused),
                ClientAnswer::NotYet { .. } => self.marks.reach(Mark::ClientDeferred),
                ClientAnswer::PeerBack { .. } => self.marks.reach(Mark::PeerBack),
                _ => {}
            },
            _ => {}
        }
    }

    /// A process that was started anew has its predecessor's place.
    fn claimed(&mut self, at: u64, place: ReplicaId) {
        self.marks.reach(Mark::Restarted);
        let other = self.alive[place.other().slot()];
        let serves = other.and_then(|other| self.standings.get(&other));
        if matches!(serves, Some(Standing::Serving { .. } | Standing::Holding)) {
            return;
        }
        let there = place.other().slot();
        let waited = at.saturating_sub(self.started[there]) > self.meeting + self.meeting / 8;
        let could = other.is_some_and(|other| self.restored.contains(&other));
        if waited && could && self.claimable[there] {
            self.marks.reach(Mark::Yielded);
        }
        self.marks.reach(match place {
            ReplicaId::A => Mark::BothDownAFirst,
            ReplicaId::B => Mark::BothDownBFirst,
        });
        let [ours, theirs] = [place, place.other()].map(|place| self.last[place.slot()]);
        match ours.cmp(&theirs) {
            Ordering::Greater => self.marks.reach(Mark::ClaimByBetter),
            Ordering::Less => self.marks.reach(Mark::ClaimByLesser),
            Ordering::Equal => {}
        }
    }

    /// A sequencer orders an input of its own.
    pub(super) fn orders_own(&mut self, who: Who, number: OriginNumber) {
        if number != OriginNumber(0) && self.forwarded.get(&who).is_some_and(|up| number <= *up) {
            self.marks.reach(Mark::ForwardsReordered);
        }
    }

    fn event(&mut self, at: u64, who: Who, event: &Event) {
        match event {
            Event::Epoch { record, .. } => {
                self.members.insert(who);
                self.unadmitted.remove(&who);
                if record.origin == Origin::Joined {
                    self.unadmitted.insert(who);
                }
                let own = record.asker == who.place;
                if record.origin == Origin::Alone
                    && self.recorded.get(&record.nonce).is_some_and(|then| at - then > self.late)
                {
                    self.marks.reach(Mark::LostGrantFound);
                }
                if matches!(record.origin, Origin::Renewal(_)) && !own {
                    self.marks.reach(Mark::RenewalFollowed);
                }
            }
            Event::Asked { next } if next.origin == Origin::Alone => {
                self.asked_alone.insert((next.epoch, who.place));
                if self.asked_alone.contains(&(next.epoch, who.place.other())) {
                    self.marks.reach(Mark::BothAsked);
                }
            }
            Event::PeerDied { .. } => self.marks.reach(Mark::Noticed),
            Event::Suspected { suspicion } => {
                self.suspected_slow[who.place.slot()] = *suspicion == Suspicion::Slow;
            }
            Event::Holding { .. } => {
                self.held.insert(who);
                self.marks.reach(Mark::Held);
            }
            Event::Hosting { .. } => {
                self.hosts.insert(who);
            }
            Event::Admitting { .. } => {
                self.hosts.remove(&who);
                self.unadmitted.remove(&who);
            }
            Event::Duplex { .. } => self.marks.reach(Mark::DuplexAgain),
            Event::Offered { checkpoint: Some(_), .. } => {
                self.offered.remove(&who);
                self.marks.reach(Mark::JoinedByCheckpoint);
            }
            Event::Offered { .. } => {
                self.offered.insert(who);
                self.marks.reach(Mark::JoinedByEntries);
            }
            Event::FellBack { .. } => {
                self.hosts.remove(&who);
                self.marks.reach(Mark::FellBack);
                if self.unadmitted.contains(&who) {
                    self.marks.reach(Mark::FellBackRecorded);
                }
            }
            Event::Unrecovered { .. } => self.marks.reach(Mark::DamagedDisk),
            Event::Checkpoint { .. } => {
                self.marks.reach(Mark::Checkpoint);
                if self.hosts.contains(&who) {
                    self.marks.reach(Mark::CheckpointInJoin);
                }
            }
            Event::Moving { .. } => (self.moving, self.died_moving) = (true, [false; 2]),
            Event::Enrolled { slot, .. } => {
                self.moving = false;
                self.marks.reach(match (self.slot, *slot) {
                    (0, 1) => Mark::TurnedToAlternate,
                    (1, 0) => Mark::TurnedBack,
                    _ => Mark::EnrolledAnew,
                });
                self.slot = *slot;
            }
            Event::Waiting { .. } => self.marks.reach(Mark::Waited),
            Event::Resumed { .. } => self.marks.reach(Mark::Resumed),
            Event::Gap { .. } => self.marks.reach(Mark::Gap),
            Event::HandedOver { .. } => self.marks.reach(Mark::HandedOver),
            Event::Diverged { .. } => self.marks.reach(Mark::Diverged),
            Event::WindowFull { .. } => self.marks.reach(Mark::FullWindow),
            Event::Stalled { .. } => self.marks.reach(Mark::Stalled),
            Event::ClockStrays { .. } => self.marks.reach(Mark::ClockStrays),
            Event::Panicked { .. } => {
                self.panicked.insert(who.place);
                let both = self.panicked.len() == 2;
                self.marks.reach(if both { Mark::PanickedBoth } else { Mark::PanickedAlone });
            }
            _ => {}
        }
    }
}
