#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::collateral::nvidia::fuzz_gpu_answers(
    data
));
