#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_content::fuzz_content_id(data));
