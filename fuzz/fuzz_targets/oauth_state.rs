#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pagesyncd::fuzzing::oauth_state(bytes));
