#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| roundsman::fuzz::nginx_file(input));
