#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::snp::key_service::fuzz_snp_certificate_table(data)
});
