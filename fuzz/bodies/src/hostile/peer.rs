//! What the peer says of itself, of the log and of records.

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::DeviceId;
use lockstep::ids::{
    Epoch, Incarnation, Index, Lineage, LinkId, Nonce, OriginNumber, PairId, ReplicaId,
};
use lockstep::outline::{Outline, OutputOutline, Target};
use lockstep::proto::Input;
use lockstep::record::{Members, Origin, Record, Request};
use lockstep::wire::codec;
use lockstep::wire::frames::{Forward, Hello, PeerFrame, Progress};

use super::{PAIR, THEM, US, World, environment, time};
use crate::source::Source;

impl World {
    pub(super) fn hello(
        &self,
        incarnation: Incarnation,
        heard: bool,
        record: Option<Record>,
    ) -> Hello {
        let place = self.place.other();
        Hello {
            pair: PAIR,
            place,
            incarnation,
            environment: environment(),
            record,
            heard,
            claim: None,
            enrolled: None,
            wall: time(self.now).wall,
        }
    }

    pub(super) fn hear(&mut self, link: LinkId, frame: PeerFrame) {
        // What the codec refuses never comes here.
        let Ok(bytes) = codec::encode_peer(&frame) else { return };
        let frame = codec::decode_peer(&bytes).expect("what was just written");
        self.tell(Input::Peer { link, frame });
    }

    // The peer.

    pub(super) fn on_hello(&mut self, link: LinkId, source: &mut Source<'_>) {
        let incarnation = source.pick(&[THEM, THEM, US, Incarnation(30), Incarnation(u64::MAX)]);
        let record = source.flag().then(|| self.any_record(source));
        let mut hello = self.hello(incarnation, source.flag(), record);
        match source.byte() {
            0..8 => hello.environment.service = "é".repeat(128),
            8..12 => hello.place = self.place,
            12..16 => hello.environment.service_version = 2,
            _ => {}
        }
        self.hear(link, PeerFrame::Hello(hello));
    }

    pub(super) fn epoch(&self, source: &mut Source<'_>) -> (Lineage, Epoch) {
        let record = &self.record;
        if source.byte() < 240 {
            return (record.lineage, record.epoch);
        }
        (Lineage(u32::from(source.byte() & 1)), Epoch(source.number(record.epoch.0)))
    }

    fn any_progress(&self, source: &mut Source<'_>) -> Progress {
        let status = self.replica.status();
        let mut progress = Progress {
            last_index: status.last_index,
            entries: Digest::ZERO,
            persisted: status.last_index,
            executed: status.executed,
            outputs: Digest::ZERO,
            halted: false,
            ordered: OriginNumber(0),
        };
        let choice = source.byte();
        if choice & 1 == 1 {
            progress.last_index = Index(source.number(status.last_index.0));
            progress.persisted = progress.last_index;
        }
        if choice & 2 == 2 {
            progress.executed = Index(source.number(status.executed.0));
        }
        if choice & 4 == 4 {
            progress.ordered = OriginNumber(source.number(status.pending as u64));
        }
        if choice & 8 == 8 {
            progress.persisted = Index(source.number(status.last_index.0));
        }
        progress.halted = choice > 240;
        // A right digest: it has executed what we have to what we have.
        if choice & 16 == 16 {
            progress.executed = Index(0);
        }
        progress
    }

    pub(super) fn on_ping(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let progress = self.any_progress(source);
        self.hear(link, PeerFrame::Ping { sequence: source.number(1), lineage, epoch, progress });
    }

    pub(super) fn on_batch(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let progress = self.any_progress(source);
        let status = self.replica.status();
        let mut index = source_near(source, status.last_index.next());
        let mut entries = Vec::new();
        for _ in 0..source.below(24) {
            entries.push(self.any_entry(index, &status, source));
            index = Index(index.0.saturating_add(if source.byte() > 224 { 2 } else { 1 }));
        }
        let mut forwards = Vec::new();
        let first = source.number(1);
        for at in 0..source.below(24) as u64 {
            let number = OriginNumber(first.wrapping_add(at));
            forwards.push(Forward { number, kind: self.any_input(source) });
        }
        self.hear(link, PeerFrame::Batch { lineage, epoch, progress, entries, forwards });
    }

    pub(super) fn any_record(&self, source: &mut Source<'_>) -> Record {
        let record = &self.record;
        let choice = source.byte();
        let asker = if choice & 1 == 0 { ReplicaId::A } else { ReplicaId::B };
        let them = source.pick(&[THEM, THEM, Incarnation(30), US, Incarnation(u64::MAX)]);
        let epoch = Epoch(source.number(record.epoch.0.wrapping_add(1)));
        let next = match choice >> 1 & 7 {
            0 => Record::vacant(PAIR, Lineage(u32::from(choice >> 4)), epoch),
            1 | 2 => Record { epoch, ..self.formed(asker, US, them) },
            3 => Record { epoch, ..self.formed(asker, Incarnation(11), them) },
            4 => {
                let at = self.place.other();
                let members = Members::alone(at, them);
                Record { epoch, members, asker: at, origin: Origin::Alone, ..*record }
            }
            5 => {
                let members = Members::alone(self.place, US);
                Record { epoch, members, asker: self.place, origin: Origin::Alone, ..*record }
            }
            _ => Record { epoch, asker, origin: Origin::Renewal(record.digest()), ..*record },
        };
        let pair = if choice > 248 { PairId([8; 16]) } else { PAIR };
        Record { pair, nonce: Nonce(u64::from(choice)), ..next }
    }

    pub(super) fn on_record(&mut self, link: LinkId, source: &mut Source<'_>) {
        let record = self.any_record(source);
        self.hear(link, PeerFrame::Epoch { record });
    }

    pub(super) fn on_asked(&mut self, link: LinkId, source: &mut Source<'_>) {
        let next = self.any_record(source);
        let request = Request { present: self.record.digest(), next };
        self.hear(link, PeerFrame::Asked { request });
    }

    pub(super) fn on_digests(&mut self, link: LinkId, source: &mut Source<'_>) {
        let (lineage, epoch) = self.epoch(source);
        let from = Index(source.number(self.replica.status().executed.0));
        let outputs = vec![Digest([source.byte(); 16]); source.below(24)];
        // A list of none says nothing.
        if outputs.is_empty() {
            return self.on_outline(link, from, source);
        }
        self.hear(link, PeerFrame::Digests { lineage, epoch, from, outputs });
    }

    fn on_outline(&mut self, link: LinkId, index: Index, source: &mut Source<'_>) {
        let output = |choice: u8| OutputOutline {
            target: if choice & 1 == 0 { Target::Reply } else { Target::Device(DeviceId(1)) },
            digest: Digest([choice; 16]),
            payload: Digest([choice >> 1; 16]),
            len: u64::from(choice),
            head: Bytes::from(vec![choice; usize::from(choice) / 2]),
        };
        let outputs: Vec<_> = (0..source.below(4)).map(|_| output(source.byte())).collect();
        let outline = Outline {
            index,
            before: Digest([source.byte(); 16]),
            count: source.number(outputs.len() as u64),
            outputs,
            wakeup: None,
            panicked: source.byte() > 200,
        };
        self.hear(link, PeerFrame::Outline(outline));
    }

    pub(super) fn on_farewell(&mut self, link: LinkId, source: &mut Source<'_>) {
        let reason = "é".repeat(source.below(3) * 256);
        let frame = match source.byte() {
            0..16 => PeerFrame::Refuse { reason },
            _ => PeerFrame::Leave { epoch: self.epoch(source).1, reason },
        };
        self.hear(link, frame);
    }
}

pub(super) fn source_near(source: &mut Source<'_>, next: Index) -> Index {
    if source.byte() < 208 { next } else { Index(source.number(next.0)) }
}
