#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::snp::certificates::fuzz_snp_certificates(data)
});
