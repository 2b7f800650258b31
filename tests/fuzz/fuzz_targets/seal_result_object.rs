#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::result_object::fuzz_result_object(data));
