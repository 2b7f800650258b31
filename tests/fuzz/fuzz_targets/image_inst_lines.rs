#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_image::apt::fuzz_inst_lines(data));
