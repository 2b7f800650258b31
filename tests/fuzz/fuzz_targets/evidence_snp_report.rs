#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::snp::report::fuzz_snp_report(data));
