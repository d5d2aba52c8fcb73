//! A path that does not take packets of 1,228 bytes whole, from the start on: nothing comes of it,
//! and both CoServers say what they wait for. In network namespaces, so as root, else skipped.

use std::process::Command;

use lockstep_tests::pair::{A, B, DEADLINE, Pair, Part, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;
use lockstep_tests::said::skipped;

const PART: &str = env!("CARGO_BIN_EXE_part");

/// Too little for a packet of QUIC over IPv4.
const NARROW: &str = "1220";
const ETHERNET: &str = "1500";

/// Two network namespaces with a cable between them, gone when this is dropped.
struct Cable {
    names: [String; 2],
}

impl Cable {
    /// `None` where it cannot be had, which is said.
    #[expect(clippy::disallowed_methods, reason = "other runs on this machine have theirs")]
    fn lay(name: &str) -> Option<Self> {
        let id = std::process::id();
        let names = ["a", "b"].map(|end| format!("lockstep-{name}-{id}-{end}"));
        let [a, b] = &names;
        if let Err(why) = ip(&["netns", "add", a]) {
            skipped(&format!("no network namespace: {why}"));
            return None;
        }
        let cable = Self { names: names.clone() };
        for line in [
            vec!["netns", "add", b],
            vec!["-n", a, "link", "add", "eth", "type", "veth", "peer", "name", "eth", "netns", b],
            vec!["-n", a, "addr", "add", "10.0.0.1/24", "dev", "eth"],
            vec!["-n", b, "addr", "add", "10.0.0.2/24", "dev", "eth"],
            vec!["-n", a, "link", "set", "lo", "up"],
            vec!["-n", b, "link", "set", "lo", "up"],
            vec!["-n", a, "link", "set", "eth", "up"],
            vec!["-n", b, "link", "set", "eth", "up"],
        ] {
            ip(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"));
        }
        Some(cable)
    }

    /// What packets an end takes and sends.
    fn set_mtu(&self, end: Part, mtu: &str) {
        let name = &self.names[usize::from(end == B)];
        ip(&["-n", name, "link", "set", "eth", "mtu", mtu]).unwrap();
    }

    fn run(&self, pair: &mut Pair, part: Part) {
        let name = &self.names[usize::from(part == B)];
        pair.run_under(part, &["ip", "netns", "exec", name].map(String::from));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    if ran.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned())
}

/// Puts the addresses of the pair at the ends of the cable; the witness is beside A.
fn move_to(pair: &Pair) {
    let links = [A, B].map(|part| pair.addresses(part, "local"));
    for part in [A, B] {
        for (addresses, host) in links.iter().zip(["10.0.0.1", "10.0.0.2"]) {
            for address in addresses {
                let there = format!("\"{host}:{}\"", address.port());
                pair.change(part, &format!("\"{address}\""), &there);
            }
        }
    }
    let witness = pair.addresses(WITNESS, "listen")[0];
    for part in [A, B, WITNESS] {
        let there = format!("\"10.0.0.1:{}\"", witness.port());
        pair.change(part, &format!("\"{witness}\""), &there);
    }
    let own = pair.addresses(B, "clients")[0];
    pair.change(B, &format!("\"{own}\""), &format!("\"10.0.0.2:{}\"", own.port()));
}

fn says_what_it_waits_for(pair: &mut Pair, part: Part, reason: &str) {
    let size = "packets of 1,228 bytes";
    let status = pair.wait_until(part, "waiting", |status| status["waits_for"]["reason"] == reason);
    assert!(status["waits_for"]["todo"].as_str().unwrap().contains(size), "{status}");
    let (event, reason) = ("event=\"waits_for\"", format!("reason=\"{reason}\""));
    let look = || {
        let log = pair.process(part).log();
        let fits = |line: &str| [event, &reason, size].iter().all(|word| line.contains(word));
        if log.lines().any(fits) { Ok(()) } else { Err(log) }
    };
    wait_for(DEADLINE, look).unwrap_or_else(|log| panic!("{} does not say so: {log}", part.name()));
}

/// `narrow` is at B where packets are refused to the sender, at A where they are lost on the way.
fn over_a_narrow_path(name: &str, narrow: Part) {
    let Some(cable) = Cable::lay(name) else { return };
    cable.set_mtu(narrow, NARROW);
    let mut pair = Pair::init(PART, SILENCE);
    move_to(&pair);
    for part in [WITNESS, A, B] {
        cable.run(&mut pair, part);
    }
    says_what_it_waits_for(&mut pair, A, "other");
    says_what_it_waits_for(&mut pair, B, "other-and-witness");
    // It was that alone.
    cable.set_mtu(narrow, ETHERNET);
    pair.wait_for_duplex();
}

#[test]
fn a_machine_that_sends_no_packets_of_1228_bytes_is_not_silent_about_it() {
    over_a_narrow_path("end", B);
}

#[test]
fn a_path_that_loses_packets_of_1228_bytes_is_not_passed_over_in_silence() {
    over_a_narrow_path("way", A);
}
