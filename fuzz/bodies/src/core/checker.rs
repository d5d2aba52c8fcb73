//! What the replicas want done, and whether they may.

use lockstep::event::Event;
use lockstep::ids::{Epoch, Incarnation, Index, LinkId, ReplicaId};
use lockstep::output::OutputKind;
use lockstep::proto::{Output, Standing, Status};
use lockstep::record::{Origin, Record};
use lockstep::wire::frames::ClientAnswer;

use super::world::{Name, PAIR, World};

impl World {
    pub(super) fn drain(&mut self, place: ReplicaId) {
        while let Some(output) = self.node(place).replica.poll() {
            match output {
                Output::Peer { links, frame } => {
                    for link in links.iter() {
                        self.send(place, link, &frame);
                    }
                }
                Output::CloseLink { link } => self.disconnect(link),
                Output::Witness(call) => self.ask(place, &call),
                Output::Execute(entry) => self.node(place).todo.push_back(entry),
                Output::Release { index, step, ordinal, epoch, kind } => {
                    self.on_release(place, (index, step, ordinal), epoch, kind);
                }
                Output::Client { answer, .. } => self.on_answer(answer),
                Output::Stop { .. } => self.node(place).stopped = true,
                Output::Event(event) => self.on_event(&event),
                other => self.store(place, other),
            }
        }
        self.check(place);
    }

    fn on_event(&mut self, event: &Event) {
        let reached = match event {
            Event::HandedOver { .. } => "hand-over",
            Event::Diverged { .. } => "divergence",
            Event::Cleared { .. } => "suspicion that passed",
            Event::FellBack { .. } => "fallback",
            Event::Duplex { .. } => "duplex again",
            Event::StatesDiffer { .. } => {
                assert!(self.wrong, "sound services have different states");
                "different states"
            }
            Event::Epoch { record, .. } => match record.origin {
                Origin::Formed => "formation",
                Origin::Alone => "going on alone",
                Origin::Renewal(_) => "renewal",
                Origin::Restarted => "restarted",
                Origin::Joined => "joined",
                Origin::Left(_) => "left",
                Origin::Adopted => "adopted",
                Origin::Vacant => return,
            },
            _ => return,
        };
        self.reached.insert(reached);
    }

    pub(super) fn on_release(
        &mut self,
        place: ReplicaId,
        name: Name,
        epoch: Epoch,
        kind: OutputKind,
    ) {
        let node = self.node(place);
        assert!(!node.stopped, "released after the end");
        assert!(node.last < Some(name), "released out of order, or twice: {name:?}");
        assert!(node.epoch <= epoch, "released in an epoch that is over");
        (node.last, node.epoch) = (Some(name), epoch);
        self.reached.insert("release");
        self.check_right(place, name.0);
        let first = self.released.entry(name).or_insert_with(|| kind.clone());
        assert!(self.doubtful || *first == kind, "{name:?} released with different content");
    }

    /// Whether it may release this entry: by what was recorded, and by what is on which disk.
    fn check_right(&mut self, place: ReplicaId, index: Index) {
        let [node, other] = [place, place.other()].map(|at| &self.nodes[at.slot()]);
        assert!(self.members.contains(&node.incarnation), "released by one that is no member");
        let Some(log_digest) = node.disk.log_digest_at(index) else {
            panic!("{index} was released before it was on disk");
        };
        let record = node.replica.status().record.expect("only members release");
        let is_admitted = self.members.contains(&other.incarnation);
        if !record.members.has(place.other(), other.incarnation) {
            let replaced = record.members.is_duplex();
            assert!(replaced || self.is_recorded(place), "released alone without the grant");
        } else if is_admitted {
            assert!(
                other.disk.has(index, log_digest),
                "{index} was released and is on one disk only"
            );
        } else {
            assert!(self.is_recorded(place), "released alone without the grant");
        }
        let before = *self.acknowledged.entry(index).or_insert(log_digest);
        assert!(self.doubtful || before == log_digest, "{index} is another entry now");
    }

    /// By the witness's present record it is a member.
    fn is_recorded(&self, place: ReplicaId) -> bool {
        let record = self.witness.present(PAIR).expect("the witness works");
        record.members.has(place, self.nodes[place.slot()].incarnation)
    }

    /// A process that is recorded as anything but a joiner may release.
    pub(super) fn on_recorded(&mut self, record: &Record) {
        let joins = |place| record.origin == Origin::Joined && place != record.asker;
        for place in ReplicaId::BOTH.into_iter().filter(|place| !joins(*place)) {
            self.members.extend(record.members.at(place));
        }
    }

    /// A member tells a joiner that it is one.
    pub(super) fn on_admit(&mut self, from: ReplicaId, joiner: Incarnation) {
        if self.members.insert(joiner) {
            let other = &self.nodes[from.other().slot()];
            let last = self.acknowledged.iter().next_back();
            let has = last.is_none_or(|(index, log_digest)| other.disk.has(*index, *log_digest));
            assert!(self.doubtful || other.incarnation != joiner || has, "admitted too early");
        }
    }

    /// It serves, by the witness's present record too.
    pub(super) fn has_all(&self, place: ReplicaId) -> bool {
        let node = &self.nodes[place.slot()];
        let serves = matches!(node.replica.status().standing, Standing::Serving { .. });
        let member = self.members.contains(&node.incarnation) && self.is_recorded(place);
        node.runs() && !node.stopped && serves && member
    }

    pub(super) fn on_answer(&mut self, answer: ClientAnswer) {
        match answer {
            ClientAnswer::Opened { token, result: Ok(session) } => {
                self.opened.insert(token, session);
            }
            ClientAnswer::Reply { session, number, result: Ok(bytes) } => {
                self.reached.insert("reply");
                let first = self.replies.entry((session, number)).or_insert(bytes.clone());
                assert_eq!(*first, bytes, "request {number} took effect twice");
            }
            _ => {}
        }
    }

    /// A replica that serves has everything that was ever released.
    pub(super) fn check(&mut self, place: ReplicaId) {
        let Some((index, log_digest)) = self.acknowledged.iter().next_back() else { return };
        let has = self.nodes[place.slot()].disk.has(*index, *log_digest);
        assert!(self.doubtful || has || !self.has_all(place), "it serves without {index}");
    }

    /// Makes everything whole that can be, and sees whether the pair becomes redundant, and has
    /// done everything; unless a service went wrong, of which both may hold.
    pub(super) fn heal(&mut self) {
        self.witness_up = true;
        self.hear_again();
        self.cut = [false; 2];
        for place in ReplicaId::BOTH {
            self.node(place).paused = false;
            self.set_lazy(place, false);
            for link in [LinkId(0), LinkId(1)] {
                self.block(place, link, false);
            }
        }
        for round in 0..40 {
            for place in ReplicaId::BOTH {
                if !self.wrong {
                    self.restart(place);
                }
                self.reach_witness(place);
            }
            for link in [LinkId(0), LinkId(1)] {
                self.connect(link);
            }
            self.settle(10 + round * 10);
            if self.is_whole() || self.wrong {
                return;
            }
        }
        let record = self.witness.present(PAIR);
        let nodes = self.nodes.each_ref().map(|node| {
            let Status { incarnation, standing, released, last_index, pending, .. } =
                node.replica.status();
            (incarnation, standing, released, last_index, pending, node.disk.found())
        });
        panic!("the pair does not become redundant: {record:#?}, {nodes:#?}");
    }

    /// Both are members, and nothing is left to be done.
    fn is_whole(&self) -> bool {
        let whole = |status: Status| {
            matches!(status.standing, Standing::Serving { duplex: true, .. })
                && status.released == status.last_index
                && status.pending == 0
        };
        let has_all = ReplicaId::BOTH.into_iter().all(|place| self.has_all(place));
        has_all && self.nodes.iter().all(|node| whole(node.replica.status()))
    }
}
