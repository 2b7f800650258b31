//! Content ids: `sha256:<hex>:<length>` and `zg:0x<hex>:<length>`.
//!
//! The length is part of the id because a 0G root does not commit to it: without it a
//! host could append or cut trailing zero bytes under the same root.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text that can be a content id: `sha256:` + 64 digits + `:` + 20 digits.
const MAX_TEXT: usize = 7 + 64 + 1 + 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    Sha256,
    Zg,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Zg => "zg",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "zg" => Ok(Self::Zg),
            _ => Err(IdError::UnknownScheme),
        }
    }
}

/// Names bytes by what they are, never by where they come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentId {
    Sha256 { digest: [u8; 32], length: u64 },
    Zg { root: [u8; 32], length: u64 },
}

impl ContentId {
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Sha256 { .. } => Scheme::Sha256,
            Self::Zg { .. } => Scheme::Zg,
        }
    }

    pub fn length(&self) -> u64 {
        match self {
            Self::Sha256 { length, .. } | Self::Zg { length, .. } => *length,
        }
    }

    /// The digest or root, without its length.
    pub fn hash(&self) -> &[u8; 32] {
        match self {
            Self::Sha256 { digest, .. } => digest,
            Self::Zg { root, .. } => root,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("content id is not `<scheme>:<hex>:<length>`")]
    Malformed,
    #[error("content id scheme is neither `sha256` nor `zg`")]
    UnknownScheme,
    #[error("content id digest is not 64 hex digits")]
    BadDigest,
    #[error("content id length is not a plain decimal number below 2^64")]
    BadLength,
    #[error("0G has no root for empty content")]
    EmptyZg,
}

impl IdError {
    /// One for each code of this module, for the catalogue.
    pub const ALL: [Self; 5] =
        [Self::Malformed, Self::UnknownScheme, Self::BadDigest, Self::BadLength, Self::EmptyZg];

    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "ST-CONTENT-01",
            Self::UnknownScheme => "ST-CONTENT-02",
            Self::BadDigest => "ST-CONTENT-03",
            Self::BadLength => "ST-CONTENT-04",
            Self::EmptyZg => "ST-CONTENT-05",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Malformed => {
                "write it as `sha256:<64 hex digits>:<bytes>` or `zg:0x<64 hex digits>:<bytes>`; `sealtune content id FILE` prints it"
            }
            Self::UnknownScheme => "use `sha256:` or `zg:`",
            Self::BadDigest => "copy the whole digest; `sealtune content id FILE` prints it",
            Self::BadLength => {
                "end the id with the length in bytes, decimal, without sign or leading zeros"
            }
            Self::EmptyZg => "use a sha256 id for empty content",
        }
    }
}

impl FromStr for ContentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Two more for the optional 0x, so that hostile text is not walked at length.
        if text.len() > MAX_TEXT + 2 {
            return Err(IdError::Malformed);
        }
        let mut parts = text.split(':');
        let (Some(scheme), Some(hex_text), Some(length), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdError::Malformed);
        };
        match scheme.parse()? {
            Scheme::Sha256 => {
                Ok(Self::Sha256 { digest: parse_digest(hex_text)?, length: parse_length(length)? })
            }
            Scheme::Zg => {
                let digits = hex_text
                    .strip_prefix("0x")
                    .or_else(|| hex_text.strip_prefix("0X"))
                    .unwrap_or(hex_text);
                let root = parse_digest(digits)?;
                match parse_length(length)? {
                    0 => Err(IdError::EmptyZg),
                    length => Ok(Self::Zg { root, length }),
                }
            }
        }
    }
}

fn parse_digest(digits: &str) -> Result<[u8; 32], IdError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest).map_err(|_| IdError::BadDigest)?;
    Ok(digest)
}

/// One spelling per number: `u64::from_str` alone would take `+5` and `005`.
fn parse_length(digits: &str) -> Result<u64, IdError> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.is_empty()
        && (digits == "0" || !digits.starts_with('0'));
    if !plain {
        return Err(IdError::BadLength);
    }
    digits.parse().map_err(|_| IdError::BadLength)
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256 { digest, length } => {
                write!(f, "sha256:{}:{length}", hex::encode(digest))
            }
            Self::Zg { root, length } => write!(f, "zg:0x{}:{length}", hex::encode(root)),
        }
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = ContentId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content id as text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ContentId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Whatever parses prints canonically, and the canonical text parses to the same id.
pub fn fuzz_content_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(id) = text.parse::<ContentId>() else { return };
    let canonical = id.to_string();
    assert!(canonical.len() <= MAX_TEXT);
    assert_eq!(canonical.parse(), Ok(id));
    assert!(text.eq_ignore_ascii_case(&canonical) || id.scheme() == Scheme::Zg);
    assert!(id.length() > 0 || id.scheme() == Scheme::Sha256);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: &str = "71bfab3b73c19ec6548f3e1dcc56d9a8c7c66b51b71e4dbbfb1fc0e0bf2826ba";

    #[test]
    fn zg_takes_any_case_and_prints_one() {
        let canonical = format!("zg:0x{ROOT}:262145");
        for spelling in [
            canonical.clone(),
            format!("zg:{ROOT}:262145"),
            format!("zg:0x{}:262145", ROOT.to_uppercase()),
            format!("zg:0X{}:262145", ROOT.to_uppercase()),
        ] {
            let id: ContentId = spelling.parse().unwrap();
            assert_eq!(id.to_string(), canonical);
            assert_eq!(id.length(), 262_145);
            assert_eq!(id.scheme(), Scheme::Zg);
        }
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        let cases = [
            (String::new(), IdError::Malformed),
            (format!("zg:0x{ROOT}"), IdError::Malformed),
            (format!("zg:0x{ROOT}:1:2"), IdError::Malformed),
            (format!("md5:{ROOT}:1"), IdError::UnknownScheme),
            (format!("ZG:{ROOT}:1"), IdError::UnknownScheme),
            (format!("sha256:0x{ROOT}:1"), IdError::BadDigest),
            (format!("zg:0x0x{ROOT}:1"), IdError::Malformed),
            (format!("zg:0x{}:1", &ROOT[1..]), IdError::BadDigest),
            (format!("zg:0x{ROOT}:0"), IdError::EmptyZg),
            (format!("zg:0x{ROOT}:"), IdError::BadLength),
            (format!("zg:0x{ROOT}:+1"), IdError::BadLength),
            (format!("zg:0x{ROOT}:01"), IdError::BadLength),
            (format!("zg:0x{ROOT}: 1"), IdError::BadLength),
            (format!("zg:0x{ROOT}:18446744073709551616"), IdError::BadLength),
        ];
        for (text, error) in cases {
            let parsed = text.parse::<ContentId>();
            assert!(
                parsed == Err(error)
                    || (error == IdError::Malformed && parsed == Err(IdError::BadDigest)),
                "{text}: {parsed:?}"
            );
        }
        assert!(format!("sha256:{ROOT}:0").parse::<ContentId>().is_ok());
    }

    #[test]
    fn json_is_a_string() {
        let id: ContentId = format!("sha256:{ROOT}:7").parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"sha256:{ROOT}:7\""));
        assert_eq!(serde_json::from_str::<ContentId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<ContentId>("7").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(hash: [u8; 32], length in 1..=u64::MAX) {
            for id in [ContentId::Sha256 { digest: hash, length }, ContentId::Zg { root: hash, length }] {
                prop_assert_eq!(id.to_string().parse::<ContentId>(), Ok(id));
                fuzz_content_id(id.to_string().as_bytes());
            }
        }

        #[test]
        fn hostile_text_never_panics(text in "(zg|sha256|z)?:?(0x)?[0-9a-fA-F:]{0,90}") {
            fuzz_content_id(text.as_bytes());
        }
    }
}
