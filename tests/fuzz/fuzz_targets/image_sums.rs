#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_image::metadata::fuzz_sums(data));
