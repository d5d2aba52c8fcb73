//! Runs libFuzzer on the target `unit_restore` of `fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("unit_restore", data));
