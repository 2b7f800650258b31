#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::nvidia::collateral::fuzz_nvidia_collateral(data)
});
