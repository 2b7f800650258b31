#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::measure::recipe::fuzz_recipe(data));
