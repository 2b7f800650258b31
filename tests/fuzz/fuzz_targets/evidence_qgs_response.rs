#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::qgs::fuzz_qgs_response(data));
