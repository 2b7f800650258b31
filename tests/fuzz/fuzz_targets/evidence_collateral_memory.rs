#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::collateral::memory::fuzz_collateral_memory(data)
});
