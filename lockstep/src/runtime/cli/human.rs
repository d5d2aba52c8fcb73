//! A status for people. Programs take the JSON that it is made from (`--json`).

use std::fmt::Write;

use serde_json::Value;

/// The state of a process in a few lines. What is not in the answer is left out: a program may
/// ask a process of another version.
pub(super) fn status(answer: &Value) -> String {
    match answer["kind"].as_str() {
        Some("coserver") => coserver(answer),
        Some("witness") => witness(answer),
        _ => answer.to_string(),
    }
}

fn coserver(answer: &Value) -> String {
    let field = |name| text(&answer[name]);
    let mut out = format!(
        "{} at place {} (process {}, incarnation {}): {}",
        field("service"),
        field("place"),
        field("pid"),
        field("incarnation"),
        field("mode")
    );
    match answer["epoch"].as_u64() {
        None | Some(0) => line(&mut out, "member", "no"),
        Some(epoch) => {
            let member =
                format!("{}, epoch {epoch} of lineage {}", field("role"), field("lineage"));
            line(&mut out, "member", &member);
        }
    }
    waits(&mut out, &answer["waits_for"]);
    let log = ["held", "executed", "agreed", "released"];
    line(&mut out, "log", &log.map(|name| format!("{name} {}", field(name))).join(", "));
    let peer = &answer["peer"];
    let met = match peer["incarnation"].as_str() {
        Some(incarnation) => {
            format!("incarnation {incarnation}, held {}", text(&peer["held"]))
        }
        None => "never met".into(),
    };
    line(&mut out, "other", &met);
    for link in answer["links"].as_array().into_iter().flatten() {
        let state = match (link["connected"].as_bool(), link["up"].as_bool()) {
            (_, Some(true)) => format!("up, {} us", text(&link["round_trip_us"])),
            (Some(true), _) => "connected, heartbeats do not come back".into(),
            _ => "not connected".into(),
        };
        line(&mut out, &format!("link {}", text(&link["link"])), &state);
    }
    let reached = if answer["witness"] == true { "reached" } else { "not reached" };
    line(&mut out, "witness", &format!("slot {}, {reached}", field("witness_slot")));
    let refused = text(&answer["metrics"]["clients_refused"]);
    line(&mut out, "clients", &format!("{}, {refused} turned away", field("clients")));
    for client in answer["client_keys"].as_array().into_iter().flatten() {
        line(&mut out, "client", &one_client(client));
    }
    if let Some(left_out @ 1..) = answer["client_keys_left_out"].as_u64() {
        line(&mut out, "client", &format!("and {left_out} more"));
    }
    for device in answer["devices"].as_array().into_iter().flatten() {
        let counts = device["counts"].as_object().into_iter().flatten();
        let counts: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        if !counts.is_empty() {
            line(&mut out, &text(&device["name"]), &counts.join(", "));
        }
    }
    let memory = &answer["memory"];
    if memory["short"] == true {
        let of = |name: &str| text(&memory[name]);
        let said = format!("{} bytes permitted, {} there", of("permitted"), of("available"));
        line(&mut out, "memory", &format!("{said} ({})", of("bound_by")));
    }
    let storage = &answer["storage"];
    let failed = if storage["failed"] == true { ", failed" } else { "" };
    let persisted = text(&storage["persisted"]);
    line(
        &mut out,
        "disk",
        &format!("{}, persisted {persisted}{failed}", text(&storage["durability"])),
    );
    if let Some(index) = storage["replayed"].as_u64() {
        line(&mut out, "replay", &format!("entry {index} of {persisted}"));
    }
    if let Some(joining) = storage["joining"].as_object() {
        let part = |name: &str| text(&joining[name]);
        line(&mut out, "joining", &format!("{} of {} bytes received", part("have"), part("of")));
    }
    out
}

fn one_client(client: &Value) -> String {
    let most = client["connections_most"].as_u64();
    let most = most.map_or_else(String::new, |most| format!(" of {most}"));
    let rights = match client["rights"].as_str() {
        Some("read") => {
            format!(", reads only ({} requests refused)", text(&client["requests_refused"]))
        }
        _ => String::new(),
    };
    format!(
        "{}: {} connections{most}, {} turned away, {} displaced, {} not reading{rights}",
        text(&client["client"]),
        text(&client["connections"]),
        text(&client["refused"]),
        text(&client["displaced"]),
        text(&client["unread"])
    )
}

fn witness(answer: &Value) -> String {
    let mut out = format!(
        "witness (process {}): {} connections",
        text(&answer["pid"]),
        text(&answer["connections"])
    );
    for pair in answer["pairs"].as_array().into_iter().flatten() {
        let record = &pair["record"];
        let state = if record.is_null() {
            "refused".into()
        } else {
            let member =
                |place: &str| record[place].as_str().map_or_else(|| "none".into(), str::to_owned);
            format!(
                "epoch {} of lineage {}, {}; a {}, b {}",
                text(&record["epoch"]),
                text(&record["lineage"]),
                text(&record["origin"]),
                member("a"),
                member("b")
            )
        };
        line(&mut out, "pair", &format!("{}: {state}", text(&pair["pair"])));
        waits(&mut out, &pair["waits_for"]);
    }
    out
}

/// What is waited for, if anything is.
fn waits(out: &mut String, waits: &Value) {
    if waits.is_null() {
        return;
    }
    let seconds = waits["for_ms"].as_u64().unwrap_or(0) / 1000;
    line(out, "waits", &format!("for {seconds} s: {}", text(&waits["why"])));
    line(out, "to do", &text(&waits["todo"]));
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "\n  {name:<9}{value}");
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stuck_process_says_what_it_waits_for_since_when_and_what_to_do() {
        let said = status(&json!({
            "kind": "coserver", "service": "register", "place": "a", "pid": 7,
            "incarnation": "00000000000000ff", "mode": "starting", "role": "none", "epoch": 0,
            "waits_for": { "reason": "witness", "for_ms": 45_300, "why": "the witness is away",
                           "todo": "start it" },
            "peer": { "incarnation": null }, "links": [{ "link": 0, "connected": false }],
            "witness": false, "clients": 0, "client_keys_left_out": 2, "client_keys": [
                { "client": "billing", "connections": 3, "connections_most": 4, "refused": 2,
                  "displaced": 0, "unread": 2, "rights": "read", "requests_refused": 5 },
                { "client": "ed25519:00", "connections": 1, "connections_most": null,
                  "refused": 0, "displaced": 1, "unread": 0 },
            ],
            "devices": [{ "name": "tcp", "counts": { "connections": 3, "refused": 1 } }],
            "memory": { "permitted": 900, "available": 800, "bound_by": "cgroup", "short": true },
        }));
        for line in [
            "register at place a (process 7, incarnation 00000000000000ff): starting",
            "  waits    for 45 s: the witness is away",
            "  to do    start it",
            "  other    never met",
            "  link 0   not connected",
            "  client   billing: 3 connections of 4, 2 turned away, 0 displaced, 2 not reading, \
               reads only (5 requests refused)",
            "  client   ed25519:00: 1 connections, 0 turned away, 1 displaced, 0 not reading",
            "  client   and 2 more",
            "  tcp      connections 3, refused 1",
            "  memory   900 bytes permitted, 800 there (cgroup)",
        ] {
            assert!(said.lines().any(|known| known == line), "{line} is not in\n{said}");
        }
    }

    #[test]
    fn a_witness_and_what_is_unknown_are_shown_too() {
        let said = status(&json!({ "kind": "witness", "pid": 7, "connections": 2, "pairs": [
            { "pair": "07", "record": { "epoch": 5, "lineage": 1, "origin": "joined", "a": "1" } },
            { "pair": "08", "record": null, "waits_for": {
                "reason": "behind", "for_ms": 61_000, "why": "it is behind", "todo": "begin anew" } },
        ]}));
        assert!(said.contains("07: epoch 5 of lineage 1, joined; a 1, b none"), "{said}");
        assert!(said.contains("08: refused\n  waits    for 61 s: it is behind"), "{said}");
        assert!(said.contains("\n  to do    begin anew"), "{said}");
        assert_eq!(status(&json!({ "new": 1 })), "{\"new\":1}");
    }
}
