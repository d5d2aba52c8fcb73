//! Every bound of the engine, why it is that much, and what happens at one more.
//!
//! The relations between them are checked when the crate is compiled.

use core::time::Duration;

/// Longest frame on any connection, header included. Holds the longest entry or reply with room
/// to spare; a longer one is refused by the reader and the connection closed.
pub const FRAME_BYTES: usize = 4 << 20;

/// Longest payload of one input: a request's body, a device's event. A longer one is refused
/// with a typed error where it is handed in.
pub const INPUT_BYTES: usize = 1 << 20;

/// Longest reply of a service to one request; a longer one becomes a typed refusal.
pub const REPLY_BYTES: usize = 1 << 20;

/// Longest record of a frozen state: rkyv's default pointers reach 2 GiB, memory for a
/// checkpoint should stay far below.
pub const RECORD_BYTES: usize = 1 << 20;

/// Records of a checkpoint are gathered into blocks of about this many bytes, compressed and
/// checked one by one. That is large enough to compress well, and small enough that a copy of one
/// costs nothing. A longer record is a block of its own.
pub const CHECKPOINT_BLOCK_BYTES: usize = 256 << 10;

/// Bytes of a checkpoint that are written before they are synced. The system would gather far
/// more, and then hold up the journal's syncs while it writes all of it at once.
pub const CHECKPOINT_SYNC_BYTES: u64 = 8 << 20;

/// Entries are put into one frame until it holds this many bytes; then the next frame begins.
/// Large enough to amortise a frame, small enough that a late link is noticed between frames.
pub const BATCH_BYTES: usize = 256 << 10;

/// Most entries in one frame.
pub const BATCH_ENTRIES: usize = 4096;

/// Most inputs in one entry, and so in what is executed, reported and released as one. What is
/// ordered at once and does not fit becomes several entries. An input's position in its entry has
/// 16 bits in the ids of sessions.
pub const ENTRY_INPUTS: usize = 1024;

/// Most calls of a client, or answers to one, in a frame; together they are below [`BULK_BYTES`].
/// More are several frames.
pub const PACK: usize = 256;

/// What the outputs of one entry are to weigh at most: the sequencer puts no more inputs into an
/// entry than would have come to this, had each come to as much as those before it. The bound that
/// holds whatever the service does is on each reply, so [`ENTRY_INPUTS`] of those in an entry.
pub const ENTRY_OUTPUT_BYTES: usize = 1 << 20;

/// Entries of at least this many bytes are bulk: sent on one link, in turn, and on the others
/// only if that one fails to deliver. Smaller ones go on every link.
pub const BULK_BYTES: usize = 64 << 10;

/// Whether so many things with this much payload together may share an entry, or a client's frame:
/// bulk is alone.
pub(crate) const fn may_share(count: usize, payload: usize) -> bool {
    count <= 1 || payload < BULK_BYTES
}

/// Bytes of entries under way on one link that the peer has not yet acknowledged. More wait in
/// the log, of which there is one for all links. A link of 10 Gbit/s and 5 ms needs 6 MiB.
pub const LINK_FLIGHT_BYTES: usize = 8 << 20;

/// Inputs that may be ordered and not yet agreed and released, by default; an entry of the protocol
/// counts as one. At one more the sequencer takes no input until there is room.
pub const WINDOW_ENTRIES: usize = 64 << 10;
/// Bytes of those entries and of their outputs, by default; see [`WINDOW_ENTRIES`].
pub const WINDOW_BYTES: usize = 64 << 20;

/// Smallest window that a configuration may ask for: one largest input and its largest reply.
pub const WINDOW_BYTES_MIN: usize = 4 << 20;

/// Room in every window for entries of the protocol itself, which must never wait.
pub const WINDOW_RESERVE: usize = 64;

/// Inputs that a follower has taken and not yet seen ordered. At one more it takes no input.
pub const KEPT_INPUTS: usize = 16 << 10;
/// Bytes of the same.
pub const KEPT_BYTES: usize = 16 << 20;

/// Packets of strangers that a port looks at in 100 ms, of each kind; a single host has a fourth of
/// them. A wave of clients that come back together is through in some such turns. One packet more
/// is dropped, as the network may; an honest peer repeats it.
pub const STRANGERS_PER_TURN: usize = 1024;

/// Handshakes of one port in flight at a time: enough for a wave of clients that come back
/// together, few enough that their memory does not count. One handshake more takes another's place,
/// or is not answered.
pub const HANDSHAKES: usize = 64;

/// With as many in flight, a sender must first show that it receives at its address; so forged
/// addresses cannot take the rest.
pub const HANDSHAKES_UNVALIDATED: usize = 16;

/// Handshakes that begin in 100 ms, of senders who have shown their addresses, in shares: a bound
/// for those that fail at once. Of handshakes that do not, there are as many as have places.
pub const HANDSHAKES_PER_TURN: usize = 256;

/// Handshakes of senders that have not proved their addresses; more have to prove them first. A
/// handshake that fails at once gives its place back at once, and yet has cost some 100 µs.
pub const UNVALIDATED_PER_TURN: usize = 16;

/// Connections to a control socket at a time: some monitors and an operator. One connection more is
/// told so and closed.
pub const CONTROL_CONNECTIONS: usize = 16;

/// Client connections of one CoServer; at one more the newest is refused. Clients connect to both,
/// so this is also how many a pair serves.
pub const CLIENT_CONNECTIONS: usize = 4096;

/// Bytes that one of the CoServers has yet to execute, beyond what 1 Gbit/s carries in a round trip
/// between them. Above that the keys of the clients are read in turn, each as much as the next, and
/// the flows of devices in the same way. It is enough to keep links and processors busy, and so
/// little that requests with steps of some microseconds wait for a millisecond or so behind it. A
/// client is not held back while no other key asked for anything within a minute, and no device had
/// an input. Nor is a flow held back while no other had an input, and no client asked.
pub const TURNS_BYTES: usize = 32 << 10;
/// The same where entries go to disk. A CoServer is heard to have executed an entry when it also
/// has it on disk, and a sync is to have something to write.
pub const TURNS_BYTES_JOURNAL: usize = 256 << 10;

/// Bytes of answers that wait for the clients of one CoServer to take them, all together: as much
/// as a window makes at once. At one more the key with most of them loses the connections for which
/// most waits, until a quarter is free again. Their clients come again and ask for what they lack.
pub const CLIENT_QUEUES_BYTES: usize = 64 << 20;

/// Bytes of a client's name: what fits a line of the log and of the status beside the rest.
pub const CLIENT_NAME_BYTES: usize = 64;

/// Clients' keys of which the status says what they have; those that have most. Of more it says
/// how many they are, since an answer that grows with the configuration would hold up the loop.
pub const CLIENTS_SHOWN: usize = 64;

/// Sessions whose replies one connection may ask for.
pub const SESSIONS_PER_CONNECTION: usize = 64;

/// Open sessions of a pair. One session more ends one that is worth less (rule C9), or its client
/// is refused a session.
pub const SESSIONS: usize = 64 << 10;

/// Replies kept for one session until its client says that it has them; also the most requests
/// that a client may have under way.
pub const SESSION_REPLIES: usize = 1024;

/// Bytes of the same.
pub const SESSION_REPLY_BYTES: usize = 8 << 20;

/// Bytes of the replies kept for all sessions together: what clients that never say which replies
/// they have can cost. For one more a session ends whose client does not read (rule C9), or the
/// request does not take effect and is refused.
pub const REPLIES_BYTES: usize = 1 << 30;

/// Default for the bytes of requests that a client may have under way; at one more it has to wait
/// for replies. Two connections' worth of a good network's bandwidth times delay.
pub const CLIENT_WINDOW_BYTES: usize = 8 << 20;

/// A session without a request for this long, by log time, is closed.
pub const SESSION_IDLE: Duration = Duration::from_secs(24 * 3600);

/// Where all sessions are taken, one in which nothing was asked for so long gives way to a new
/// one: a client asks as soon as it has its session.
pub const SESSION_UNUSED: Duration = Duration::from_secs(10);

/// A session in which nothing was asked ends by itself after this long without an entry of its
/// client, by log time. That is longer than an entry of a client that is there waits to be ordered,
/// behind a pair that is slow or holds.
pub const SESSION_UNUSED_ENDS: Duration = Duration::from_secs(60);

/// Where all sessions are taken, one that has been idle for so long gives way to a new one: the
/// clients of most such sessions are gone.
pub const SESSION_ABANDONED: Duration = Duration::from_secs(600);

/// A session may end while more than half of [`REPLIES_BYTES`] is kept, so that what it costs comes
/// back. It ends if it keeps at least [`SESSION_UNREAD_BYTES`] of that, and its client has for this
/// long not said that it needs any of it no more.
pub const SESSION_UNREAD: Duration = Duration::from_secs(600);

/// See [`SESSION_UNREAD`]. All sessions with less than this are far from [`REPLIES_BYTES`].
pub const SESSION_UNREAD_BYTES: usize = 4 << 10;

/// Wake-ups carried out before one entry; those due beyond it wait for the next entry, which
/// the sequencer then adds at once. Keeps one entry's work bounded.
pub const WAKES_PER_ENTRY: u32 = 1024;

/// Links between the CoServers: one bit each in a set of eight.
pub const LINKS: usize = 8;

/// Default for the most that log time steps forward where a log is taken up again, on the word
/// of one clock. That is longer than a pair is off by accident, and less than makes mail or
/// sessions old.
pub const CLOCK_STEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Default for how much faster or slower than real time log time runs at most, as a divisor. The
/// default of 1/16 makes up a second in sixteen, and is harmless to any timer.
pub const CLOCK_SLEW: u32 = 16;

/// After a log is taken up again its wake-ups wait no longer than this for the devices. Devices are
/// up in milliseconds, unless a port is another's, which may stay so.
pub const DEVICES_WAIT: Duration = Duration::from_secs(5);

/// A sequencer that did not run for longer than this, or a wake-up that no process could order for
/// so long, makes a gap (rule O14). That is longer than any removal at usual settings, and short
/// beside what services wait for.
pub const GAP_LEAST: Duration = Duration::from_secs(5);

/// File descriptors that a CoServer keeps for itself beside those that are open when it starts. Up
/// to 17 are for its control socket, 16 for journal, checkpoints, membership and what a joiner
/// reads, and 16 for an object store. The rest are for names being resolved and a moment's need of
/// listeners. No connection of a stranger gets one of them.
pub const DESCRIPTORS_VITAL: u32 = 64;

/// A CoServer with devices that has fewer than this left for connections does not start.
pub const DESCRIPTORS_LEAST: u32 = 16;

/// The soft limit on file descriptors is raised no higher than this: enough for every bound on
/// connections, and the kernel's table of a process stays small.
pub const DESCRIPTORS_MOST: u64 = 1 << 20;

/// Longest text in a frame that gives a reason.
pub const REASON_BYTES: usize = 1024;

/// Calls of a pair that wait at the witness while it writes a record. At one more the call is
/// dropped; its sender asks again.
pub const WITNESS_WAITING: usize = 32;

/// Objects of a pair in an object store that serves as its witness. A pair makes a few for every
/// fault: at one fault an hour these last for years. At one more the store refuses the pair.
pub const WITNESS_OBJECTS: u64 = 100_000;

/// Connections of one place to the witness: the running process's, and those of its predecessors
/// that are not known to be dead yet. At one more the oldest is closed.
pub const WITNESS_CONNECTIONS_PER_PLACE: usize = 4;

/// Longest name of a service.
pub const NAME_BYTES: usize = 256;

/// Outputs of one entry in the frame that finds out which of them differs. What a step of a service
/// usually makes is a handful; more than these are not compared, and their number is said.
pub const OUTLINE_OUTPUTS: usize = 256;

/// Bytes of those outputs in that frame, the same share for each: all of a usual mail. With the
/// rest of the frame less than what counts as bulk, since it goes on every link. A byte further in
/// is not named.
pub const OUTLINE_BYTES: usize = 24 << 10;

/// What goes on that should not is said in the log for the first time after this long. What belongs
/// to an ordinary start or change of members is over by then.
pub const SAID_FIRST: Duration = Duration::from_secs(3);

/// It is said again after twice as long each time, and at least this often.
pub const SAID_MOST: Duration = Duration::from_secs(600);

/// Digests in one frame that looks for the first output that differs: a default window's worth.
pub const DIGESTS: usize = WINDOW_ENTRIES;

/// Entries by which a joiner says what its disk has: enough to go back from the last one in steps
/// that double.
pub const POINTS: usize = 64;

/// Bytes of a checkpoint in one frame, and of entries read at once for a joiner.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Pieces that a joiner asks for ahead: as much as a link of 1 Gbit/s and 10 ms has under way.
pub const CHUNKS_AHEAD: usize = 4;

/// Requests to the witness that a disk remembers because they may still be granted. One process
/// leaves at most two. Those of processes before the last few have long arrived or been lost with
/// their connections.
pub const OPEN_REQUESTS: usize = 8;

/// Divergences of processes at one place within [`DIVERGENCE_WINDOW`]. At this many the survivor
/// takes none in any more until an operator says so. A memory that flips a bit does not do so that
/// often, and each return costs the pair a pause and the copy of its state.
pub const DIVERGENCES: usize = 4;
/// The span of time in which [`DIVERGENCES`] are counted.
pub const DIVERGENCE_WINDOW: Duration = Duration::from_secs(3600);

const _: () = {
    assert!(CHUNK_BYTES + INPUT_BYTES + 4096 < FRAME_BYTES);
    assert!(DIGESTS * 16 + 4096 < FRAME_BYTES);
    assert!(OUTLINE_OUTPUTS * 128 + OUTLINE_BYTES + 4096 < BULK_BYTES);
    assert!(INPUT_BYTES + 4096 < FRAME_BYTES);
    assert!(REPLY_BYTES + 4096 < FRAME_BYTES);
    assert!(BATCH_BYTES + INPUT_BYTES + 4096 < FRAME_BYTES);
    assert!(CHUNK_BYTES + 4096 < FRAME_BYTES);
    assert!(CHECKPOINT_BLOCK_BYTES <= RECORD_BYTES);
    assert!(BULK_BYTES < BATCH_BYTES);
    assert!(ENTRY_INPUTS <= 1 << 16);
    assert!(LINK_FLIGHT_BYTES > BATCH_BYTES + INPUT_BYTES);
    assert!(WINDOW_BYTES_MIN >= INPUT_BYTES + REPLY_BYTES);
    assert!(WINDOW_BYTES >= WINDOW_BYTES_MIN);
    assert!(KEPT_BYTES >= INPUT_BYTES);
    assert!(SESSION_REPLY_BYTES >= REPLY_BYTES + 64);
    assert!(REPLIES_BYTES >= SESSION_REPLY_BYTES);
    assert!(SESSIONS * SESSION_UNREAD_BYTES <= REPLIES_BYTES / 2);
    assert!(CLIENT_WINDOW_BYTES >= INPUT_BYTES);
    assert!(CLIENT_QUEUES_BYTES / 4 * 3 >= SESSION_REPLY_BYTES + REPLY_BYTES);
    assert!(LINKS <= 8);
    assert!(DIVERGENCES >= 2);
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    macro_rules! values {
        ($($name:ident)*) => { [$((stringify!($name), super::$name as u64),)*] };
    }

    /// The bounds that docs/limits.md names.
    fn named() -> BTreeMap<&'static str, u64> {
        values! {
            STRANGERS_PER_TURN HANDSHAKES HANDSHAKES_UNVALIDATED HANDSHAKES_PER_TURN
            UNVALIDATED_PER_TURN CONTROL_CONNECTIONS CLIENT_CONNECTIONS SESSIONS_PER_CONNECTION
            SESSIONS SESSION_REPLIES SESSION_REPLY_BYTES REPLIES_BYTES REPLY_BYTES WINDOW_ENTRIES
            WINDOW_BYTES WINDOW_RESERVE KEPT_INPUTS KEPT_BYTES LINK_FLIGHT_BYTES DESCRIPTORS_VITAL
            WITNESS_CONNECTIONS_PER_PLACE WITNESS_WAITING SESSION_UNREAD_BYTES CLIENT_QUEUES_BYTES
            TURNS_BYTES TURNS_BYTES_JOURNAL
        }
        .into()
    }

    /// Every name in capitals between backquotes.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        let of_a_name = |c: char| c.is_ascii_uppercase() || c == '_';
        let quoted = text.split('`').skip(1).step_by(2);
        quoted.filter(move |word| !word.is_empty() && word.chars().all(of_a_name))
    }

    #[test]
    fn the_table_of_shares_has_the_values_that_there_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let page = std::fs::read_to_string(path).expect("the page is there");
        let (_, values) = page.split_once("## The values").expect("they have a section");
        let rows = values.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?.to_owned();
            let value = cells.next()?.replace(',', "");
            Some((name, value.parse::<u64>().expect("a number")))
        });
        let told: BTreeMap<String, u64> = rows.collect();
        let real: BTreeMap<String, u64> =
            named().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(told, real);
        for name in names_in(&page) {
            assert!(real.contains_key(name), "{name} has no value in the table");
        }
    }
}
