//! One CoServer's view of the objects of its pair, without I/O: jobs in, actions out.

use std::collections::{BTreeSet, VecDeque};

use super::error::ObjectError;
use super::format::{self, Link};
use crate::digest::Digest;
use crate::ids::{Epoch, Incarnation, Lineage, PairId};
use crate::limits::WITNESS_OBJECTS;
use crate::record::Record;
use crate::wire::frames::{WitnessAnswer, WitnessCall, WitnessRefusal};
use crate::witness::core::{foreign, unexplained};
use crate::witness::io::{Event, PROTOCOL};
use crate::witness::rules::{self, Asker};
use crate::witness::store::{Held, Told};

/// Objects that one job tries to create. Each but the first means that another process wrote
/// meanwhile, or that the store contradicts itself.
const ATTEMPTS: u32 = 8;

/// What is to be done with the pair's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A CoServer's call.
    Call(WitnessCall),
    /// For an operator: the present record, trusted or not.
    Look,
    /// For an operator: the first record, a vacant one.
    Enrol,
    /// For an operator: a vacant record of the next lineage.
    NewLineage,
}

/// What a driver does to the store. One at a time; each is answered by one [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// List the pair's objects.
    List,
    /// Read an object whole.
    Read {
        /// The object's number.
        number: u64,
    },
    /// Create an object if it is absent, durably.
    Create {
        /// The object's number.
        number: u64,
        /// The object's content.
        bytes: Vec<u8>,
    },
    /// Create the mark that some CoServer knows of a later epoch. A mark that is there already
    /// counts as success.
    Mark {
        /// The later epoch.
        told: Told,
    },
}

/// The objects of a pair that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The numbers of the objects.
    pub numbers: BTreeSet<u64>,
    /// The latest epoch that a mark tells of.
    pub told: Option<Told>,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The objects that [`Action::List`] found.
    Listed(Listing),
    /// The content of the object that [`Action::Read`] named; `None` if there is none.
    Read(Option<Vec<u8>>),
    /// [`Action::Create`] found no object, and created one durably.
    Created,
    /// [`Action::Create`] found an object and left it as it was.
    Exists,
    /// The mark of [`Action::Mark`] is there.
    Marked,
    /// The result is unknown: the store was not reached, took too long, or gave another answer.
    Failed,
}

/// What a driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This, and then give [`ObjectWitness::on`] its outcome.
    Do(Action),
    /// The job is done.
    Answer(WitnessAnswer),
    /// The job is done, and has no answer.
    Nothing,
    /// The job ended otherwise. The job failed, and may be tried again.
    Failed(ObjectError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Listing,
    /// A number is missing in the list.
    Hole(u64, Listing),
    /// Reading the highest object of the list.
    Opening(u64),
    /// Reading the highest object that is known, once more.
    Confirming,
    /// Reading the one after it.
    Probing,
    Creating,
    Marking,
}

/// The rules of the witness over a pair's objects, for one CoServer.
///
/// # Driving it
/// Give it a job by [`begin`](Self::begin), carry out the action of each [`Step::Do`] and give its
/// outcome to [`on`](Self::on), until the step is another. Only then comes the next job. After
/// each job take [`poll_event`](Self::poll_event) until there are none.
#[derive(Debug)]
pub struct ObjectWitness {
    pair: PairId,
    /// The process that asks, since its hello.
    asker: Option<Asker>,
    /// The highest object that is known.
    top: Option<Link>,
    /// The latest epoch that this process has seen in the store.
    seen: Option<Told>,
    /// The latest epoch that a mark tells of.
    marked: Option<Told>,
    /// What was to be created, if it is not known whether it was. It is created again before
    /// anything else is said: until then either record would be the wrong answer.
    unsettled: Option<Link>,
    job: Option<Job>,
    phase: Phase,
    attempts: u32,
    /// The objects were listed since the highest one became known.
    listed: bool,
    events: VecDeque<Event>,
}

impl ObjectWitness {
    /// For this pair, knowing nothing.
    pub fn new(pair: PairId) -> Self {
        Self {
            pair,
            asker: None,
            top: None,
            seen: None,
            marked: None,
            unsettled: None,
            job: None,
            phase: Phase::Idle,
            attempts: 0,
            listed: false,
            events: VecDeque::new(),
        }
    }

    /// Begins a job.
    ///
    /// # Panics
    /// If the job before is not done.
    pub fn begin(&mut self, job: Job) -> Step {
        assert!(self.job.is_none(), "one job at a time");
        if let Job::Call(call) = &job {
            if let WitnessCall::Hello { .. } = call {
                return self.on_hello(call);
            }
            if self.asker.is_none() {
                return refused(WitnessRefusal::NotYou);
            }
        }
        self.job = Some(job);
        (self.attempts, self.listed) = (0, false);
        match (self.unsettled, self.top) {
            (Some(link), _) => self.create(link),
            (None, Some(top)) => self.go(Phase::Confirming, Action::Read { number: top.number }),
            (None, None) => self.go(Phase::Listing, Action::List),
        }
    }

    /// Takes the outcome of the action of the last step.
    ///
    /// # Panics
    /// If it is none of that action.
    pub fn on(&mut self, outcome: Outcome) -> Step {
        let phase = core::mem::replace(&mut self.phase, Phase::Idle);
        match (phase, outcome) {
            // Whether the mark is there or not, this one was told of a later epoch.
            (Phase::Marking, Outcome::Marked | Outcome::Failed) => self.refuse_behind(),
            (_, Outcome::Failed) => self.fail(ObjectError::Unreached),
            (Phase::Listing, Outcome::Listed(listing)) => self.on_listed(listing),
            (Phase::Hole(number, mut listing), Outcome::Read(Some(_))) => {
                listing.numbers.insert(number);
                self.on_listed(listing)
            }
            (Phase::Hole(number, _), Outcome::Read(None)) => {
                self.fail(ObjectError::Gap { pair: self.pair, number })
            }
            (Phase::Opening(number), Outcome::Read(Some(bytes))) => self.on_opened(number, &bytes),
            (Phase::Opening(_), Outcome::Read(None)) => self.fail(ObjectError::Unreached),
            (Phase::Confirming, Outcome::Read(bytes)) => self.on_confirmed(bytes.as_deref()),
            (Phase::Probing, Outcome::Read(Some(bytes))) => self.on_probed(&bytes),
            (Phase::Probing, Outcome::Read(None)) => self.decide(),
            (Phase::Creating, Outcome::Created) => self.on_created(),
            (Phase::Creating, Outcome::Exists) => self.on_exists(),
            (phase, outcome) => panic!("{outcome:?} is no outcome of {phase:?}"),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn on_hello(&mut self, call: &WitnessCall) -> Step {
        let WitnessCall::Hello { pair, place, incarnation, protocol } = *call else {
            return Step::Nothing;
        };
        if pair != self.pair || incarnation == Incarnation(0) {
            return refused(WitnessRefusal::NotYou);
        }
        if protocol.oldest > PROTOCOL.newest || protocol.newest < PROTOCOL.oldest {
            return refused(WitnessRefusal::Version);
        }
        self.asker = Some(Asker { pair, place, incarnation });
        Step::Nothing
    }

    fn on_listed(&mut self, listing: Listing) -> Step {
        let pair = self.pair;
        let Some(&last) = listing.numbers.last() else {
            return match (self.top, &self.job) {
                (None, Some(Job::Enrol)) => self.create(Link {
                    number: 0,
                    before: Digest::ZERO,
                    record: Record::vacant(pair, Lineage(1), Epoch(0)),
                }),
                (None, _) => self.fail(ObjectError::Unenrolled { pair }),
                (Some(top), _) => self.vanished(top.number),
            };
        };
        if last >= WITNESS_OBJECTS {
            return self.fail(ObjectError::TooMany { pair });
        }
        let missing = (0..).zip(&listing.numbers).find(|(at, number)| at != *number);
        if let Some((number, _)) = missing {
            return self.go(Phase::Hole(number, listing), Action::Read { number });
        }
        self.marked = self.marked.max(listing.told);
        self.listed = true;
        match self.top {
            _ if self.job == Some(Job::Enrol) => self.fail(ObjectError::Enrolled { pair }),
            None => self.go(Phase::Opening(last), Action::Read { number: last }),
            Some(top) if top.number < last => self.probe(),
            Some(_) => self.decide(),
        }
    }

    fn on_opened(&mut self, number: u64, bytes: &[u8]) -> Step {
        match format::decode(self.pair, number, bytes) {
            Ok(link) => {
                self.top = Some(link);
                self.probe()
            }
            Err(error) => self.fail(error),
        }
    }

    fn on_confirmed(&mut self, bytes: Option<&[u8]>) -> Step {
        let Some(top) = self.top else { return self.fail(ObjectError::Unreached) };
        let read = bytes.map(|bytes| format::decode(self.pair, top.number, bytes));
        match read {
            Some(Ok(link)) if link == top => self.probe(),
            Some(Err(error)) => self.fail(error),
            _ => self.vanished(top.number),
        }
    }

    fn on_probed(&mut self, bytes: &[u8]) -> Step {
        let (pair, Some(top)) = (self.pair, self.top) else {
            return self.fail(ObjectError::Unreached);
        };
        let number = top.number + 1;
        match format::decode(pair, number, bytes) {
            Ok(link) if number >= WITNESS_OBJECTS => {
                let _ = link;
                self.fail(ObjectError::TooMany { pair })
            }
            Ok(link) if link.before != top.record.digest() => {
                let why = "it does not follow on the one before";
                self.fail(ObjectError::Damaged { pair, number, why })
            }
            Ok(link) => {
                self.top = Some(link);
                self.probe()
            }
            Err(error) => self.fail(error),
        }
    }

    /// Reads the object after the highest one that is known.
    fn probe(&mut self) -> Step {
        let next = self.top.map_or(0, |top| top.number + 1);
        self.seen = self.seen.max(self.top.map(|top| Told::from(&top.record)));
        self.go(Phase::Probing, Action::Read { number: next })
    }

    /// The present record is known.
    fn decide(&mut self) -> Step {
        let (Some(top), Some(job)) = (self.top, self.job.clone()) else {
            return self.fail(ObjectError::Unreached);
        };
        let (present, ours) = (top.record, Told::from(&top.record));
        match job {
            Job::Look => self.answer(present),
            Job::Enrol => self.fail(ObjectError::Enrolled { pair: self.pair }),
            Job::NewLineage => self.begin_lineage(top),
            Job::Call(call) if foreign(self.pair, &call) => self.refuse(WitnessRefusal::NotYou),
            Job::Call(WitnessCall::Enrol { record }) if self.is_enrolment(&present, &record) => {
                if !self.listed {
                    return self.go(Phase::Listing, Action::List);
                }
                self.create(after(&top, record))
            }
            Job::Call(call) => {
                let seen = self.seen.filter(|seen| *seen > ours);
                if let Some(told) = unexplained(&present, &call).max(seen) {
                    self.events.push_back(Event::Behind { pair: self.pair, ours, told });
                    self.marked = self.marked.max(Some(told));
                    return self.go(Phase::Marking, Action::Mark { told });
                }
                if self.marked >= Some(ours) {
                    return self.refuse_behind();
                }
                match call {
                    WitnessCall::CompareAndSwap { request } => self.on_ask(top, request),
                    WitnessCall::Query { .. }
                    | WitnessCall::Enrol { .. }
                    | WitnessCall::Hello { .. } => self.answer(present),
                }
            }
        }
    }

    /// Whether a member tells the record that should be here (rule W3).
    fn is_enrolment(&self, present: &Record, record: &Record) -> bool {
        let ours = Some(Told::from(present));
        let told = Some(Told::from(record));
        let later = told > ours && told >= self.marked.max(self.seen);
        let by = self.asker.is_some_and(|by| record.members.has(by.place, by.incarnation));
        record.pair == self.pair && by && later
    }

    fn on_ask(&mut self, top: Link, request: crate::record::Request) -> Step {
        let (present, Some(asker)) = (top.record, self.asker) else {
            return self.refuse(WitnessRefusal::NotYou);
        };
        if request.next == present {
            return self.answer(present);
        }
        if let Err(why) = rules::judge(&present, asker, &request) {
            self.events.push_back(Event::Denied { asker, why });
            return self.answer(present);
        }
        if !self.listed {
            return self.go(Phase::Listing, Action::List);
        }
        self.create(after(&top, request.next))
    }

    fn begin_lineage(&mut self, top: Link) -> Step {
        if !self.listed {
            return self.go(Phase::Listing, Action::List);
        }
        let held = Held { record: top.record, behind: self.marked };
        match held.next_lineage() {
            Some(record) => self.create(after(&top, record)),
            None => self.fail(ObjectError::TooMany { pair: self.pair }),
        }
    }

    fn create(&mut self, link: Link) -> Step {
        if self.attempts == ATTEMPTS {
            return self.fail(ObjectError::Unreached);
        }
        self.attempts += 1;
        self.unsettled = Some(link);
        let bytes = format::encode(&link).to_vec();
        self.go(Phase::Creating, Action::Create { number: link.number, bytes })
    }

    fn on_created(&mut self) -> Step {
        let Some(link) = self.unsettled.take() else { return self.fail(ObjectError::Unreached) };
        self.top = Some(link);
        self.events.push_back(Event::Granted { record: link.record });
        match self.job {
            Some(Job::Enrol | Job::NewLineage) => self.answer(link.record),
            _ => self.probe(),
        }
    }

    /// The object is another's, or one's own whose answer was lost: reading tells.
    fn on_exists(&mut self) -> Step {
        let pair = self.pair;
        self.unsettled = None;
        self.listed = false;
        match self.job {
            Some(Job::Enrol) => self.fail(ObjectError::Enrolled { pair }),
            Some(Job::NewLineage) => self.fail(ObjectError::Raced { pair }),
            _ => self.probe(),
        }
    }

    fn go(&mut self, phase: Phase, action: Action) -> Step {
        self.phase = phase;
        Step::Do(action)
    }

    fn answer(&mut self, record: Record) -> Step {
        self.job = None;
        Step::Answer(WitnessAnswer::Present { record })
    }

    fn refuse_behind(&mut self) -> Step {
        self.refuse(WitnessRefusal::Behind)
    }

    fn refuse(&mut self, reason: WitnessRefusal) -> Step {
        self.job = None;
        refused(reason)
    }

    fn vanished(&mut self, number: u64) -> Step {
        self.top = None;
        self.fail(ObjectError::Vanished { pair: self.pair, number })
    }

    fn fail(&mut self, error: ObjectError) -> Step {
        self.job = None;
        Step::Failed(error)
    }
}

fn after(top: &Link, record: Record) -> Link {
    Link { number: top.number + 1, before: top.record.digest(), record }
}

fn refused(reason: WitnessRefusal) -> Step {
    Step::Answer(WitnessAnswer::Refused { reason })
}
