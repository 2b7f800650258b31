#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_receipt::statement::fuzz_statement(data));
