//! The witness and clients.

use bytes::Bytes;
use lockstep::ids::{ConnId, Nonce, SessionId};
use lockstep::proto::Input;
use lockstep::wire::codec;
use lockstep::wire::frames::{ClientCall, WitnessAnswer, WitnessRefusal};

use super::shares::{FORBIDDEN, OpenSessions, owner};
use super::{PAIR, PROTOCOL, World};
use crate::source::Source;

impl World {
    fn hear_witness(&mut self, answer: WitnessAnswer) {
        if codec::encode_witness_answer(&answer).is_ok() {
            self.tell(Input::Witness(answer));
        }
    }

    // The witness and clients.

    pub(super) fn on_witness(&mut self, source: &mut Source<'_>) {
        let answer = match (source.byte(), self.asked) {
            (0..128, Some(asked)) => WitnessAnswer::Present { record: asked.next },
            (240.., _) => WitnessAnswer::Refused { reason: WitnessRefusal::Behind },
            _ => WitnessAnswer::Present { record: self.any_record(source) },
        };
        self.hear_witness(answer);
    }

    pub(super) fn on_client(&mut self, source: &mut Source<'_>) {
        let choice = source.byte();
        let (conn, alone) = (ConnId(u64::from(choice & 1)), choice & 2 == 2);
        let (session, token, next) = match source.byte() {
            known @ 0..192 => self.open_sessions.any(known),
            _ => (SessionId(source.number(1)), Nonce(source.number(1)), 1),
        };
        let permitted = choice < 192;
        let call = match choice >> 2 & 7 {
            0 => ClientCall::Hello { pair: PAIR, protocol: PROTOCOL },
            1 => ClientCall::Open { token: Nonce(source.number(1)), alone },
            2 => ClientCall::Close { session, token },
            3 => return self.tell(Input::ClientGone { conn }),
            4 => ClientCall::Probe,
            _ => {
                let (number, lowest) = OpenSessions::numbers(next, source);
                let body: &[u8] = if permitted { &[choice] } else { &FORBIDDEN };
                let body = Bytes::copy_from_slice(body);
                ClientCall::Request { session, token, number, lowest, alone, body }
            }
        };
        if codec::encode_client_calls(&vec![call.clone()]).is_ok() {
            self.tell(Input::Client { conn, owner: owner(choice), permitted, call });
        }
    }
}
