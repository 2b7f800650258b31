#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::release::fuzz_release(data));
