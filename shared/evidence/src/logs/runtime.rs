//! The digest of a run-time event of dstack's guest, in both of its versions.
//!
//! Version 1 hashes `LE32(type) ‖ ":" ‖ name ‖ ":" ‖ payload`; a `:` in a name would let two events have one digest, so no
//! name may hold one. Version 2 hashes the canonical JSON of name, payload and type.

use sealtune_seal::canonical;
use serde::Serialize;

use super::payload::sha384;
use crate::fixed_hex::Hex48;

/// The one event type in register 3.
pub const RUNTIME_EVENT_TYPE: u32 = 0x0800_0001;
const MAX_NAME: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestVersion {
    V1,
    V2,
}

#[derive(Serialize)]
struct Preimage<'a> {
    name: &'a str,
    payload: String,
    #[serde(rename = "type")]
    event_type: u32,
}

impl DigestVersion {
    /// The version that a log declares; the first generation declares none.
    pub fn declared(version: Option<u32>) -> Option<Self> {
        match version {
            None | Some(1) => Some(Self::V1),
            Some(2) => Some(Self::V2),
            Some(_) => None,
        }
    }

    /// The bytes that the digest is of. None where a name has no canonical form.
    pub fn preimage(self, name: &str, payload: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::V1 => {
                let kind = RUNTIME_EVENT_TYPE.to_le_bytes();
                Some([&kind[..], b":", name.as_bytes(), b":", payload].concat())
            }
            Self::V2 => {
                let payload = hex::encode(payload);
                canonical::to_vec(&Preimage { name, payload, event_type: RUNTIME_EVENT_TYPE }).ok()
            }
        }
    }

    pub fn digest(self, name: &str, payload: &[u8]) -> Option<Hex48> {
        self.preimage(name, payload).map(|bytes| sha384(&bytes))
    }
}

/// Whether a name leaves no doubt where it ends.
pub(crate) fn is_event_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.chars().any(|letter| letter == ':' || letter.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_preimage() {
        let v1 = DigestVersion::V1.preimage("app-id", &[0xab, 0xcd]).expect("bytes");
        assert_eq!(v1, b"\x01\x00\x00\x08:app-id:\xab\xcd");
        let v2 = DigestVersion::V2.preimage("compose-hash", &[0xab, 0xcd]).expect("JSON");
        assert_eq!(v2, br#"{"name":"compose-hash","payload":"abcd","type":134217729}"#);
        assert_ne!(DigestVersion::V1.digest("a", b"b"), DigestVersion::V2.digest("a", b"b"));
    }

    /// The digests of payload-free events are the same in every boot of the first generation.
    #[test]
    fn known_digests_come_out() {
        for (name, expected) in [
            (
                "system-preparing",
                "f9974020ef507068183313d0ca808e0d1ca9b2d1ad0c61f5784e7157c362c06536f5ddacdad4451693f48fcc72fff624",
            ),
            (
                "boot-mr-done",
                "98bd7e6bd3952720b65027fd494834045d06b4a714bf737a06b874638b3ea00ff402f7f583e3e3b05e921c8570433ac6",
            ),
            (
                "system-ready",
                "1a76b2a80a0be71eae59f80945d876351a7a3fb8e9fd1ff1cede5734aa84ea11fd72b4edfbb6f04e5a85edd114c751bd",
            ),
        ] {
            let digest = DigestVersion::V1.digest(name, b"").expect("digest");
            assert_eq!(digest.to_string(), expected, "{name}");
        }
    }

    /// Why row 43 forbids `:`: version 1 gives both of these one digest.
    #[test]
    fn a_colon_in_a_name_is_ambiguous_and_refused() {
        let one = DigestVersion::V1.digest("app:id", b"x");
        assert_eq!(one, DigestVersion::V1.digest("app", b"id:x"));
        for name in ["app:id", ":", "", "a\nb", &"x".repeat(MAX_NAME + 1)] {
            assert!(!is_event_name(name), "{name:?}");
        }
        assert!(is_event_name("LIUM_MINER_HOTKEY"));
    }

    #[test]
    fn only_two_versions_are_known() {
        assert_eq!(DigestVersion::declared(None), Some(DigestVersion::V1));
        assert_eq!(DigestVersion::declared(Some(1)), Some(DigestVersion::V1));
        assert_eq!(DigestVersion::declared(Some(2)), Some(DigestVersion::V2));
        for unknown in [0, 3, u32::MAX] {
            assert_eq!(DigestVersion::declared(Some(unknown)), None);
        }
    }
}
