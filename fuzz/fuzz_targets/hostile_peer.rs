//! Runs libFuzzer on the target `hostile_peer` of `fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("hostile_peer", data));
