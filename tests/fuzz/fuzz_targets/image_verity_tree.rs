#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_image::verity::fuzz_tree(data));
