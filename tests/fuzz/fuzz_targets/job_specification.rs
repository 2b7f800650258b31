#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_job::fuzz_specification(data));
