//! How bytes stand in our JSON: lower-case hex for keys, digests and nonces, standard base64 for blobs. Each byte string
//! has exactly one accepted spelling, so that two texts never mean the same signed thing.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Decodes exactly `N` bytes of lower-case hex without prefix.
pub(crate) fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !is_lower_hex(text) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Decodes lower-case hex of any length up to `limit` bytes.
pub(crate) fn hex_vec(text: &str, limit: usize) -> Option<Vec<u8>> {
    if text.len() / 2 > limit || !is_lower_hex(text) {
        return None;
    }
    hex::decode(text).ok()
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `#[serde(with = "encoding::base64_vec")]`: a blob as standard base64 with padding.
pub(crate) mod base64_vec {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(|_| D::Error::custom("not standard base64"))
    }
}

/// `#[serde(with = "encoding::hex_32")]`: 32 bytes as 64 lower-case hex digits.
pub(crate) mod hex_32 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        super::hex_array(&text).ok_or_else(|| D::Error::custom("not 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(hex_array::<2>("0aff"), Some([0x0a, 0xff]));
        for other in ["0AFF", "0x0a", "0af", "0aff00", "0ag0", "", " aff"] {
            assert_eq!(hex_array::<2>(other), None, "{other}");
        }
        assert_eq!(hex_vec("0a0b0c", 3), Some(vec![10, 11, 12]));
        assert_eq!(hex_vec("0a0b0c0d", 3), None);
        assert_eq!(hex_vec("0a0", 3), None);
    }

    #[test]
    fn base64_has_one_spelling() {
        #[derive(Debug, serde::Deserialize)]
        struct Blob {
            #[serde(with = "base64_vec")]
            blob: Vec<u8>,
        }
        let good: Blob = serde_json::from_str(r#"{"blob":"AQ=="}"#).expect("base64");
        assert_eq!(good.blob, [1]);
        for other in ["AQ", "AR==", "AQ==\n", "_w==", "A"] {
            let text = serde_json::json!({ "blob": other }).to_string();
            assert!(serde_json::from_str::<Blob>(&text).is_err(), "{other}");
        }
    }
}
