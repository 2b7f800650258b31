//! Where a report ends in the driver's buffer. A report is an SPDM 1.1 (DMTF DSP0274) GET_MEASUREMENTS request and the
//! MEASUREMENTS response to it; drivers have been seen to say one zero byte too much.
//!
//! ```text
//! request   11 E0 01 FF  nonce(32)  slot(1)
//! response  11 60 00 00  blocks(1)  record length(3)  record  nonce(32)  opaque length(2)  opaque  signature(96)
//! ```
//! What is inside of the record and the opaque data is the verifier's matter: nothing here vouches for a report.

use crate::library::{Filled, MAX_REPORT_BYTES};

const REQUEST_HEAD: [u8; 4] = [0x11, 0xe0, 0x01, 0xff];
const RESPONSE_HEAD: [u8; 4] = [0x11, 0x60, 0x00, 0x00];
const NONCE_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 96;
/// Header, nonce and slot.
const REQUEST_BYTES: usize = REQUEST_HEAD.len() + NONCE_BYTES + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TranscriptError {
    #[error("its length is more than its buffer's, or less than its parts need")]
    Length,
    #[error("{0} is not that of an SPDM 1.1 exchange for all measurements")]
    Form(&'static str),
    #[error("bytes that are not zero follow it")]
    Padding,
    #[error("it was made for another challenge")]
    Nonce,
}

/// The report without what follows it, if it was made for `challenge`.
pub(crate) fn cut(filled: &Filled, challenge: &[u8; 32]) -> Result<Vec<u8>, TranscriptError> {
    let length = usize::try_from(filled.length).map_err(|_| TranscriptError::Length)?;
    let bytes = filled.buffer.get(..length).ok_or(TranscriptError::Length)?;
    if length > MAX_REPORT_BYTES {
        return Err(TranscriptError::Length);
    }
    let mut front = Front(bytes);
    if front.array()? != REQUEST_HEAD {
        return Err(TranscriptError::Form("the request's header"));
    }
    if front.array::<NONCE_BYTES>()? != *challenge {
        return Err(TranscriptError::Nonce);
    }
    let [_slot] = front.array()?;
    if front.array()? != RESPONSE_HEAD {
        return Err(TranscriptError::Form("the response's header"));
    }
    let [_blocks, low, middle, high] = front.array()?;
    let record = u32::from_le_bytes([low, middle, high, 0]);
    front.take(usize::try_from(record).map_err(|_| TranscriptError::Length)?)?;
    front.take(NONCE_BYTES)?;
    let opaque = u16::from_le_bytes(front.array()?);
    front.take(usize::from(opaque))?;
    front.take(SIGNATURE_BYTES)?;
    let padding = front.0;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(TranscriptError::Padding);
    }
    let end = bytes.len().checked_sub(padding.len()).ok_or(TranscriptError::Length)?;
    Ok(bytes.get(..end).ok_or(TranscriptError::Length)?.to_vec())
}

/// The first field of this type in the opaque data of a report that was cut: { type u16, length u16, value }, little-endian.
pub(crate) fn opaque_field(report: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut front = Front(report);
    front.take(REQUEST_BYTES + RESPONSE_HEAD.len() + 1).ok()?;
    let [low, middle, high] = front.array().ok()?;
    let record = u32::from_le_bytes([low, middle, high, 0]);
    front.take(usize::try_from(record).ok()?).ok()?;
    front.take(NONCE_BYTES).ok()?;
    let opaque = u16::from_le_bytes(front.array().ok()?);
    let mut fields = Front(front.take(usize::from(opaque)).ok()?);
    loop {
        let kind = u16::from_le_bytes(fields.array().ok()?);
        let length = u16::from_le_bytes(fields.array().ok()?);
        let value = fields.take(usize::from(length)).ok()?;
        if kind == wanted {
            return Some(value);
        }
    }
}

/// Bytes that are taken from the front.
struct Front<'a>(&'a [u8]);

impl<'a> Front<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TranscriptError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TranscriptError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TranscriptError> {
        self.take(N)?.try_into().map_err(|_| TranscriptError::Length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulated::transcript;

    fn filled(bytes: &[u8]) -> Filled {
        let mut buffer = bytes.to_vec();
        let length = u32::try_from(bytes.len()).unwrap();
        buffer.resize(MAX_REPORT_BYTES.max(bytes.len()), 0);
        Filled { length, buffer }
    }

    const CHALLENGE: [u8; 32] = [7; 32];

    #[test]
    fn zeros_after_the_report_are_cut_and_nothing_else_is() {
        let report = transcript(&CHALLENGE, 3, 40);
        for padding in [0, 1, 100] {
            let padded = [report.as_slice(), &vec![0; padding]].concat();
            assert_eq!(cut(&filled(&padded), &CHALLENGE), Ok(report.clone()));
        }
        let other = [report.as_slice(), &[0, 1]].concat();
        assert_eq!(cut(&filled(&other), &CHALLENGE), Err(TranscriptError::Padding));
    }

    #[test]
    fn a_report_that_is_cut_anywhere_is_refused() {
        let report = transcript(&CHALLENGE, 3, 40);
        for length in 0..report.len() {
            assert!(cut(&filled(&report[..length]), &CHALLENGE).is_err(), "{length}");
        }
    }

    #[test]
    fn a_length_beyond_the_buffer_is_refused() {
        let mut long = filled(&transcript(&CHALLENGE, 3, 40));
        for length in [8193, u32::MAX] {
            long.length = length;
            assert_eq!(cut(&long, &CHALLENGE), Err(TranscriptError::Length));
        }
    }

    #[test]
    fn every_byte_of_the_headers_counts() {
        let report = transcript(&CHALLENGE, 3, 40);
        // The slot and the number of blocks are the verifier's matter.
        for at in (0..45).filter(|at| ![36, 41].contains(at)) {
            let mut flipped = report.clone();
            flipped[at] ^= 1;
            assert!(cut(&filled(&flipped), &CHALLENGE).is_err(), "byte {at}");
        }
        assert_eq!(cut(&filled(&report), &[8; 32]), Err(TranscriptError::Nonce));
    }

    /// A report of a real H100, taken by others, with its own challenge.
    #[test]
    fn a_real_report_is_taken_whole() {
        let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
            || {
                let near = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
                std::path::PathBuf::from(near)
            },
            std::path::PathBuf::from,
        );
        let path = root.join("gpu/hopperAttestationReport.txt");
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: no vector {}", path.display());
            return;
        };
        let report = hex::decode(text.trim()).unwrap();
        let challenge: [u8; 32] = report[4..36].try_into().unwrap();
        let padded = [report.as_slice(), &[0; 13]].concat();
        assert_eq!(cut(&filled(&padded), &challenge), Ok(report.clone()));
        assert_eq!(cut(&filled(&report), &challenge), Ok(report.clone()));
        for length in 0..report.len() {
            assert!(cut(&filled(&report[..length]), &challenge).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_never_panics_and_what_is_accepted_is_a_prefix(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            length in any::<u16>(),
            is_headed in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if is_headed {
                bytes.splice(0..0, transcript(&CHALLENGE, 0, 0)[..41].iter().copied());
            }
            for kind in [0, 6, length] {
                let found = opaque_field(&bytes, kind).map(<[u8]>::len);
                prop_assert!(found.is_none_or(|length| length <= bytes.len()));
            }
            let filled = Filled { length: u32::from(length), buffer: bytes.clone() };
            if let Ok(report) = cut(&filled, &CHALLENGE) {
                prop_assert!(bytes.starts_with(&report));
            }
        }
    }
}
