#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::measure::tdvf::fuzz_tdvf(data));
