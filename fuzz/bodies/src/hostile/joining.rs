//! What is said while one brings the other up to date.

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::ids::{Index, LinkId};
use lockstep::wire::frames::{CheckpointFile, Fetch, LogPosition, PeerFrame};

use super::World;
use super::peer::source_near;
use crate::source::Source;

impl World {
    pub(super) fn on_joining(&mut self, link: LinkId, source: &mut Source<'_>) {
        let last_index = self.replica.status().last_index;
        let near = source_near(source, last_index);
        let frame = match source.byte() % 11 {
            0 => PeerFrame::Join {
                points: vec![LogPosition { index: near, log_digest: Digest::ZERO }],
                unusable_up_to: near.0.is_multiple_of(4).then_some(near),
            },
            1 => {
                let from = LogPosition { index: near, log_digest: Digest([source.byte(); 16]) };
                PeerFrame::Offer {
                    record: self.any_record(source),
                    from,
                    checkpoint: None,
                    last_index,
                }
            }
            2 => {
                let len = source.number(600_000);
                let file = CheckpointFile { index: near, len, hash: Digest::ZERO };
                let from = LogPosition { index: near, log_digest: Digest::ZERO };
                let (record, checkpoint) = (self.any_record(source), Some(file));
                PeerFrame::Offer { record, from, checkpoint, last_index }
            }
            3 => PeerFrame::Fetch(Fetch::Entries { from: near }),
            4 => PeerFrame::Fetch(Fetch::Chunk { checkpoint: near, offset: source.number(1) }),
            5 => {
                let status = self.replica.status();
                let after = near;
                let entries = (1..=source.below(5) as u64)
                    .map_while(|step| after.0.checked_add(step))
                    .map(|at| self.any_entry(Index(at), &status, source))
                    .collect();
                PeerFrame::Entries {
                    after,
                    entries,
                    last_index: Index(source.number(last_index.0)),
                }
            }
            6 => {
                let bytes = Bytes::from(vec![0; source.below(300)]);
                let offset = source.number(0);
                PeerFrame::Chunk { checkpoint: near, offset, bytes }
            }
            7 => PeerFrame::Unavailable,
            8 => PeerFrame::Admit { record: self.any_record(source), from: near },
            9 => PeerFrame::Admitted { epoch: self.epoch(source).1 },
            _ => PeerFrame::Checkpoint { index: near, hash: Digest::ZERO },
        };
        self.hear(link, frame);
    }
}
