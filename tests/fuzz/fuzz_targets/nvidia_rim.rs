#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::nvidia::rim::fuzz_nvidia_rim(data));
