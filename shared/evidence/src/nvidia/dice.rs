//! The DICE extension of a GPU's leaf certificate, which names the digest of the firmware that owns its key (FWID).
//!
//! NVIDIA uses two contents. Hopper: CompositeDeviceID of the RIoT era, { version 1, key of the device identity,
//! { algorithm, digest } }. Blackwell: DiceTcbInfo of TCG's DICE Attestation Architecture, whose field 6 lists
//! { algorithm, digest }; the first entry counts, as in NVIDIA's own verifier.

use super::der::{self, DerError, Reader};

/// 2.16.840.1.101.3.4.2.2
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const FWIDS: u8 = 0xa6;
const MAX_FWIDS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dice<'a> {
    pub(crate) fwid: [u8; 48],
    /// The device identity's SubjectPublicKeyInfo, where the extension names it.
    pub(crate) device_spki: Option<&'a [u8]>,
}

impl<'a> Dice<'a> {
    pub(crate) fn parse(content: &'a [u8]) -> Result<Self, DerError> {
        let inner = Reader::only(content, der::SEQUENCE)?;
        if inner.peek() == Some(der::INTEGER) { composite(inner) } else { tcb_info(inner) }
    }
}

fn composite(mut inner: Reader<'_>) -> Result<Dice<'_>, DerError> {
    if inner.small()? != 1 {
        return Err(DerError::Value("the DICE extension has an unknown version"));
    }
    let device_spki = Some(inner.value(der::SEQUENCE)?.whole);
    let fwid = read_fwid(inner.enter(der::SEQUENCE)?)?;
    inner.finish()?;
    Ok(Dice { fwid, device_spki })
}

fn tcb_info(mut inner: Reader<'_>) -> Result<Dice<'_>, DerError> {
    let mut first = None;
    let mut least = 0;
    while !inner.is_empty() {
        let field = inner.next()?;
        let number = field.tag & 0x1f;
        if field.tag & 0xc0 != 0x80 || number < least {
            return Err(DerError::Value("the DICE extension's fields are out of order"));
        }
        if field.tag == FWIDS {
            let mut list = Reader::new(field.content);
            for _ in 0..MAX_FWIDS {
                if list.is_empty() {
                    break;
                }
                let entry = list.enter(der::SEQUENCE)?;
                if first.is_none() {
                    first = Some(read_fwid(entry)?);
                }
            }
            list.finish()?;
        }
        least = number + 1;
    }
    let fwid = first.ok_or(DerError::Value("the DICE extension names no firmware digest"))?;
    Ok(Dice { fwid, device_spki: None })
}

fn read_fwid(mut entry: Reader<'_>) -> Result<[u8; 48], DerError> {
    if entry.content(der::OID)? != SHA384 {
        return Err(DerError::Value("a firmware digest is not of SHA-384"));
    }
    let digest = entry.content(der::OCTET_STRING)?;
    entry.finish()?;
    digest.try_into().map_err(|_| DerError::Value("a firmware digest has not 48 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::der_writer::{tlv, tlv_all};

    fn fwid(byte: u8) -> Vec<u8> {
        tlv_all(0x30, &[tlv(6, SHA384), tlv(4, &[byte; 48])])
    }

    #[test]
    fn reads_both_contents() {
        let spki = tlv(0x30, &[]);
        let hopper = tlv_all(0x30, &[tlv(2, &[1]), spki.clone(), fwid(7)]);
        let read = Dice::parse(&hopper).expect("parses");
        assert_eq!((read.fwid, read.device_spki), ([7; 48], Some(&spki[..])));
        let fwids = tlv_all(FWIDS, &[fwid(8), fwid(9)]);
        let blackwell =
            tlv_all(0x30, &[tlv(0x80, b"NVIDIA"), tlv(0x81, b"GB100"), fwids, tlv(0x87, &[0, 0])]);
        assert_eq!(Dice::parse(&blackwell).expect("parses").fwid, [8; 48]);
    }

    #[test]
    fn refuses_other_contents() {
        let fwids = tlv_all(FWIDS, &[fwid(8)]);
        for content in [
            tlv_all(0x30, &[]),
            tlv_all(0x30, &[tlv(0x80, b"NVIDIA")]),
            tlv_all(0x30, &[tlv(2, &[2]), tlv(0x30, &[]), fwid(7)]),
            tlv_all(0x30, &[tlv(2, &[1]), tlv(0x30, &[]), fwid(7), tlv(5, &[])]),
            tlv_all(0x30, &[fwids.clone(), fwids.clone()]),
            tlv_all(0x30, &[tlv_all(FWIDS, &[tlv_all(0x30, &[tlv(6, &[1]), tlv(4, &[8; 48])])])]),
            tlv_all(0x30, &[tlv_all(FWIDS, &[tlv_all(0x30, &[tlv(6, SHA384), tlv(4, &[8; 47])])])]),
            tlv_all(0x30, &[tlv_all(FWIDS, &vec![fwid(1); 9])]),
        ] {
            assert!(Dice::parse(&content).is_err(), "{}", hex::encode(content));
        }
    }
}
