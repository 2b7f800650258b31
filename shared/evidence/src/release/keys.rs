//! The set of keys whose holders may release, as a closed JSON file (version 1).
//!
//! What counts is people: two keys of one holder are one signature.

use std::collections::BTreeSet;

use ring::digest;
use serde::{Deserialize, Serialize};

use super::error::ReleaseError;
use crate::{
    fixed_hex::{FixedHex, Hex32},
    time::Timestamp,
};

pub(crate) const MAX_KEYS_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 64;
/// One signature is one person's word, and one person can be deceived or forced.
const LOWEST_THRESHOLD: usize = 2;
/// RFC 8410: the SubjectPublicKeyInfo of an Ed25519 key is this and the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

/// What a key may sign. A key for one thing is never a key for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// [`key_id`] of the key; a file that contradicts itself is refused.
    pub key_id: Hex32,
    /// Ed25519.
    pub public_key: Hex32,
    pub holder: String,
    pub purpose: KeyPurpose,
    /// From then on its signatures count for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKeys {
    pub version: u32,
    /// How many holders must have signed; at least two.
    pub threshold: usize,
    pub keys: Vec<TrustedKey>,
}

/// SHA-256 of the key's SubjectPublicKeyInfo: `openssl pkey -pubin -outform DER | sha256sum` gives the same.
pub fn key_id(public_key: &Hex32) -> Hex32 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&SPKI_PREFIX);
    context.update(public_key.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    FixedHex(id)
}

impl TrustedKeys {
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() > MAX_KEYS_BYTES {
            return Err(ReleaseError::KeysUnreadable("longer than 64 KiB".to_owned()));
        }
        let keys: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReleaseError::KeysUnreadable(error.to_string()))?;
        keys.validate()?;
        Ok(keys)
    }

    pub(super) fn find(&self, keyid: &str) -> Option<&TrustedKey> {
        self.keys.iter().find(|key| key.key_id.to_string() == keyid)
    }

    /// Also for a set that was not parsed here.
    pub(super) fn validate(&self) -> Result<(), ReleaseError> {
        let refuse = |field, reason| Err(ReleaseError::KeysField { field, reason });
        if self.version != 1 {
            return refuse("version", "this program knows version 1");
        }
        if self.keys.len() > MAX_KEYS {
            return refuse("keys", "expected at most 64");
        }
        for key in &self.keys {
            if key.key_id != key_id(&key.public_key) {
                return refuse("key_id", "it is not that of the public key");
            }
            if key.holder.is_empty()
                || key.holder.len() > 128
                || key.holder.chars().any(char::is_control)
            {
                return refuse("holder", "expected a short name");
            }
        }
        let distinct: BTreeSet<_> = self.keys.iter().map(|key| key.public_key).collect();
        if distinct.len() != self.keys.len() {
            return refuse("keys", "a key is listed twice");
        }
        let holders: BTreeSet<_> = self.keys.iter().map(|key| key.holder.as_str()).collect();
        if self.threshold < LOWEST_THRESHOLD {
            return refuse("threshold", "expected two or more");
        }
        if holders.len() < self.threshold {
            return refuse("threshold", "there are fewer holders than must sign");
        }
        Ok(())
    }
}

/// Fuzz entry: whatever is accepted needs two holders and reads back from what it writes.
pub fn fuzz_trusted_keys(data: &[u8]) {
    if let Ok(keys) = TrustedKeys::parse(data) {
        assert!(keys.threshold >= LOWEST_THRESHOLD && keys.keys.len() >= keys.threshold);
        if let Ok(bytes) = serde_json::to_vec(&keys) {
            assert!(bytes.len() > MAX_KEYS_BYTES || TrustedKeys::parse(&bytes).ok() == Some(keys));
        }
    }
}

/// For fuzzing: a set of keys of which nobody has the private halves.
pub(super) fn strangers() -> TrustedKeys {
    let key = |byte: u8| {
        let public_key = FixedHex([byte; 32]);
        TrustedKey {
            key_id: key_id(&public_key),
            public_key,
            holder: format!("stranger {byte}"),
            purpose: KeyPurpose::Release,
            not_after: None,
        }
    };
    TrustedKeys { version: 1, threshold: 2, keys: vec![key(3), key(5)] }
}
