#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::canonical::fuzz_canonical(data));
