//! What comes from outside: devices, clients, faults.

use bytes::Bytes;
use lockstep::ids::{ConnId, DeviceId, LinkId, Nonce, OwnerId, ReplicaId, RequestNumber};
use lockstep::proto::{Command, Input};
use lockstep::unit::records::Reader;
use lockstep::unit::{Unit, UnitConfig};
use lockstep::wire::frames::ClientCall;

use super::disk::Disk;
use super::world::{PAIR, PROTOCOL, World, node, time};
use crate::counting_service::CountingService;
use crate::source::Source;

impl World {
    pub(super) fn device(&mut self, place: ReplicaId, command: u8) {
        // A panic on both ends the pair by agreement: rare, not one in 256.
        let command = if command == 0xFF { 0x0F } else { command };
        self.device_bytes(place, command);
    }

    pub(super) fn device_bytes(&mut self, place: ReplicaId, command: u8) {
        if self.node(place).runs() && self.node(place).replica.takes_input() {
            let bytes = Bytes::copy_from_slice(&[command]);
            self.tell(place, Input::Device { device: DeviceId(0), bytes });
        }
    }

    /// Many inputs at once.
    pub(super) fn burst(&mut self, place: ReplicaId, many: u8) {
        for command in 0..many / 4 {
            self.device(place, command);
        }
    }

    pub(super) fn greet(&mut self, place: ReplicaId, source: &mut Source<'_>) {
        let conn = ConnId(source.below(2) as u64);
        if source.byte() > 224 {
            return self.tell(place, Input::ClientGone { conn });
        }
        let call = ClientCall::Hello { pair: PAIR, protocol: PROTOCOL };
        self.tell(place, Input::Client { conn, owner: OwnerId(1), permitted: true, call });
    }

    pub(super) fn request(&mut self, place: ReplicaId, source: &mut Source<'_>) {
        let choice = source.byte();
        let (conn, alone) = (ConnId(u64::from(choice & 1)), choice & 2 != 0);
        let token = Nonce(1 + u64::from(choice >> 2 & 3));
        let call = match (choice >> 4, self.opened.get(&token).copied()) {
            (0..=2, _) | (_, None) => ClientCall::Open { token, alone },
            (15, Some(session)) => ClientCall::Close { session, token },
            (_, Some(session)) => {
                let number = RequestNumber(1 + source.below(6) as u64);
                let lowest = RequestNumber(1 + (number.0 - 1) / 3);
                // The same request has the same body wherever, and whenever, it is sent.
                let body = Bytes::copy_from_slice(&number.0.to_le_bytes());
                ClientCall::Request { session, token, number, lowest, alone, body }
            }
        };
        self.tell(place, Input::Client { conn, owner: OwnerId(1), permitted: true, call });
    }

    /// What happens once at most, if at all.
    pub(super) fn rare(&mut self, place: ReplicaId, choice: u8) {
        match choice {
            0..16 => self.restart(place),
            16..48 => self.kill(place),
            48..64 => self.break_service(place),
            64..72 => {
                self.wrong = true;
                self.device_bytes(place, 0xFF);
            }
            72..84 => self.tell(place, Input::Command(Command::Stop)),
            84..108 => self.restart(place),
            108..120 => self.crash(place, usize::from(choice & 3)),
            120..132 => {
                self.crash(place, usize::from(choice & 1));
                self.crash(place.other(), usize::from(choice >> 1 & 1));
            }
            132..144 => {
                self.restart(place);
                self.restart(place.other());
            }
            144..156 => self.replace_disk(place, choice & 1 == 0),
            156..168 => self.settle(300),
            _ => {}
        }
    }

    /// What happens to a disk.
    pub(super) fn disk(&mut self, place: ReplicaId, choice: u8) {
        match choice {
            0..128 => {
                self.work(place, 1 + usize::from(choice & 7));
                self.drain(place);
            }
            128..176 => self.set_lazy(place, true),
            176..208 => self.set_lazy(place, false),
            208..232 => self.node(place).disk.drop_old(),
            232..240 => self.fail_disk(place, usize::from(choice & 3)),
            _ => self.crash(place, usize::from(choice & 7)),
        }
    }

    /// The process dies, and of what waited for its disk only the first so much is there.
    fn crash(&mut self, place: ReplicaId, kept: usize) {
        if self.node(place).alive {
            self.tear(place, kept);
            self.kill(place);
        }
    }

    /// A machine comes with another disk, or its own cannot be read, while the other has all.
    fn replace_disk(&mut self, place: ReplicaId, wiped: bool) {
        if !self.has_all(place.other()) {
            return;
        }
        self.crash(place, 0);
        if wiped {
            self.node(place).disk = Disk::new();
        } else {
            self.node(place).disk.unreadable = true;
        }
        self.reached.insert(if wiped { "wiped disk" } else { "unreadable disk" });
        self.restart(place);
    }

    /// From here on the service of one node counts wrongly.
    pub(super) fn break_service(&mut self, place: ReplicaId) {
        let node = self.node(place);
        if node.unit.has_panicked() {
            return;
        }
        let bytes = node.unit.freeze().to_bytes().expect("a small state");
        let mut reader = Reader::open(bytes).expect("what was just written");
        node.unit = Unit::restore(CountingService::faulty(), UnitConfig::default(), &mut reader)
            .expect("its own");
        self.wrong = true;
    }

    /// What was not written is lost.
    pub(super) fn kill(&mut self, place: ReplicaId) {
        self.leave_witness(place);
        self.tear(place, 0);
        self.node(place).alive = false;
        self.node(place).inbox.clear();
        self.disconnect(LinkId(0));
        self.disconnect(LinkId(1));
    }

    /// Another process takes a dead one's place, with what its disk has.
    pub(super) fn restart(&mut self, place: ReplicaId) {
        let generation = self.number();
        if self.node(place).alive && !self.node(place).stopped {
            return;
        }
        self.kill(place);
        self.doubtful |= self.wrong;
        let disk = ::core::mem::replace(&mut self.node(place).disk, Disk::new());
        *self.node(place) = node(place, 1 + generation * 100, disk, time(self.now));
        self.drain(place);
        for link in [LinkId(0), LinkId(1)] {
            self.connect(link);
        }
        self.reach_witness(place);
    }

    /// A process is not scheduled for a while, or is again.
    pub(super) fn pause(&mut self, place: ReplicaId) {
        self.node(place).paused ^= true;
        self.fire();
    }
}
