//! The rows as the versions before of the wrapper's records have them. A connection of theirs
//! counts for no listener: it is lost with the process that carries it, which ran that version.

use lockstep::ids::ReplicaId;
use lockstep::record::Members;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Head, Phase, Tally};
use crate::tcp::messages::{Handle, ListenOrder};
use crate::tcp::{ConnId, ListenerId};

/// Rows with their names.
pub(crate) fn conns<T: Into<super::Conn>>(rows: Vec<(ConnId, T)>) -> Vec<(ConnId, super::Conn)> {
    rows.into_iter().map(|(conn, row)| (conn, row.into())).collect()
}

/// The format in which no connection knew its origin. The table without its rows is as it is now.
pub(crate) mod v4 {
    use super::*;

    #[derive(Archive, Serialize, Deserialize)]
    pub(crate) struct Conn {
        place: Option<ReplicaId>,
        handle: Handle,
        listener: Option<ListenerId>,
        phase: Phase,
        write_closed: bool,
        unwritten: u32,
        wants_room: bool,
        held: Option<u32>,
        taken: Tally,
    }

    impl From<Conn> for super::super::Conn {
        fn from(row: Conn) -> Self {
            let Conn { place, handle, phase, write_closed, unwritten, wants_room, .. } = row;
            let Conn { held, taken, .. } = row;
            let origin = None;
            Self { place, handle, origin, phase, write_closed, unwritten, wants_room, held, taken }
        }
    }
}

/// The format in which no connection knew its listener, and no process said for how many it
/// has room.
pub(crate) mod v3 {
    use super::*;

    #[derive(Archive, Serialize, Deserialize)]
    pub(crate) struct Conn {
        place: Option<ReplicaId>,
        handle: Handle,
        phase: Phase,
        write_closed: bool,
        unwritten: u32,
        wants_room: bool,
        held: Option<u32>,
        taken: Tally,
    }

    impl From<Conn> for super::super::Conn {
        fn from(row: Conn) -> Self {
            let Conn { place, handle, phase, write_closed, unwritten, wants_room, held, taken } =
                row;
            let origin = None;
            Self { place, handle, origin, phase, write_closed, unwritten, wants_room, held, taken }
        }
    }

    #[derive(Archive, Serialize, Deserialize)]
    struct OldHead {
        members: Members,
        sequencer: Option<ReplicaId>,
        last_conn: u64,
        last_listener: u16,
        ignored: u64,
    }

    /// The table, without the rows that have records of their own.
    #[derive(Archive, Serialize, Deserialize)]
    pub(crate) struct Frozen {
        head: OldHead,
        listeners: Vec<(ListenerId, ListenOrder)>,
    }

    impl From<Frozen> for super::super::Frozen {
        fn from(Frozen { head, listeners }: Frozen) -> Self {
            let OldHead { members, sequencer, last_conn, last_listener, ignored } = head;
            let rooms = [None; 2];
            let head = Head { members, sequencer, last_conn, last_listener, rooms, ignored };
            Self { head, listeners, ..Self::default() }
        }
    }
}
