//! What the replicas want done, and whether they may.

use lockstep::event::Event;
use lockstep::ids::{Epoch, Index, LinkId, Place};
use lockstep::output::OutputKind;
use lockstep::proto::{Input, Output, Standing, Status};
use lockstep::record::Origin;
use lockstep::wire::frames::ClientAnswer;

use super::world::{Name, PAIR, World, time};

impl World {
    pub(super) fn drain(&mut self, place: Place) {
        let now = time(self.now);
        while let Some(output) = self.node(place).replica.poll() {
            match output {
                Output::Peer { links, frame } => {
                    for link in links.iter() {
                        self.send(place, link, &frame);
                    }
                }
                Output::CloseLink { link } => self.disconnect(link),
                Output::Witness(call) => self.ask(place, &call),
                Output::Append(entry) => {
                    self.node(place).replica.handle(now, Input::Persisted(entry.index));
                }
                Output::PersistMembership { number, .. } => {
                    self.node(place).replica.handle(now, Input::MembershipPersisted(number));
                }
                Output::Execute(entry) => self.node(place).todo.push_back(entry),
                Output::Release { index, step, ordinal, epoch, kind } => {
                    self.on_release(place, (index, step, ordinal), epoch, kind);
                }
                Output::Client { answer, .. } => self.on_answer(answer),
                Output::Stop { .. } => self.node(place).stopped = true,
                Output::Event(event) => self.on_event(&event),
                // Its replicas have no disk and no peer that comes back.
                _ => {}
            }
        }
        self.check(place);
    }

    fn on_event(&mut self, event: &Event) {
        let reached = match event {
            Event::HandedOver { .. } => "hand-over",
            Event::Diverged { .. } => "divergence",
            Event::Cleared { .. } => "suspicion that passed",
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

    pub(super) fn on_release(&mut self, place: Place, name: Name, epoch: Epoch, kind: OutputKind) {
        let node = self.node(place);
        assert!(!node.stopped, "released after the end");
        assert!(node.last < Some(name), "released out of order, or twice: {name:?}");
        assert!(node.epoch <= epoch, "released in an epoch that is over");
        (node.last, node.epoch) = (Some(name), epoch);
        self.reached.insert("release");
        let first = self.released.entry(name).or_insert_with(|| kind.clone());
        assert_eq!(*first, kind, "{name:?} released with different content");
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

    pub(super) fn check(&mut self, place: Place) {
        let node = &self.nodes[place.slot()];
        if node.replica.released() > Index(0) && node.is_alone() {
            self.alone.insert(node.incarnation);
        }
        assert!(self.alone.len() <= 1, "both went on alone");
    }

    /// Makes everything whole that can be, and sees whether the pair, or who is left of it,
    /// comes to serve and to have done everything.
    pub(super) fn heal(&mut self) {
        self.witness_up = true;
        self.hear_again();
        self.cut = [false; 2];
        for place in Place::BOTH {
            self.node(place).paused = false;
            for link in [LinkId(0), LinkId(1)] {
                self.block(place, link, false);
            }
        }
        for round in 0..40 {
            for link in [LinkId(0), LinkId(1)] {
                self.connect(link);
            }
            for place in Place::BOTH {
                self.reach_witness(place);
            }
            self.settle(10 + round * 10);
            let unserved = self.unserved();
            if unserved.is_none() || self.wrong {
                return;
            }
            assert!(round < 39, "a member does not come to serve: {unserved:?}");
        }
    }

    /// A member that does not serve yet, or has not done everything.
    pub(super) fn unserved(&self) -> Option<Status> {
        let record = self.witness.present(PAIR).expect("the witness works");
        let members = Place::BOTH.map(|place| {
            let node = &self.nodes[place.slot()];
            let member = record.members.has(place, node.incarnation);
            (member && node.alive && !node.stopped).then(|| node.replica.status())
        });
        members.into_iter().flatten().find(|status| {
            let serves = matches!(status.standing, Standing::Serving { .. });
            !serves || status.released != status.held || status.kept != 0
        })
    }
}
