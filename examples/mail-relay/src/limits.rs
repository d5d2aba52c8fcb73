//! Every bound of the relay, with why that much and what happens at one more.
//!
//! Octets unless a name says otherwise; times are nanoseconds of log time.

/// One second, in the unit of every deadline of this crate.
pub const SECOND: u64 = 1_000_000_000;
/// One minute, in nanoseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// One hour, in nanoseconds.
pub const HOUR: u64 = 60 * MINUTE;

// ---- what a client may say -------------------------------------------------

/// A command line with its CRLF (RFC 5321 section 4.5.3.1.4). Longer: 500, the
/// line is discarded up to its end.
pub const COMMAND_LINE: usize = 512;
/// What SIZE adds to a MAIL line (RFC 1870 section 3).
pub const MAIL_SIZE_EXTRA: usize = 26;
/// What BODY adds to a MAIL line (RFC 6152 section 2).
pub const MAIL_BODY_EXTRA: usize = 17;
/// The longest line kept while a command arrives: no verb may be longer.
pub const LONGEST_COMMAND_LINE: usize = COMMAND_LINE + MAIL_SIZE_EXTRA + MAIL_BODY_EXTRA;
/// A line of a mail with its CRLF and without a stuffed dot (RFC 5321 section
/// 4.5.3.1.6). One longer and the mail is refused with 554.
pub const TEXT_LINE: usize = 1000;
/// A reverse or forward path with its brackets (RFC 5321 section 4.5.3.1.3).
pub const PATH: usize = 256;
/// A local part (RFC 5321 section 4.5.3.1.1).
pub const LOCAL_PART: usize = 64;
/// A domain (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN: usize = 255;
/// One label of a domain (RFC 1035 section 2.3.4).
pub const DOMAIN_LABEL: usize = 63;
/// Digits of a SIZE value (RFC 1870 section 5).
pub const SIZE_DIGITS: usize = 20;
/// Default for the largest mail: what common relays accept, and small enough
/// that a full set of sessions fits in memory. Larger: 552.
pub const MESSAGE_BYTES: u64 = 10 * 1024 * 1024;
/// Default for recipients of a mail. RFC 5321 section 4.5.3.1.8 asks for 100 at
/// least. One more: 452 4.5.3, the accepted ones stay.
pub const RECIPIENTS: u32 = 1000;
/// Faulty commands before a session is ended with 421: a person's typing errors
/// stay well below, a program that talks another protocol does not.
pub const SESSION_ERRORS: u32 = 20;
/// The same before the first EHLO or HELO; a client that speaks SMTP has nothing else to
/// begin with.
pub const UNGREETED_ERRORS: u32 = 4;
/// Recipients refused since the last mail was taken, by policy or for their syntax, before a
/// session is ended with 421. They count apart from [`SESSION_ERRORS`], because a list with dead
/// entries is not a fault. Ending the session would lose its good recipients at every new attempt.
/// Twenty times the default of [`RECIPIENTS`], more than any real list has.
pub const SESSION_REFUSALS: u32 = 20_000;
/// Recipients that a mail has already, or that are more than it may have, before a session is
/// ended with 421. Both are legal, and a client that pipelines says many before it sees the first
/// answer: the accepted ones have to stay (RFC 5321 section 4.5.3.1.10).
pub const SESSION_SURPLUS: u32 = 20_000;
/// Default for the commands that bring no mail forward (NOOP, RSET, VRFY, HELP, EHLO, MAIL)
/// between two mails. One more: the session is ended with 421, which counts among the errors of
/// its host ([`ADDRESS_ERRORS`]). A MAIL that is refused for now, and the RSET behind it, are not
/// among them.
pub const IDLE_COMMANDS: u32 = 200;
/// Mails that are refused for now (450 and 452) since the last one was taken, before
/// a session is ended with 421. That is no fault of the client, which may have as many to send.
pub const SESSION_PUT_OFF: u32 = 1000;
/// Input kept while a mail waits for its verdict. A client may send the next
/// mail's envelope meanwhile (RFC 2920 section 3.1): [`RECIPIENTS`] recipients
/// of usual length fit. More: the input is dropped and the session ended.
pub const HELD_INPUT: usize = 128 * 1024;

// ---- how long a client may take ----------------------------------------------

/// Default for the silence of a client (RFC 5321 section 4.5.3.2.7). Then 421 4.4.2.
pub const SERVER_IDLE: u64 = 5 * MINUTE;
/// All of one mail's data, so that a byte now and then cannot hold a session
/// for ever; [`MESSAGE_BYTES`] at 3 kB/s fit. Then 421 4.4.2.
pub const SERVER_DATA: u64 = HOUR;

/// Default for a whole session, so that a command now and then cannot hold a connection for ever.
/// Ended is one only where no data is under way: that costs a sender of many mails another
/// connection and nothing else. Then 421 4.4.2.
pub const SERVER_SESSION: u64 = HOUR;

// ---- what clients of one block of addresses may have -----------------------------

/// Default for the silence of a client while more than three quarters of [`CLIENTS`] are there,
/// until it is less than half. RFC 5321 section 4.5.3.2.7 asks for five minutes, which is right
/// while there is room; a client that has something to say says it sooner. Then 421 4.4.2.
pub const SCARCE_IDLE: u64 = 30 * SECOND;
/// Default for the mails of a block in a minute: no bound, since only the operator knows what is
/// usual. One more: MAIL gets 450 4.7.0 until there is less.
pub const BLOCK_MAILS: u32 = 0;
/// Default for the sessions of an address (of IPv6 a /64) that are ended for their errors in a
/// minute. An honest sender has none. As many: the address is shut out.
pub const ADDRESS_ERRORS: u32 = 30;
/// Default for how long an address is shut out: greeted with 421 4.7.0 and let go. Senders try
/// again after a few minutes to half an hour.
pub const ADDRESS_SHUT: u64 = 10 * MINUTE;
/// Addresses of a block that are shut out at the same time when the whole block is. Fewer may be
/// hosts of one sender whom the honest ones beside them do not know.
pub const BLOCK_SHUT_HOSTS: usize = 4;
/// Blocks that are remembered, each for as long as it has used something of its rate or has
/// addresses that are shut out; some 2 MiB. At one more, the one that would be forgotten first is.
pub const BLOCKS: usize = 16_384;
/// Addresses that are remembered, in the same way.
pub const HOSTS: usize = 16_384;

/// Default for clients at a time, on both CoServers together: the one that is left has to hold
/// them all. One more takes a connection of the block that has most, or gets the listener's 421.
pub const CLIENTS: u32 = 1000;
/// Default for what all sessions hold together: mails that have not come whole, envelopes,
/// input not yet looked at and replies not yet taken. Above it the session that holds most, of the
/// block that holds most, gets 421 4.3.1.
pub const SESSION_BYTES: u64 = 256 * 1024 * 1024;
/// One part in so many of [`SESSION_BYTES`]. When less than that is free, a block that holds as
/// much begins no further mail: MAIL gets 452 4.3.1. Other blocks begin theirs, and no session has
/// to end.
pub const SESSION_BYTES_RESERVE: u64 = 4;
/// What a session costs by itself, so that silent ones are counted too.
pub const SESSION_OVERHEAD: u64 = 1024;
/// A client whose session is over has this long to take its last replies; then the connection
/// is broken off.
pub const LAST_REPLIES: u64 = 30 * SECOND;
/// Deadlines looked at in one step; the rest follows in the next one, so that none is long.
pub const ALARMS_PER_STEP: usize = 64;

// ---- what a next hop may say, and how long it may take -------------------------

/// A reply line with its CRLF. RFC 5321 section 4.5.3.1.5 says 512; hops with
/// long texts exist, and four times that costs nothing. Longer: the session ends.
pub const REPLY_LINE: usize = 2048;
/// Lines of one reply; EHLO answers of large systems have about 20.
pub const REPLY_LINES: usize = 100;
/// Text kept of a reply, for bounces and events; the rest is cut off.
pub const REPLY_TEXT: usize = 512;
/// The greeting (RFC 5321 section 4.5.3.2.1).
pub const CLIENT_GREETING: u64 = 5 * MINUTE;
/// EHLO, HELO, RSET: not given by the RFC, taken as for MAIL.
pub const CLIENT_HELLO: u64 = 5 * MINUTE;
/// MAIL (RFC 5321 section 4.5.3.2.2).
pub const CLIENT_MAIL: u64 = 5 * MINUTE;
/// RCPT (RFC 5321 section 4.5.3.2.3).
pub const CLIENT_RCPT: u64 = 5 * MINUTE;
/// The answer 354 to DATA (RFC 5321 section 4.5.3.2.4).
pub const CLIENT_DATA: u64 = 2 * MINUTE;
/// One block of data (RFC 5321 section 4.5.3.2.5).
pub const CLIENT_BLOCK: u64 = 3 * MINUTE;
/// What is taken as a block: the session gives all data to its connection at
/// once, so the blocks' time is granted in one sum.
pub const CLIENT_BLOCK_BYTES: u64 = 1024 * 1024;
/// The reply to the final dot (RFC 5321 section 4.5.3.2.6).
pub const CLIENT_FINAL_DOT: u64 = 10 * MINUTE;
/// Ceiling for data and final dot together, for very large mails.
pub const CLIENT_DATA_MOST: u64 = HOUR;
/// The answer to QUIT: the mail is done, so nobody waits long for politeness.
pub const CLIENT_QUIT: u64 = 10 * SECOND;
/// A connection to the next hop is kept this long after its last mail, for the next one. At a
/// steady rate connections are made once, and an idle relay holds none.
pub const HOP_IDLE: u64 = 2 * SECOND;
/// How long an address of the next hop at which no session came about is tried after the others of
/// its name. That is less often than every connection, and soon enough for one that is back.
pub const HOP_ADDRESS_LAST: u64 = 10 * MINUTE;
/// Lines that begin with a dot up to which the data is sent as slices of the
/// stored mail; above, one copy is cheaper than many small slices.
pub const STUFFED_SLICES: usize = 64;

/// Mails up to which the data is sent as one piece: one output to agree on and
/// one segment train, where slices would wait for each other's acknowledgements.
pub const SENT_WHOLE: usize = 64 * 1024;

// ---- the queue -------------------------------------------------------------

/// Default for mails in the queue. One more: 452 4.3.1.
pub const QUEUE_MAILS: u64 = 100_000;
/// Default for octets in the queue. One more: 452 4.3.1.
pub const QUEUE_BYTES: u64 = 1024 * 1024 * 1024;
/// Default for how many times what is free of the queue a block of addresses may have in it: one
/// block alone takes three quarters, two take three sevenths each, and one that has nothing always
/// finds room. Beyond that: 452 4.3.1.
pub const BLOCK_QUEUE: u32 = 3;
/// What a mail costs beside its text (envelope, keys, bookkeeping), so that
/// many empty mails are bounded by memory too.
pub const QUEUE_MAIL_OVERHEAD: u64 = 512;
/// Default for deliveries at the same time.
pub const DELIVERIES: u32 = 20;
/// Recipients of one delivery: every server takes 100 (RFC 5321 section
/// 4.5.3.1.8); the rest goes in the next delivery.
pub const DELIVERY_RECIPIENTS: usize = 100;
/// Default for the first pause after a mail's transient failure.
pub const RETRY_FIRST: u64 = 5 * MINUTE;
/// Default for the longest pause (RFC 5321 section 4.5.4.1: two or three hours).
pub const RETRY_MOST: u64 = 2 * HOUR;
/// Default for giving up (RFC 5321 section 4.5.4.1: four to five days at least).
pub const GIVE_UP: u64 = 5 * 24 * HOUR;
/// First pause after the next hop could not be reached at all.
pub const HOP_RETRY_FIRST: u64 = SECOND;
/// Longest pause of that kind: the hop serves every mail, so it is probed (by
/// one mail at a time) much oftener than a single mail is retried.
pub const HOP_RETRY_MOST: u64 = MINUTE;
/// Pause after a connection was lost under a delivery: hops break off for reasons of their own, so
/// the first ones are not held against the mail.
pub const LOST_RETRY: u64 = SECOND;
/// Lost connections of one mail that are retried so fast; then as any failure.
pub const LOST_RETRIES: u32 = 3;
/// `Received:` fields above which a mail is taken for one that runs in a
/// circle (RFC 5321 section 6.3 asks for 100 at least). Then 554 5.4.6.
pub const RECEIVED_FIELDS: usize = 100;
/// Header octets of the original returned in a bounce; the rest is cut off at
/// a line's end.
pub const BOUNCE_HEADERS: usize = 32 * 1024;

const _: () = assert!(RECIPIENTS >= 100, "RFC 5321 section 4.5.3.1.8");
const _: () = assert!(SERVER_IDLE >= 5 * MINUTE, "RFC 5321 section 4.5.3.2.7");
const _: () = assert!(HELD_INPUT > LONGEST_COMMAND_LINE * 100);
const _: () = assert!(RECEIVED_FIELDS >= 100, "RFC 5321 section 6.3");
const _: () = assert!(RETRY_FIRST <= RETRY_MOST && HOP_RETRY_FIRST <= HOP_RETRY_MOST);
