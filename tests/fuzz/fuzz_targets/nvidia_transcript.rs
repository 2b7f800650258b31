#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::nvidia::transcript::fuzz_nvidia_transcript(data)
});
