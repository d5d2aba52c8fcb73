//! Runs libFuzzer on the target `sessions` of `fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("sessions", data));
