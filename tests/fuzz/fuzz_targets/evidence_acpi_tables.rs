#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealtune_evidence::measure::acpi::fuzz_acpi_tables(data));
