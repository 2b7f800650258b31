#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_receipt::envelope::fuzz_envelope(data));
