#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::measure::authenticode::fuzz_authenticode(data)
});
