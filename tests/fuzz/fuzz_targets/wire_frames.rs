#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_wire::frame::fuzz_frames(data));
