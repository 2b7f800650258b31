#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::commitment::fuzz_opening(data));
