#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pagesyncd::fuzzing::shopify_bulk(bytes));
