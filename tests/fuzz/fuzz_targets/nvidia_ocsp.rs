#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::nvidia::ocsp::fuzz_nvidia_ocsp(data));
