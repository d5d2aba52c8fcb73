//! What the settings permit of memory is compared with what the process may have.

use lockstep_tests::pair::{A, DEADLINE, Pair, SILENCE, WITNESS};
use lockstep_tests::process::wait_for;
use serde_json::Value;

const PART: &str = env!("CARGO_BIN_EXE_part");

/// Address space that a CoServer with few clients may use and that the default permits to exceed.
const ADDRESS_SPACE: u64 = 4 << 30;

/// Starts A, and gives what it says of memory and its log.
fn started(pair: &mut Pair) -> (Value, String) {
    pair.run(WITNESS);
    pair.run(A);
    let status = wait_for(DEADLINE, || pair.status(A)).expect("it answers");
    (status["memory"].clone(), pair.process(A).log())
}

fn of_term(memory: &Value, name: &str) -> u64 {
    let terms = memory["terms"].as_array().expect("a list");
    terms.iter().find(|term| term["name"] == name).and_then(|term| term["bytes"].as_u64()).unwrap()
}

#[test]
fn settings_that_permit_more_memory_than_there_is_are_said_with_what_to_set() {
    let mut pair = Pair::init(PART, SILENCE);
    pair.limit_address_space(ADDRESS_SPACE >> 10);
    let (memory, log) = started(&mut pair);
    let line = log.lines().find(|line| line.contains("memory_short"));
    let line = line.unwrap_or_else(|| panic!("nothing is said of memory: {log}"));
    for part in ["WARN", "address_space", "limits.clients", "LimitAS=", &ADDRESS_SPACE.to_string()]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(memory["short"], true, "{memory}");
    assert_eq!(memory["available"], ADDRESS_SPACE, "{memory}");
    let permitted = memory["permitted"].as_u64().expect("a number");
    assert!(permitted > ADDRESS_SPACE && line.contains(&permitted.to_string()), "{memory}");

    // With what it names set, it fits.
    let mut pair = Pair::init(PART, SILENCE);
    pair.change(A, "\n[timing]\n", "\n[limits]\nclients = 100\n\n[timing]\n");
    pair.limit_address_space(ADDRESS_SPACE >> 10);
    let (fewer, log) = started(&mut pair);
    assert!(!log.contains("memory_short"), "{log}");
    assert_eq!(fewer["short"], false, "{fewer}");
    assert_eq!(of_term(&fewer, "clients") * 4096, of_term(&memory, "clients") * 100);
}
