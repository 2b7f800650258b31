#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_content::merkle::fuzz_segment_roots(data));
