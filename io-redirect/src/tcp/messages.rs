//! What the two halves of the TCP device say to each other.
//!
//! Laid out by hand, little-endian, a tag first. Inputs are log entries and outputs are
//! compared, so the layout is part of what both CoServers must agree on: a change raises
//! [`VERSION`], which goes into the configuration digest.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lockstep::ids::Incarnation;
use rkyv::{Archive, Deserialize, Serialize};

use super::{ConnId, ListenerId, ResetCause, Target};
use crate::limits;

mod fields;

use fields::{
    get_address, get_handle, get_process, get_string, get_target, get_text, get_windows,
    put_address, put_head, put_target, put_text, put_windows,
};

/// The version of the layout.
pub(crate) const VERSION: u32 = 6;

/// A connection by the name that both halves know. It begins with the process that carries the
/// connection. So a name from before a restart is never taken for one from after it, whichever half
/// says it, and however late.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub(crate) struct Handle {
    /// Zero, which no process is called, while a connection that is to be made waits for one.
    pub(crate) process: Incarnation,
    /// Accepted: counts up from 1 in that process. Made by the service: its [`ConnId`], marked.
    number: u64,
}

/// Marks the number of a connection that the service makes.
const MADE: u64 = 1 << 63;

impl Handle {
    /// The nth connection that this process accepts.
    pub(crate) fn accepted(process: Incarnation, nth: u64) -> Self {
        Self { process, number: nth & !MADE }
    }

    /// A connection that the service has this process make.
    pub(crate) fn made(process: Incarnation, conn: ConnId) -> Self {
        Self { process, number: conn.0 | MADE }
    }

    /// No connection: only the process.
    pub(crate) fn of_process(process: Incarnation) -> Self {
        Self { process, number: 0 }
    }

    /// The id of a connection that the service makes.
    pub(crate) fn made_by_service(self) -> Option<ConnId> {
        (self.number & MADE != 0).then_some(ConnId(self.number & !MADE))
    }
}

/// Goes from the outside half to the inside half, as an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Accepted {
        handle: Handle,
        listener: ListenerId,
        peer: SocketAddr,
        local: SocketAddr,
    },
    Connected {
        handle: Handle,
        peer: SocketAddr,
        local: SocketAddr,
    },
    ConnectFailed {
        handle: Handle,
        why: u8,
        text: Bytes,
    },
    /// Bytes came; and this many of those sent have been written since the last report.
    Data {
        handle: Handle,
        written: u32,
        bytes: Bytes,
    },
    Written {
        handle: Handle,
        written: u32,
    },
    PeerClosed {
        handle: Handle,
    },
    /// Both directions ended in good order.
    Ended {
        handle: Handle,
    },
    Reset {
        handle: Handle,
        cause: ResetCause,
    },
    /// This process has file descriptors for fewer connections than the bounds allow.
    Room {
        /// Names the process only.
        handle: Handle,
        room: Room,
    },
}

/// For how many connections a process has file descriptors.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many connections there may be in all.
    pub(crate) total: u32,
    /// How many of them those that connect from outside may take.
    pub(crate) accepted: u32,
}

/// Goes from the inside half to the outside half, as an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Listen {
        process: Incarnation,
        listener: ListenerId,
        options: ListenOrder,
    },
    Unlisten {
        process: Incarnation,
        listener: ListenerId,
    },
    Connect {
        handle: Handle,
        target: Target,
        timeout_ms: u32,
        windows: Windows,
    },
    Send {
        handle: Handle,
        bytes: Bytes,
    },
    Shutdown {
        handle: Handle,
    },
    Close {
        handle: Handle,
    },
    Reset {
        handle: Handle,
    },
    Credit {
        handle: Handle,
        bytes: u32,
    },
    /// An accepted connection is one too many: it gets the listener's text, and is let go.
    Refuse {
        handle: Handle,
    },
    /// An accepted connection gives way to another: the same.
    Displace {
        handle: Handle,
    },
    /// An accepted connection is not to be counted as part of its address's share.
    Protect {
        handle: Handle,
    },
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenOrder {
    pub(crate) name: String,
    pub(crate) refusal: Bytes,
    pub(crate) connections: u32,
    pub(crate) windows: Windows,
}

/// How far either half of one connection may run ahead of the other.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) read: u32,
    pub(crate) send: u32,
}

/// The bytes are no word of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

pub(crate) const DATA_HEADER: usize = 1 + 16 + 4;
pub(crate) const SEND_HEADER: usize = 1 + 16;

const ACCEPTED: u8 = 1;
const CONNECTED: u8 = 2;
const CONNECT_FAILED: u8 = 3;
const DATA: u8 = 4;
const WRITTEN: u8 = 5;
const PEER_CLOSED: u8 = 6;
const ENDED: u8 = 7;
const BROKEN_OFF: u8 = 8;
const ROOM: u8 = 9;

const LISTEN: u8 = 1;
const UNLISTEN: u8 = 2;
const CONNECT: u8 = 3;
const SEND: u8 = 4;
const SHUTDOWN: u8 = 5;
const CLOSE: u8 = 6;
const RESET: u8 = 7;
const CREDIT: u8 = 8;
const REFUSE: u8 = 9;
const DISPLACE: u8 = 10;
const PROTECT: u8 = 11;

/// The head of [`Event::Data`]; the bytes follow.
pub(crate) fn put_data_header(out: &mut BytesMut, handle: Handle, written: u32) {
    put_head(out, DATA, handle);
    out.put_u32_le(written);
}

/// The head of [`Command::Send`]; the bytes follow.
pub(crate) fn put_send_header(out: &mut BytesMut, handle: Handle) {
    put_head(out, SEND, handle);
}

impl Event {
    /// Which connection it is about, and so which process says it.
    pub(crate) fn handle(&self) -> Handle {
        match self {
            Self::Accepted { handle, .. }
            | Self::Connected { handle, .. }
            | Self::ConnectFailed { handle, .. }
            | Self::Data { handle, .. }
            | Self::Written { handle, .. }
            | Self::PeerClosed { handle }
            | Self::Ended { handle }
            | Self::Reset { handle, .. }
            | Self::Room { handle, .. } => *handle,
        }
    }

    #[cfg_attr(not(feature = "runtime"), allow(dead_code, reason = "for the outside half"))]
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(DATA_HEADER + 40);
        match self {
            Self::Accepted { handle, listener, peer, local } => {
                put_head(&mut out, ACCEPTED, *handle);
                out.put_u16_le(listener.0);
                put_address(&mut out, *peer);
                put_address(&mut out, *local);
            }
            Self::Connected { handle, peer, local } => {
                put_head(&mut out, CONNECTED, *handle);
                put_address(&mut out, *peer);
                put_address(&mut out, *local);
            }
            Self::ConnectFailed { handle, why, text } => {
                put_head(&mut out, CONNECT_FAILED, *handle);
                out.put_u8(*why);
                put_text(&mut out, text);
            }
            Self::Data { handle, written, bytes } => {
                put_data_header(&mut out, *handle, *written);
                out.put_slice(bytes);
            }
            Self::Written { handle, written } => {
                put_head(&mut out, WRITTEN, *handle);
                out.put_u32_le(*written);
            }
            Self::PeerClosed { handle } => put_head(&mut out, PEER_CLOSED, *handle),
            Self::Ended { handle } => put_head(&mut out, ENDED, *handle),
            Self::Reset { handle, cause } => {
                put_head(&mut out, BROKEN_OFF, *handle);
                out.put_u8(cause.code());
            }
            Self::Room { handle, room } => {
                put_head(&mut out, ROOM, *handle);
                out.put_u32_le(room.total);
                out.put_u32_le(room.accepted);
            }
        }
        out.freeze()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Garbled> {
        let mut rest = bytes.clone();
        let tag = rest.try_get_u8().or(Err(Garbled))?;
        let handle = get_handle(&mut rest)?;
        let report = match tag {
            ACCEPTED => Self::Accepted {
                handle,
                listener: ListenerId(rest.try_get_u16_le().or(Err(Garbled))?),
                peer: get_address(&mut rest)?,
                local: get_address(&mut rest)?,
            },
            CONNECTED => Self::Connected {
                handle,
                peer: get_address(&mut rest)?,
                local: get_address(&mut rest)?,
            },
            CONNECT_FAILED => Self::ConnectFailed {
                handle,
                why: rest.try_get_u8().or(Err(Garbled))?,
                text: get_text(&mut rest, limits::REASON_BYTES)?,
            },
            DATA => {
                let written = rest.try_get_u32_le().or(Err(Garbled))?;
                return Ok(Self::Data { handle, written, bytes: rest });
            }
            WRITTEN => Self::Written { handle, written: rest.try_get_u32_le().or(Err(Garbled))? },
            PEER_CLOSED => Self::PeerClosed { handle },
            ENDED => Self::Ended { handle },
            BROKEN_OFF => {
                let code = rest.try_get_u8().or(Err(Garbled))?;
                Self::Reset { handle, cause: ResetCause::from_code(code).ok_or(Garbled)? }
            }
            ROOM => {
                let total = rest.try_get_u32_le().or(Err(Garbled))?;
                let accepted = rest.try_get_u32_le().or(Err(Garbled))?;
                Self::Room { handle, room: Room { total, accepted } }
            }
            _ => return Err(Garbled),
        };
        if rest.is_empty() { Ok(report) } else { Err(Garbled) }
    }
}

impl Command {
    /// The process that the command is for. Another one at the same place has nothing that it
    /// could mean.
    pub(crate) fn process(&self) -> Incarnation {
        match self {
            Self::Listen { process, .. } | Self::Unlisten { process, .. } => *process,
            Self::Connect { handle, .. }
            | Self::Send { handle, .. }
            | Self::Shutdown { handle }
            | Self::Close { handle }
            | Self::Reset { handle }
            | Self::Credit { handle, .. }
            | Self::Refuse { handle }
            | Self::Displace { handle }
            | Self::Protect { handle } => handle.process,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Self::Listen { process, listener, options } => {
                out.put_u8(LISTEN);
                out.put_u64_le(process.0);
                out.put_u16_le(listener.0);
                put_text(&mut out, options.name.as_bytes());
                put_text(&mut out, &options.refusal);
                out.put_u32_le(options.connections);
                put_windows(&mut out, options.windows);
            }
            Self::Unlisten { process, listener } => {
                out.put_u8(UNLISTEN);
                out.put_u64_le(process.0);
                out.put_u16_le(listener.0);
            }
            Self::Connect { handle, target, timeout_ms, windows } => {
                put_head(&mut out, CONNECT, *handle);
                put_target(&mut out, target);
                out.put_u32_le(*timeout_ms);
                put_windows(&mut out, *windows);
            }
            Self::Send { handle, bytes } => {
                put_send_header(&mut out, *handle);
                out.put_slice(bytes);
            }
            Self::Shutdown { handle } => put_head(&mut out, SHUTDOWN, *handle),
            Self::Close { handle } => put_head(&mut out, CLOSE, *handle),
            Self::Reset { handle } => put_head(&mut out, RESET, *handle),
            Self::Credit { handle, bytes } => {
                put_head(&mut out, CREDIT, *handle);
                out.put_u32_le(*bytes);
            }
            Self::Refuse { handle } => put_head(&mut out, REFUSE, *handle),
            Self::Displace { handle } => put_head(&mut out, DISPLACE, *handle),
            Self::Protect { handle } => put_head(&mut out, PROTECT, *handle),
        }
        out.freeze()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Garbled> {
        let mut rest = bytes.clone();
        let order = match rest.try_get_u8().or(Err(Garbled))? {
            LISTEN => Self::Listen {
                process: get_process(&mut rest)?,
                listener: ListenerId(rest.try_get_u16_le().or(Err(Garbled))?),
                options: ListenOrder {
                    name: get_string(&mut rest, limits::LISTENER_NAME_BYTES)?,
                    refusal: get_text(&mut rest, limits::REFUSAL_BYTES)?,
                    connections: rest.try_get_u32_le().or(Err(Garbled))?,
                    windows: get_windows(&mut rest)?,
                },
            },
            UNLISTEN => Self::Unlisten {
                process: get_process(&mut rest)?,
                listener: ListenerId(rest.try_get_u16_le().or(Err(Garbled))?),
            },
            CONNECT => Self::Connect {
                handle: get_handle(&mut rest)?,
                target: get_target(&mut rest)?,
                timeout_ms: rest.try_get_u32_le().or(Err(Garbled))?,
                windows: get_windows(&mut rest)?,
            },
            SEND => return Ok(Self::Send { handle: get_handle(&mut rest)?, bytes: rest }),
            SHUTDOWN => Self::Shutdown { handle: get_handle(&mut rest)? },
            CLOSE => Self::Close { handle: get_handle(&mut rest)? },
            RESET => Self::Reset { handle: get_handle(&mut rest)? },
            CREDIT => Self::Credit {
                handle: get_handle(&mut rest)?,
                bytes: rest.try_get_u32_le().or(Err(Garbled))?,
            },
            REFUSE => Self::Refuse { handle: get_handle(&mut rest)? },
            DISPLACE => Self::Displace { handle: get_handle(&mut rest)? },
            PROTECT => Self::Protect { handle: get_handle(&mut rest)? },
            _ => return Err(Garbled),
        };
        if rest.is_empty() { Ok(order) } else { Err(Garbled) }
    }
}

#[cfg(test)]
mod tests;
