//! RTMR0: what the firmware finds: memory, its variables, the host's tables.
//!
//! Source of the variables' form: UEFI_VARIABLE_DATA of the TCG PC Client Platform Firmware Profile 1.06, section 10.4.

use super::{error::MeasureError, tdvf::Tdvf};
use crate::{fixed_hex::Hex48, logs::payload::sha384};

/// 8be4df61-93ca-11d2-aa0d-00e098032b8c
pub const GLOBAL_VARIABLE: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// d719b2cb-3d3a-4596-a3bc-dad00e67656f
pub const IMAGE_SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// The variables of Secure Boot, in the order in which they are measured.
pub const SECURE_BOOT_VARIABLES: [([u8; 16], &str); 5] = [
    (GLOBAL_VARIABLE, "SecureBoot"),
    (GLOBAL_VARIABLE, "PK"),
    (GLOBAL_VARIABLE, "KEK"),
    (IMAGE_SECURITY_DATABASE, "db"),
    (IMAGE_SECURITY_DATABASE, "dbx"),
];

/// The digest of a variable's event; an empty value is that of a variable which is not set.
pub fn variable_digest(vendor: &[u8; 16], name: &str, value: &[u8]) -> Hex48 {
    let letters: Vec<u16> = name.encode_utf16().collect();
    let mut data = vendor.to_vec();
    data.extend((letters.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(letters.iter().flat_map(|letter| letter.to_le_bytes()));
    data.extend(value);
    sha384(&data)
}

pub fn separator_digest() -> Hex48 {
    sha384(&[0; 4])
}

/// The variable store in the firmware file.
pub fn configuration_volume_digest(firmware: &[u8], tdvf: &Tdvf) -> Result<Hex48, MeasureError> {
    tdvf.configuration_volume(firmware).map(sha384).ok_or(MeasureError::FirmwareSection {
        index: tdvf.sections().len(),
        reason: "there is no variable store",
    })
}
