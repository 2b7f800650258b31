#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_seal::stream::fuzz_stream_opener(data));
