//! Where the fields of a TDREPORT and of a TDX quote stand (Intel TDX module ABI; DCAP quote versions 4 and 5).

use sealtune_evidence::FixedHex;
use sealtune_evidence::event_log::Registers;

/// Bytes of a TDREPORT.
pub(crate) const REPORT_BYTES: usize = 1024;

const TDX_TYPE: u8 = 0x81;
const REPORT_DATA: usize = 128;
const MR_CONFIG_ID: usize = 576;

const QUOTE_HEADER: usize = 48;
/// Version 5 puts a type and a length before the body.
const QUOTE_5_BODY: usize = QUOTE_HEADER + 6;
const BODY_MR_CONFIG_ID: usize = 184;
const BODY_REGISTERS: usize = 328;
const BODY_REPORT_DATA: usize = 520;

/// MRCONFIGID of a TDREPORT made for `report_data`.
pub(crate) fn mr_config_id(
    report: &[u8; REPORT_BYTES],
    report_data: &[u8; 64],
) -> Result<[u8; 48], &'static str> {
    if report.first() != Some(&TDX_TYPE) {
        return Err("it is not of a TDX VM");
    }
    if array::<64>(report, REPORT_DATA) != Some(report_data) {
        return Err("it was made for other report data");
    }
    array(report, MR_CONFIG_ID).copied().ok_or("it is too short")
}

pub(crate) fn quoted_report_data(quote: &[u8]) -> Option<&[u8; 64]> {
    array(quote, body(quote)? + BODY_REPORT_DATA)
}

pub(crate) fn quoted_mr_config_id(quote: &[u8]) -> Option<&[u8; 48]> {
    array(quote, body(quote)? + BODY_MR_CONFIG_ID)
}

/// RTMR0 to RTMR3.
pub(crate) fn quoted_registers(quote: &[u8]) -> Option<Registers> {
    let first = body(quote)? + BODY_REGISTERS;
    let register = |number: usize| array(quote, first + 48 * number).copied().map(FixedHex);
    Some([register(0)?, register(1)?, register(2)?, register(3)?])
}

fn body(quote: &[u8]) -> Option<usize> {
    let (version, _) = quote.split_first_chunk::<2>()?;
    match u16::from_le_bytes(*version) {
        4 => Some(QUOTE_HEADER),
        5 => Some(QUOTE_5_BODY),
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// Fuzz entry: hostile lengths and versions.
#[cfg(test)]
pub(crate) fn fuzz_quoted_report_data(data: &[u8]) {
    if let Some(found) = quoted_report_data(data) {
        assert!(data.windows(64).any(|window| window == found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> Option<Vec<u8>> {
        let folder = std::env::var("SEALTUNE_VECTORS").unwrap_or_else(|_| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors").to_owned()
        });
        let read = std::fs::read(format!("{folder}/tdx/{name}"));
        if read.is_err() {
            println!("skipped: no test vectors in {folder}");
        }
        read.ok()
    }

    #[test]
    fn a_real_report_is_read_and_a_changed_one_refused() {
        let Some(bytes) = vector("tdreport.bin") else { return };
        let mut report: [u8; REPORT_BYTES] = bytes.try_into().unwrap();
        assert_eq!(mr_config_id(&report, &[0; 64]), Ok([0; 48]));
        assert!(mr_config_id(&report, &[1; 64]).is_err());
        report[MR_CONFIG_ID..MR_CONFIG_ID + 48].copy_from_slice(&[7; 48]);
        assert_eq!(mr_config_id(&report, &[0; 64]), Ok([7; 48]));
        report[0] = 0;
        assert!(mr_config_id(&report, &[0; 64]).is_err());
    }

    #[test]
    fn report_data_is_found_in_real_and_short_quotes() {
        let mut quote = vec![0; 48 + 584];
        quote[0] = 4;
        quote[568..632].copy_from_slice(&[9; 64]);
        assert_eq!(quoted_report_data(&quote), Some(&[9; 64]));
        assert_eq!(quoted_report_data(&quote[..631]), None);
        quote[0] = 3;
        assert_eq!(quoted_report_data(&quote), None);
        if let Some(real) = vector("debug-td.quote.bin") {
            assert!(quoted_report_data(&real).is_some());
            for length in 0..700 {
                fuzz_quoted_report_data(&real[..length]);
            }
        }
    }
}
