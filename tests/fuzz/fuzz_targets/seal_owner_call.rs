#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::owner_call::fuzz_owner_call(data));
