#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::nvidia::fuzz_nvidia_chain(data));
