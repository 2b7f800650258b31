#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::nvidia::evidence::fuzz_nvidia_evidence(data)
});
