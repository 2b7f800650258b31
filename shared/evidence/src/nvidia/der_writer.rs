//! Writing the little DER that is written here: OCSP requests, and what the simulated GPU needs.

use super::der;

/// One value with its type and length, up to 65535 bytes.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    match (high, low) {
        (0, short) if short < 0x80 => bytes.push(short),
        (0, long) => bytes.extend([0x81, long]),
        (high, low) => bytes.extend([0x82, high, low]),
    }
    bytes.extend_from_slice(content);
    bytes
}

/// A value made of values.
pub(crate) fn tlv_all(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// An integer that is not negative, from its bytes without leading zeros.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    match bytes.first() {
        None => tlv(der::INTEGER, &[0]),
        Some(first) if *first >= 0x80 => tlv(der::INTEGER, &[&[0], bytes].concat()),
        Some(_) => tlv(der::INTEGER, bytes),
    }
}

pub(crate) fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv_all(der::SEQUENCE, &[tlv(der::OID, oid)])
}
