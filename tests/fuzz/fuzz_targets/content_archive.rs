#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_content::archive::fuzz_archive(data));
