//! Handlers of clients' connections (section C of `docs/protocol.md`).

use super::io::{Input, Output, Standing};
use super::replica::Replica;
use crate::entry::InputKind;
use crate::ids::{ConnId, OwnerId};
use crate::limits;
use crate::output::{OutputKind, Refusal};
use crate::wire::frames::{ClientAnswer, ClientCall, ClientRefusal};
use crate::wire::header;

impl Replica {
    pub(super) fn on_client(
        &mut self,
        conn: ConnId,
        owner: OwnerId,
        permitted: bool,
        call: ClientCall,
    ) {
        let (kind, alone) = match call {
            ClientCall::Hello { pair, protocol } => {
                if pair != self.config.pair {
                    return self.refuse(conn, ClientRefusal::WrongPair);
                }
                if !(protocol.oldest..=protocol.newest).contains(&header::VERSION) {
                    return self.refuse(conn, ClientRefusal::Version);
                }
                return self.welcome(conn);
            }
            ClientCall::Probe => return,
            _ if !self.gateway.knows(conn) => {
                return self.refuse(conn, ClientRefusal::Protocol);
            }
            ClientCall::Open { token, alone } => {
                (InputKind::SessionOpenFor { owner, token }, alone)
            }
            ClientCall::Request { session, token, number, lowest, alone, body } => {
                if body.len() > limits::INPUT_BYTES {
                    return self.refuse(conn, ClientRefusal::Protocol);
                }
                let kind = match permitted {
                    true => InputKind::SessionRequest { session, token, number, lowest, body },
                    false => InputKind::SessionRefused { session, token, number, lowest },
                };
                (kind, alone)
            }
            ClientCall::Close { session, token } => {
                (InputKind::SessionClose { session, token }, false)
            }
        };
        if !self.gateway.attach(conn, &kind) {
            return self.refuse(conn, ClientRefusal::Busy);
        }
        // Rule C3.
        if alone || self.is_sequencer() {
            self.take_from_client(conn, kind);
        } else if self.gateway.has_room() {
            self.gateway.copy(kind, self.now.mono);
        } else {
            self.refuse(conn, ClientRefusal::Busy);
        }
    }

    fn take_from_client(&mut self, conn: ConnId, kind: InputKind) {
        if self.is_sequencer() {
            // What is left of a takeover came first, perhaps from this client.
            self.take_over_copies();
        }
        // The driver stops reading clients when no input is taken; a few frames may be under
        // way all the same, and those fit in the margin that `takes_input` leaves.
        if self.pending.has_room() {
            self.take(kind);
        } else {
            self.refuse(conn, ClientRefusal::Busy);
        }
    }

    fn welcome(&mut self, conn: ConnId) {
        match self.standing {
            Standing::Starting | Standing::Joining => self.defer(conn, ClientRefusal::Starting),
            Standing::Holding => self.defer(conn, ClientRefusal::Holding),
            Standing::Out => self.refuse(conn, ClientRefusal::Removed),
            Standing::Serving { epoch, .. } => {
                if !self.gateway.connect(conn) {
                    return self.refuse(conn, ClientRefusal::Busy);
                }
                let (place, incarnation) = (self.config.place, self.incarnation);
                self.answer(conn, ClientAnswer::Welcome { place, incarnation, epoch });
                if let Some(back) = self.peer_back() {
                    self.answer(conn, back);
                }
            }
        }
    }

    /// Keeps the connection until this replica serves, so that the client need not be looked for
    /// then (rule C5).
    fn defer(&mut self, conn: ConnId, reason: ClientRefusal) {
        if self.gateway.defer(conn) {
            let incarnation = self.incarnation;
            self.answer(conn, ClientAnswer::NotYet { incarnation, reason });
        } else {
            self.refuse(conn, ClientRefusal::Busy);
        }
    }

    /// Welcomes the clients that have waited for this replica to serve.
    pub(super) fn welcome_deferred(&mut self) {
        if let Standing::Serving { .. } = self.standing {
            for conn in self.gateway.take_deferred() {
                self.welcome(conn);
            }
        }
    }

    /// Tells every client that the other CoServer is back (rule C7).
    pub(super) fn tell_peer_back(&mut self) {
        let Some(back) = self.peer_back() else { return };
        for conn in self.gateway.welcomed() {
            self.answer(conn, back.clone());
        }
    }

    /// The other CoServer, if it is a member or is being brought up to date by this one.
    fn peer_back(&self) -> Option<ClientAnswer> {
        let joiner = self.joiner.as_ref().map(|joiner| joiner.incarnation);
        let member = || self.membership.peer().filter(|_| self.is_duplex());
        let incarnation = joiner.or_else(member)?;
        Some(ClientAnswer::PeerBack { place: self.config.place.other(), incarnation })
    }

    fn answer(&mut self, conn: ConnId, answer: ClientAnswer) {
        self.outputs.push_back(Output::Client { conn, answer });
    }

    fn refuse(&mut self, conn: ConnId, reason: ClientRefusal) {
        self.gateway.disconnect(conn);
        self.answer(conn, ClientAnswer::Refused { reason });
        self.outputs.push_back(Output::CloseClient { conn });
    }

    pub(super) fn turn_clients_away(&mut self, reason: ClientRefusal) {
        for conn in self.gateway.drain() {
            self.refuse(conn, reason);
        }
    }

    /// Once out, clients get a clear answer and everything else is over.
    pub(super) fn handle_when_out(&mut self, input: Input) {
        if let Input::Client { conn, .. } = input {
            self.refuse(conn, ClientRefusal::Removed);
        }
    }

    /// A released answer goes to the client that waits for it here, if one does. Both CoServers
    /// have the same, so it does not matter whose is the first (rule C4).
    pub(super) fn answer_client(&mut self, kind: OutputKind) {
        let (conn, answer) = match kind {
            OutputKind::Opened { token, result } => {
                (self.gateway.opener(token), ClientAnswer::Opened { token, result })
            }
            OutputKind::Reply { session, token, number, result } => {
                let conn = self.gateway.listener(session, token);
                if matches!(result, Err(Refusal::UnknownSession)) {
                    self.gateway.forget(session, token);
                }
                (conn, ClientAnswer::Reply { session, number, result })
            }
            OutputKind::Device { .. } => return,
        };
        if let Some(conn) = conn {
            self.answer(conn, answer);
        }
    }

    /// A follower that can forward what the sequencer did not order.
    pub(super) fn may_forward(&self) -> bool {
        self.membership.record().is_some() && self.pending.has_room()
    }

    pub(super) fn on_forward_due(&mut self) {
        let (now, delay) = (self.now.mono, self.config.forward_delay);
        while self.may_forward()
            && let Some(kind) = self.gateway.overdue(delay, now)
        {
            self.take(kind);
        }
    }
}
