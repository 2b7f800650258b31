//! Messages to and from Intel's quote generation service, for guests whose kernel has no configfs-tsm: a TDREPORT out, a
//! quote back (version 1.0 of the protocol; over vsock each message has its length before it, big-endian; all else is
//! little-endian).
//!
//! ```text
//! header:   major u16, minor u16, type u32, size of the message u32, error u32
//! request:  header, size of the report u32, size of the id list u32, report
//! response: header, size of the selected id u32, size of the quote u32, selected id, quote
//! ```

use crate::bundle::MAX_QUOTE_BYTES;

/// The port that the service has unless its operator chose another.
pub const PORT: u32 = 4050;
pub const TDREPORT_BYTES: usize = 1024;

const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const GET_QUOTE_REQUEST: u32 = 0;
const GET_QUOTE_RESPONSE: u32 = 1;
const HEADER_BYTES: usize = 16;
const SIZES_BYTES: usize = 8;
const REQUEST_BYTES: usize = HEADER_BYTES + SIZES_BYTES + TDREPORT_BYTES;
const MAX_SELECTED_ID: usize = 256;
const MAX_RESPONSE_BYTES: usize = HEADER_BYTES + SIZES_BYTES + MAX_SELECTED_ID + MAX_QUOTE_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QgsError {
    #[error("a message of {0} bytes is none of the quote generation service")]
    Length(usize),
    #[error("it speaks version {0} of its protocol, not 1")]
    Version(u16),
    #[error("it answers with a message of type {0}, not with a quote")]
    Type(u32),
    #[error("the quote generation service refuses with {0:#x}")]
    Refused(u32),
    #[error("the sizes in its answer contradict each other")]
    Sizes,
    #[error("its answer has no quote")]
    Empty,
}

/// A request for a quote over `report`, with its length before it.
pub fn request(report: &[u8; TDREPORT_BYTES]) -> Vec<u8> {
    const SIZE: u32 = REQUEST_BYTES as u32;
    let mut bytes = Vec::with_capacity(4 + REQUEST_BYTES);
    bytes.extend(SIZE.to_be_bytes());
    bytes.extend(MAJOR.to_le_bytes());
    bytes.extend(MINOR.to_le_bytes());
    bytes.extend(GET_QUOTE_REQUEST.to_le_bytes());
    bytes.extend(SIZE.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend((TDREPORT_BYTES as u32).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(report);
    bytes
}

/// How many bytes follow; known to be few before anything is kept for them.
pub fn response_length(prefix: [u8; 4]) -> Result<usize, QgsError> {
    match usize::try_from(u32::from_be_bytes(prefix)) {
        Ok(length @ HEADER_BYTES..=MAX_RESPONSE_BYTES) => Ok(length),
        Ok(length) => Err(QgsError::Length(length)),
        Err(_) => Err(QgsError::Length(usize::MAX)),
    }
}

/// The quote in a response, which is `message` from its first byte to its last.
pub fn quote(message: &[u8]) -> Result<&[u8], QgsError> {
    let length = || QgsError::Length(message.len());
    if message.len() > MAX_RESPONSE_BYTES {
        return Err(length());
    }
    let word = |at: usize| {
        let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let (major, _) = message.split_first_chunk::<2>().ok_or_else(length)?;
    if u16::from_le_bytes(*major) != MAJOR {
        return Err(QgsError::Version(u16::from_le_bytes(*major)));
    }
    let (Some(kind), Some(size), Some(error)) = (word(4), word(8), word(12)) else {
        return Err(length());
    };
    if kind != GET_QUOTE_RESPONSE {
        return Err(QgsError::Type(kind));
    }
    if error != 0 {
        return Err(QgsError::Refused(error));
    }
    let (Some(id), Some(quote)) = (word(16), word(20)) else { return Err(length()) };
    let sizes = [HEADER_BYTES as u64, SIZES_BYTES as u64, u64::from(id), u64::from(quote)];
    if u64::from(size) != message.len() as u64 || sizes.iter().sum::<u64>() != u64::from(size) {
        return Err(QgsError::Sizes);
    }
    let quote_bytes = usize::try_from(quote).map_err(|_| QgsError::Sizes)?;
    if quote_bytes == 0 || quote_bytes > MAX_QUOTE_BYTES {
        return Err(QgsError::Empty);
    }
    message.len().checked_sub(quote_bytes).and_then(|at| message.get(at..)).ok_or(QgsError::Sizes)
}

/// Fuzz entry: what is taken for a quote is the end of the message and within its limit.
pub fn fuzz_qgs_response(data: &[u8]) {
    if let Ok(found) = quote(data) {
        assert!(!found.is_empty() && found.len() <= MAX_QUOTE_BYTES && data.ends_with(found));
    }
    if let Some((prefix, rest)) = data.split_first_chunk::<4>()
        && let Ok(length) = response_length(*prefix)
    {
        assert!(length <= MAX_RESPONSE_BYTES);
        let _ = rest.get(..length).map(quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(id: &[u8], body: &[u8]) -> Vec<u8> {
        let word = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
        let size = HEADER_BYTES + SIZES_BYTES + id.len() + body.len();
        let header = [&[1, 0, 0, 0][..], &word(1), &word(size), &word(0)].concat();
        [&header, &word(id.len())[..], &word(body.len()), id, body].concat()
    }

    #[test]
    fn a_request_has_its_report_and_its_sizes() {
        let bytes = request(&[9; TDREPORT_BYTES]);
        assert_eq!(bytes.len(), 4 + 1048);
        assert_eq!(bytes[..4], [0, 0, 4, 24], "big-endian");
        assert_eq!(bytes[4..20], [1, 0, 0, 0, 0, 0, 0, 0, 24, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[20..28], [0, 4, 0, 0, 0, 0, 0, 0]);
        assert!(bytes[28..].iter().all(|byte| *byte == 9));
    }

    #[test]
    fn the_quote_is_found_behind_the_selected_id() {
        assert_eq!(quote(&response(&[], &[4, 0, 2])), Ok(&[4, 0, 2][..]));
        assert_eq!(quote(&response(&[1; 16], &[4, 0, 2])), Ok(&[4, 0, 2][..]));
        assert_eq!(quote(&response(&[], &[])), Err(QgsError::Empty));
        let good = response(&[1], &[4, 0, 2]);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            quote(&bytes).map(<[u8]>::to_vec)
        };
        assert_eq!(changed(0, 2), Err(QgsError::Version(2)));
        assert_eq!(changed(2, 1), Ok(vec![4, 0, 2]), "minor versions add");
        assert_eq!(changed(4, 0), Err(QgsError::Type(0)));
        assert_eq!(changed(12, 1), Err(QgsError::Refused(1)));
        for at in [8, 16, 20, 11, 19, 23] {
            assert_eq!(changed(at, 0xff), Err(QgsError::Sizes), "{at}");
        }
        for length in 0..good.len() {
            assert!(quote(&good[..length]).is_err(), "{length}");
            fuzz_qgs_response(&good[..length]);
        }
        assert!(quote(&[&good[..], &[0]].concat()).is_err());
        assert!(quote(&vec![0; MAX_RESPONSE_BYTES + 1]).is_err());
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_kept() {
        assert_eq!(response_length([0, 0, 0, 16]), Ok(16));
        assert_eq!(response_length([0, 0, 0, 15]), Err(QgsError::Length(15)));
        assert_eq!(response_length([0, 0, 0x40, 0]), Ok(0x4000));
        assert!(response_length([0, 1, 0, 0]).is_err());
        assert!(response_length([0xff; 4]).is_err());
    }
}
