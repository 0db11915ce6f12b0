#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pagesyncd::fuzzing::config_text(bytes));
