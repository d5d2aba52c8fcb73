//! The text of the configuration files.

use std::fmt::Write;
use std::time::Duration;

use super::{Addresses, PairKeys, ServiceSections};
use crate::ids::{PairId, ReplicaId};
use crate::runtime::config::duration_text;

pub(super) fn coserver(
    place: ReplicaId,
    pair: PairId,
    keys: &PairKeys,
    addresses: &Addresses,
    silence: &Option<Duration>,
    sections: &ServiceSections,
) -> String {
    let silence = match silence {
        Some(silence) => format!("silence = \"{}\"", duration_text(*silence)),
        None => "# silence = \"100ms\"".into(),
    };
    format!(
        "# The CoServer at place {place}. Relative paths start at this file's directory.\n\
         place = \"{place}\"\n\
         # The same in all files of the pair.\n\
         pair = \"{pair}\"\n\
         # For its lock, its control socket and, in `store`, its journal. Make it absolute, such as\n\
         # /var/lib/NAME/{place}, where this file is under /etc.\n\
         directory = \"{place}\"\n\
         key = \"keys/{place}.key\"\n\
         witness = \"{witness}\"\n\
         # Where the client library is served; leave it out to serve nobody.\n\
         clients = \"{clients}\"\n\
         # Who goes on when the CoServers computed different things: \"sequencer\", \"prefer-a\",\n\
         # \"prefer-b\" or \"hold\". The same on both.\n\
         # divergence = \"sequencer\"\n\
         # Where the service is executed: \"inline\", or on a \"thread\" of its own.\n\
         # execution = \"inline\"\n\
         \n\
         # The links to the other CoServer, in the same order on both. Give each a network of its own.\n\
         {links}\
         [peers]\n\
         coserver = \"{other}\"\n\
         witness = \"{witness_key}\"\n\
         # Who may connect: a key, or a table with more. `connections = N` bounds how many at once;\n\
         # with `rights = \"read\"` it may ask only what changes nothing.\n\
         clients = [\n\
         \x20   {{ key = \"{client}\", name = \"client\" }},\n\
         ]\n\
         \n\
         [timing]\n\
         # The other's silence on every link that is taken for its death.\n\
         {silence}\n\
         \n\
         # The disk. What is said as a comment is the default.\n\
         [storage]\n\
         # \"journal\": nothing is released before both have it on disk. \"memory\": before both\n\
         # have it in memory; a loss of both is a loss. The same on both.\n\
         # durability = \"journal\"\n\
         # directory = \"{place}/store\"\n\
         # segment_bytes = 67108864\n\
         # Bytes of entries between two checkpoints. The same on both.\n\
         # checkpoint_bytes = 67108864\n\
         # checkpoints_kept = 2\n\
         # journal_keep_bytes = 268435456\n\
         # retain_limit_bytes = 4294967296\n\
         # Bytes a second that a joiner is sent of what it lacks.\n\
         # join_rate = 67108864\n\
         # How long to look for the other before going on alone with what is on the disk.\n\
         # meeting = \"1s\"\n\
         \n\
         # The service's own settings.\n\
         [service]\n\
         {service}",
        witness = addresses.witness,
        clients = addresses.clients[place.slot()],
        links = links(place, addresses),
        other = keys.of(place.other()).public(),
        witness_key = keys.witness.public(),
        client = keys.client.public(),
        service = sections.coservers[place.slot()],
    )
}

fn links(place: ReplicaId, addresses: &Addresses) -> String {
    let mut text = String::new();
    for (a, b) in &addresses.links {
        let (local, remote) = match place {
            ReplicaId::A => (a, b),
            ReplicaId::B => (b, a),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "[[links]]\nlocal = \"{local}\"\nremote = \"{remote}\"\n");
    }
    text
}

pub(super) fn witness(pair: PairId, keys: &PairKeys, addresses: &Addresses) -> String {
    format!(
        "# The witness. Relative paths start at this file's directory.\n\
         listen = \"{listen}\"\n\
         # For the records, the lock and the control socket. Never restore it from a copy. Make it\n\
         # absolute, such as /var/lib/NAME, where this file is under /etc.\n\
         directory = \"witness\"\n\
         key = \"keys/witness.key\"\n\
         # Nothing is granted for this long after a start.\n\
         # grace = \"2s\"\n\
         \n\
         # One such section for every pair.\n\
         [[pairs]]\n\
         id = \"{pair}\"\n\
         a = \"{a}\"\n\
         b = \"{b}\"\n",
        listen = addresses.witness,
        a = keys.of(ReplicaId::A).public(),
        b = keys.of(ReplicaId::B).public(),
    )
}

pub(super) fn client(
    pair: PairId,
    keys: &PairKeys,
    addresses: &Addresses,
    sections: &ServiceSections,
) -> String {
    let [a, b] = addresses.clients;
    format!(
        "# A client. Relative paths start at this file's directory.\n\
         pair = \"{pair}\"\n\
         key = \"keys/client.key\"\n\
         \n\
         [coservers.a]\n\
         address = \"{a}\"\n\
         key = \"{key_a}\"\n\
         \n\
         [coservers.b]\n\
         address = \"{b}\"\n\
         key = \"{key_b}\"\n\
         \n\
         # The service's own settings.\n\
         [service]\n\
         {service}",
        key_a = keys.of(ReplicaId::A).public(),
        key_b = keys.of(ReplicaId::B).public(),
        service = sections.client,
    )
}
