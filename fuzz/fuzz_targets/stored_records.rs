#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| roundsman::fuzz::stored_records(input));
