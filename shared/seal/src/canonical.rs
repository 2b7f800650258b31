//! Canonical JSON (JCS, RFC 8785) and domain-tagged hashing: the only place in Sealtune that makes bytes to sign.
//!
//! Map order of `serde_json` differs between programs (a dependency switches `preserve_order` on), so nothing may be
//! hashed or signed that did not come out of [`to_vec`], and nothing signed may be believed that [`parse`] refused.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes could not be made, or were not accepted, as canonical JSON.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    #[error("make canonical JSON: {0}")]
    Serialize(#[source] serde_json::Error),
    #[error("parse JSON: {0}")]
    Parse(#[source] serde_json::Error),
    #[error("accept JSON of {length} bytes, the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error(
        "accept JSON that is not in canonical form (key order, spaces, duplicate keys or number format)"
    )]
    NotCanonical,
    #[error("use the number {0} in canonical JSON, whose integers end at 2^53 - 1")]
    IntegerTooLarge(serde_json::Number),
}

/// The largest integer that every JSON program reads as the same number.
const LARGEST_INTEGER: u64 = (1 << 53) - 1;

impl CanonicalError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Serialize(_) => "ST-SEAL-01",
            Self::Parse(_) => "ST-SEAL-02",
            Self::TooLong { .. } => "ST-SEAL-03",
            Self::NotCanonical => "ST-SEAL-04",
            Self::IntegerTooLarge(_) => "ST-SEAL-05",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Serialize(_) => "report this as a bug: the value has no canonical form",
            Self::Parse(_) | Self::NotCanonical => {
                "send exactly the bytes that the signing program made, unchanged"
            }
            Self::TooLong { .. } => "send a document within the limit",
            Self::IntegerTooLarge(_) => "write large numbers as strings",
        }
    }
}

/// The canonical bytes of `value`.
///
/// JCS writes every number as a double: 2^53 + 1 would silently become 2^53, two values with one signature. Such
/// integers are refused here.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Serialize)?;
    refuse_large_integers(&value)?;
    serde_json_canonicalizer::to_vec(&value).map_err(CanonicalError::Serialize)
}

/// Recursion is bounded by what `serde_json` itself allows when it parses, and by our own types when it does not.
fn refuse_large_integers(value: &serde_json::Value) -> Result<(), CanonicalError> {
    match value {
        serde_json::Value::Number(number) => {
            let magnitude =
                number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)).unwrap_or(0);
            if magnitude > LARGEST_INTEGER {
                return Err(CanonicalError::IntegerTooLarge(number.clone()));
            }
            Ok(())
        }
        serde_json::Value::Array(items) => items.iter().try_for_each(refuse_large_integers),
        serde_json::Value::Object(members) => members.values().try_for_each(refuse_large_integers),
        _ => Ok(()),
    }
}

/// Parses `bytes` and refuses any that are not the one canonical form of what they say.
pub fn parse<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, CanonicalError> {
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong { length: bytes.len(), limit });
    }
    let value: T = serde_json::from_slice(bytes).map_err(CanonicalError::Parse)?;
    if to_vec(&value)? != bytes {
        return Err(CanonicalError::NotCanonical);
    }
    Ok(value)
}

/// `SHA-256(tag ‖ 0x00 ‖ bytes)`: the digest of `bytes` in the role that `tag` names.
pub fn domain_hash(tag: &str, bytes: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(tag.as_bytes());
    context.update(&[0]);
    context.update(bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Fuzz entry: whatever [`parse`] accepts is exactly what [`to_vec`] makes.
pub fn fuzz_canonical(data: &[u8]) {
    if let Ok(value) = parse::<serde_json::Value>(data, 1 << 16) {
        assert_eq!(to_vec(&value).ok().as_deref(), Some(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_other_spelling_of_the_same_document() {
        assert!(parse::<serde_json::Value>(br#"{"a":1,"b":"x"}"#, 64).is_ok());
        for other in [
            r#"{"b":"x","a":1}"#,
            r#"{"a":1, "b":"x"}"#,
            r#"{"a":1.0,"b":"x"}"#,
            r#"{"a":1,"a":1,"b":"x"}"#,
            r#"{"a":1,"b":"\u0078"}"#,
        ] {
            let error = parse::<serde_json::Value>(other.as_bytes(), 64).expect_err(other);
            assert_eq!(error.code(), "ST-SEAL-04", "{other}");
        }
    }

    #[test]
    fn refuses_before_parsing_what_is_too_long() {
        let error = parse::<serde_json::Value>(b"[1,2,3]", 6).expect_err("too long");
        assert_eq!(error.code(), "ST-SEAL-03");
    }

    #[test]
    fn refuses_integers_that_json_programs_read_differently() {
        for good in [0i64, 9_007_199_254_740_991, -9_007_199_254_740_991] {
            assert_eq!(to_vec(&good).expect("exact"), good.to_string().as_bytes());
        }
        for bad in [9_007_199_254_740_992i64, -9_007_199_254_740_992, i64::MAX, i64::MIN] {
            let nested = serde_json::json!({"a": [{"b": bad}]});
            assert_eq!(to_vec(&nested).expect_err("inexact").code(), "ST-SEAL-05");
        }
        assert_eq!(to_vec(&u64::MAX).expect_err("inexact").code(), "ST-SEAL-05");
    }

    #[test]
    fn refuses_what_is_after_the_document_and_what_the_type_does_not_know() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct Known {
            a: u8,
        }
        assert!(parse::<Known>(br#"{"a":1}"#, 64).is_ok());
        assert_eq!(parse::<Known>(b"{\"a\":1}\n", 64).expect_err("newline").code(), "ST-SEAL-04");
        assert_eq!(parse::<Known>(br#"{"a":1}{}"#, 64).expect_err("two").code(), "ST-SEAL-02");
        assert_eq!(parse::<Known>(br#"{"a":1,"b":2}"#, 64).expect_err("b").code(), "ST-SEAL-04");
    }

    #[test]
    fn the_tag_is_part_of_the_digest() {
        assert_ne!(domain_hash("a", b"bc"), domain_hash("ab", b"c"));
    }
}
