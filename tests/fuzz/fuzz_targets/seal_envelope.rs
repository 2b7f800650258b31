#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::envelope::fuzz_envelope(data));
