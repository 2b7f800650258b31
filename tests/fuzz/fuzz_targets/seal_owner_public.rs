#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::owner::fuzz_owner_public(data));
