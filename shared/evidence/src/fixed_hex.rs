//! Bytes that travel as lower-case hex: of a fixed length ([`FixedHex`]) or of any bounded one ([`HexBytes`]).
//!
//! Only one spelling is read, so that two documents that say the same are the same bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `N` bytes, written as `2 * N` lower-case hex digits without `0x`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FixedHex<const N: usize>(pub [u8; N]);

/// A SHA-256 digest, a root, a key or a nonce.
pub type Hex32 = FixedHex<32>;
/// A measurement register, or any SHA-384 digest.
pub type Hex48 = FixedHex<48>;
/// A job id.
pub type Hex16 = FixedHex<16>;

/// Why text is not the hex of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {expected_bytes} bytes of lower-case hex, found {found_characters} characters")]
pub struct HexError {
    pub expected_bytes: usize,
    pub found_characters: usize,
}

impl<const N: usize> FixedHex<N> {
    pub const ZERO: Self = Self([0; N]);

    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl<const N: usize> Default for FixedHex<N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<const N: usize> From<[u8; N]> for FixedHex<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> fmt::Display for FixedHex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for FixedHex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for FixedHex<N> {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let error = HexError { expected_bytes: N, found_characters: text.len() };
        if !is_lower_hex(text) {
            return Err(error);
        }
        let mut bytes = [0; N];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(error),
        }
    }
}

impl<const N: usize> Serialize for FixedHex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for FixedHex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Bytes of any length, written as lower-case hex. Whoever reads them bounds the document first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HexBytes(pub Vec<u8>);

impl From<Vec<u8>> for HexBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = if is_lower_hex(&text) { hex::decode(&text).ok() } else { None };
        bytes.map(Self).ok_or_else(|| de::Error::custom("expected an even run of lower-case hex"))
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_spelling_only() {
        let value: FixedHex<2> = "0aff".parse().expect("lower-case hex");
        assert_eq!(value.to_string(), "0aff");
        for other in ["0AFF", "0x0aff", "0af", "0aff00", "", "zzzz", "0aff "] {
            assert!(other.parse::<FixedHex<2>>().is_err(), "{other}");
        }
    }

    #[test]
    fn free_length_bytes_refuse_upper_case_and_odd_lengths() {
        assert!(serde_json::from_str::<HexBytes>("\"00ab\"").is_ok());
        assert!(serde_json::from_str::<HexBytes>("\"\"").is_ok());
        for other in ["\"0AB0\"", "\"0ab\"", "\"é\""] {
            assert!(serde_json::from_str::<HexBytes>(other).is_err(), "{other}");
        }
    }
}
