#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::reference::fuzz_reference_values(
    data
));
