#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::snp::ovmf::fuzz_snp_ovmf(data));
