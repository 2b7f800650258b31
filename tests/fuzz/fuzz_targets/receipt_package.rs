#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_receipt::package::fuzz_package(data));
