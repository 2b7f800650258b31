#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::event_log::fuzz_event_log(data));
