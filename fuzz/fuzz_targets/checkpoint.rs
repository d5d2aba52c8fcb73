//! Runs libFuzzer on the target `checkpoint` of `fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("checkpoint", data));
