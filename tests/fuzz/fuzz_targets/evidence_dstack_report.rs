#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::appraise::fuzz_dstack_report(data));
