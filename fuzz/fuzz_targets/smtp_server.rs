//! Runs libFuzzer on the target `smtp_server` of `fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::run("smtp_server", data));
