//! Every bound of the devices, why it is that much, and what happens at one more.

use core::time::Duration;

/// Timers that may be set at a time. At one more, setting one is refused.
pub const TIMERS: usize = 64 << 10;

/// Listeners of one service. At one more, `listen` is refused.
pub const LISTENERS: usize = 64;

/// Longest name of a listener: it stands in configuration files.
pub const LISTENER_NAME_BYTES: usize = 64;

/// Longest text with which a listener turns clients away: more would not fit every socket's
/// send buffer, and a client that is turned away must not be waited for.
pub const REFUSAL_BYTES: usize = 1024;

/// Longest host name to connect to (RFC 1035, section 2.3.4, as text).
pub const HOST_BYTES: usize = 253;

/// Longest text that says why a connection could not be made.
pub const REASON_BYTES: usize = 256;

/// Most bytes of a connection in one input. Under the engine's bound for bulk, so that a
/// connection's bytes go on every link at once.
pub const CHUNK_BYTES: usize = 32 << 10;

/// Default for the bytes of one connection that the outside half may read ahead of the service.
/// Two bandwidth-delay products of 1 Gbit/s and a pair that takes 1 ms for an input.
pub const READ_WINDOW: u32 = 256 << 10;

/// Default for the bytes of one connection that were sent and not yet reported as written.
pub const SEND_WINDOW: u32 = 256 << 10;

/// Smallest window of a connection that a configuration may ask for: two chunks, so that reading
/// and granting overlap.
pub const WINDOW_MIN: u32 = 64 << 10;
/// Largest window of a connection that a configuration may ask for, so that one connection cannot
/// fill the engine's window alone.
pub const WINDOW_MAX: u32 = 16 << 20;

/// Default for the connections of a service, on both CoServers together, in both directions. At one
/// more, a client takes another's place or is turned away, and `connect` is refused. With the
/// default windows their bytes are bounded by 512 MiB on each side of the state machine.
pub const CONNECTIONS: u32 = 2048;

/// Default for the connections of one listener, on both CoServers together: what two serve must fit
/// the one that is left. At one more, the client takes the place of one whose block of addresses
/// has most. If that has not two more than its own, the client is turned away.
pub const LISTENER_CONNECTIONS: u32 = 1024;

/// Lost connections told to the service in one step; the rest follow in steps of their own, so
/// that no step is long.
pub const LOST_PER_STEP: usize = 64;

/// Addresses of a name that are tried: the first ones, IPv6 and IPv4 in turns. Also how many a
/// service can name that are to come last.
pub const ADDRESSES_TRIED: usize = 8;

/// How long an address is waited for before the next one of its name is tried beside it. The
/// kernel repeats a first packet that was lost after one second (RFC 6298, section 2.1); RFC 8305,
/// section 5, allows two at most.
pub const HEAD_START: Duration = Duration::from_secs(1);

/// Default for the time that finding a name's addresses may take, and after that making
/// a connection to one of them.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Clients that are being turned away, or give way, at the same time. Each is sent its text, and
/// its end is awaited. At one more, the connection is just closed.
pub const TURNED_AWAY: usize = 256;

/// Newcomers that are let in at the same time although every place is taken, to be given that of
/// another or turned away. In a flood from many addresses, this many come within a round through
/// the log. At one more, the connection is turned away at once.
pub const NEWCOMERS: usize = 32;

/// Once the pair has turned a client away, this CoServer turns away others of the same block of
/// addresses by itself. It does so for this long, or until one of its own places comes free: one at
/// the other CoServer may come free unnoticed.
pub const HOPELESS: Duration = Duration::from_secs(1);

/// Most blocks whose clients are turned away so; of more, the oldest is forgotten.
pub const HOPELESS_BLOCKS: usize = 64;

/// Once a listener turns away this many clients of one block of addresses within [`FLOOD`], the
/// kernel drops what that block sends to begin a connection, for [`SHUT_OUT`]. To accept a
/// connection, tell its client and close it takes some 70 µs of the CoServer's loop, as long as a
/// whole request.
pub const FLOOD_REFUSALS: u32 = 32;

/// The span of time in which [`FLOOD_REFUSALS`] are counted.
pub const FLOOD: Duration = Duration::from_millis(100);

/// How long a block of addresses is shut out; see [`FLOOD_REFUSALS`]. A client tries again after a
/// second by itself (RFC 6298 section 2).
pub const SHUT_OUT: Duration = Duration::from_secs(1);

/// Most blocks that are shut out at the same time; clients of further blocks are turned away one
/// by one.
pub const SHUT_OUT_BLOCKS: usize = 16;

/// Most blocks whose refusals within a [`FLOOD`] are counted.
pub const FLOOD_BLOCKS: usize = 1024;

/// An input of fewer bytes than this that the service has not yet answered is partial. While a
/// block of addresses is crowded, the next input of its connections waits for [`PARTIAL`] after a
/// partial one. Each input is an entry of the log, and a few hundred connections that send a byte
/// now and then make thousands of entries.
pub const PARTIAL_BYTES: usize = 512;

/// How long the next input of a connection in a crowded block waits after a partial one; see
/// [`PARTIAL_BYTES`].
pub const PARTIAL: Duration = Duration::from_secs(1);

/// How long a block of addresses is crowded after one of its clients was turned away or gave way;
/// see [`PARTIAL_BYTES`].
pub const CROWDED: Duration = Duration::from_secs(5);

/// Most blocks that are remembered as crowded; of more, the oldest is forgotten.
pub const CROWDED_BLOCKS: usize = 64;

/// Clients that are turned away although no file descriptor is left for connections: one at a
/// time for each. At one more, the connection is just closed.
pub const TURNED_AWAY_LAST: usize = 8;

/// Names that are resolved at a time. At one more, the connection waits.
pub const LOOKUPS: usize = 8;

/// File descriptors that a connection to a name takes while it is made: some of the resolver's,
/// then one for each address that is tried beside the others.
pub const NAME_DESCRIPTORS: u32 = ADDRESSES_TRIED as u32;

/// Time between two looks whether a file descriptor is free for a connection that is to be made.
pub const DESCRIPTOR_RETRY: Duration = Duration::from_millis(50);

/// Clients that are turned away, or give way, are counted; so often one line of the log says
/// how many.
pub const REFUSALS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Connections that the kernel keeps for a listener until they are accepted.
pub const BACKLOG: u32 = 1024;

/// Bytes that a far end may still send after the service is done with a connection, or the CoServer
/// has left the pair. They are thrown away, so that the far end gets to read what was still said to
/// it. A connection that is closed over unread bytes is reset, and takes that along. Beyond this,
/// which is more than a mail or a request that was under way, the connection is broken off.
pub const THROWN_AWAY: u64 = 16 << 20;

/// Items of a table in one record of a frozen state; keeps a record far below the
/// engine's bound.
pub const ITEMS_PER_RECORD: usize = 1024;

const _: () = {
    assert!(CHUNK_BYTES + 64 < lockstep::limits::BULK_BYTES);
    assert!(CHUNK_BYTES * 2 <= WINDOW_MIN as usize);
    assert!(WINDOW_MIN <= READ_WINDOW && READ_WINDOW <= WINDOW_MAX);
    assert!(WINDOW_MIN <= SEND_WINDOW && SEND_WINDOW <= WINDOW_MAX);
    assert!(LISTENER_CONNECTIONS <= CONNECTIONS);
    assert!(HEAD_START.as_millis() * (ADDRESSES_TRIED as u128) < CONNECT_TIMEOUT.as_millis());
    // A row of the connection table takes far less than 512 bytes.
    assert!(ITEMS_PER_RECORD * 512 < lockstep::limits::RECORD_BYTES);
};
