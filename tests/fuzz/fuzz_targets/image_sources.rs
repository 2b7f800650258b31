#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_image::sources::fuzz_sources(data));
