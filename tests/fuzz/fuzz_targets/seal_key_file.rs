#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::key_file::fuzz_key_file(data));
