#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::collateral::answers::fuzz_answers(
    data
));
