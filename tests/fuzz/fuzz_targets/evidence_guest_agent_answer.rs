#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sealtune_evidence::dstack::guest_agent::fuzz_guest_agent_answer(data)
});
