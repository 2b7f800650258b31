#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::release::fuzz_trusted_keys(data));
