//! Entries and inputs as a peer may send them.

use bytes::Bytes;
use lockstep::entry::{Entry, EntryKind, InputKind, Origin as From};
use lockstep::ids::{DeviceId, Epoch, Incarnation, Index, LogTime, Nonce, OriginNumber};
use lockstep::limits;
use lockstep::proto::Status;

use super::shares::{OpenSessions, owner};
use super::{THEM, US, World};
use crate::source::Source;

impl World {
    pub(super) fn any_entry(
        &self,
        index: Index,
        status: &Status,
        source: &mut Source<'_>,
    ) -> Entry {
        let choice = source.byte();
        let incarnation = source.pick(&[THEM, THEM, THEM, THEM, US, Incarnation(30)]);
        let place = if choice & 1 == 0 { self.place.other() } else { self.place };
        let number = if choice & 6 == 0 { source.number(1) } else { 0 };
        let step = index.0.wrapping_sub(status.last_index.0).wrapping_mul(1_000);
        let mut time = status.time.0.wrapping_add(step);
        if choice > 240 {
            time = source.number(time);
        }
        let epoch = if choice & 0x78 == 0x78 { source.number(1) } else { self.record.epoch.0 };
        Entry {
            index,
            epoch: Epoch(epoch),
            time: LogTime(time),
            origin: From { place, incarnation, number: OriginNumber(number) },
            kind: self.any_kind(source),
        }
    }

    pub(super) fn any_kind(&self, source: &mut Source<'_>) -> EntryKind {
        let choice = source.byte();
        match choice & 15 {
            0..4 => EntryKind::Tick,
            4 => EntryKind::Genesis { seed: [choice; 32] },
            5 => EntryKind::Membership { record: self.any_record(source) },
            6 => EntryKind::HandOver { to: self.place },
            7 => EntryKind::HandOver { to: self.place.other() },
            8..12 => {
                let inputs = (0..=choice >> 4).map(|_| self.any_input(source));
                EntryKind::Inputs(inputs.collect::<Vec<_>>().into())
            }
            _ => self.any_input(source).into(),
        }
    }

    pub(super) fn any_input(&self, source: &mut Source<'_>) -> InputKind {
        let choice = source.byte();
        let (session, token, next) = self.open_sessions.any(choice);
        match choice & 7 {
            0 => {
                let token = Nonce(1 + u64::from(choice >> 4));
                InputKind::SessionOpenFor { owner: owner(choice >> 4), token }
            }
            1 | 2 => {
                let (number, lowest) = OpenSessions::numbers(next, source);
                let body = Bytes::copy_from_slice(&[choice]);
                InputKind::SessionRequest { session, token, number, lowest, body }
            }
            3 => InputKind::SessionClose { session, token },
            4 => {
                let (number, lowest) = OpenSessions::numbers(next, source);
                InputKind::SessionRefused { session, token, number, lowest }
            }
            5 if choice > 240 => {
                let bytes = Bytes::from(vec![choice; limits::BULK_BYTES]);
                InputKind::Device { device: DeviceId(0), bytes }
            }
            _ => {
                let device = DeviceId(u16::from(choice));
                InputKind::Device { device, bytes: Bytes::copy_from_slice(&[source.byte()]) }
            }
        }
    }
}
