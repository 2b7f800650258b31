//! Salted commitments: a receipt shows that a value existed without showing it, and its owner can open each one alone.
//!
//! ```text
//! opening key = HMAC-SHA-256(commitment key, "sealtune/commitment/v1" ‖ 0x00 ‖ name)
//! commitment  = HMAC-SHA-256(opening key, value)
//! ```
//! An opening reveals the key of one name; the commitment key, and with it every other name, stays closed.

use std::fmt;

use ring::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{Secret, encoding};

const TAG: &str = "sealtune/commitment/v1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    #[error("match the opening with the commitment: the value or its key is another")]
    Mismatch,
}

impl CommitmentError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mismatch => "ST-SEAL-80",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Mismatch => "open with the value and the job specification of the same receipt",
        }
    }
}

/// The commitment to `value` under `name`.
pub fn commit(key: &Secret<[u8; 32]>, name: &str, value: &[u8]) -> [u8; 32] {
    mac(opening_key(key, name).expose(), value)
}

/// What the owner shows to open one commitment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    pub name: String,
    #[serde(with = "encoding::hex_32")]
    pub key: [u8; 32],
    #[serde(with = "encoding::base64_vec")]
    pub value: Vec<u8>,
}

impl Opening {
    pub fn new(key: &Secret<[u8; 32]>, name: &str, value: &[u8]) -> Self {
        Self { name: name.to_owned(), key: *opening_key(key, name).expose(), value: value.to_vec() }
    }

    /// Checks this opening against the commitment that the receipt holds under the opening's name.
    pub fn verify(&self, commitment: &[u8; 32]) -> Result<(), CommitmentError> {
        if mac(&self.key, &self.value).ct_eq(commitment).into() {
            Ok(())
        } else {
            Err(CommitmentError::Mismatch)
        }
    }
}

/// Values may be private until they are shown on purpose.
impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("name", &self.name).finish_non_exhaustive()
    }
}

fn opening_key(key: &Secret<[u8; 32]>, name: &str) -> Secret<[u8; 32]> {
    let message = [TAG.as_bytes(), &[0], name.as_bytes()].concat();
    Secret::new(mac(key.expose(), &message))
}

fn mac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, message).as_ref());
    out
}

/// Fuzz entry: an opening that parses keeps its meaning, and opens the commitment that it makes and no other.
pub fn fuzz_opening(data: &[u8]) {
    let Ok(opening) = serde_json::from_slice::<Opening>(data) else { return };
    let mut commitment = mac(&opening.key, &opening.value);
    assert!(opening.verify(&commitment).is_ok());
    commitment[0] ^= 1;
    assert!(opening.verify(&commitment).is_err());
    let again = serde_json::to_vec(&opening).ok();
    let again = again.and_then(|text| serde_json::from_slice::<Opening>(&text).ok());
    assert!(again.as_ref() == Some(&opening));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Secret<[u8; 32]> {
        Secret::new([5; 32])
    }

    #[test]
    fn the_commitment_is_the_one_that_the_readme_writes_down() {
        // Made by another program (Python, `hmac`).
        assert_eq!(
            hex::encode(commit(&key(), "metrics/loss", b"0.25")),
            "9a6c14a290b648d8b0bf33b490fc09cad206ac211d6d41c3f2775073415af761"
        );
    }

    #[test]
    fn an_opening_opens_its_commitment_and_no_other() {
        let commitment = commit(&key(), "dataset", b"value");
        let opening = Opening::new(&key(), "dataset", b"value");
        let text = serde_json::to_string(&opening).expect("json");
        fuzz_opening(text.as_bytes());
        let opening: Opening = serde_json::from_str(&text).expect("json");
        assert_eq!(opening.verify(&commitment), Ok(()));
        for other in [
            commit(&key(), "dataset", b"valuf"),
            commit(&key(), "dataset2", b"value"),
            commit(&Secret::new([6; 32]), "dataset", b"value"),
            [0; 32],
        ] {
            assert_eq!(opening.verify(&other), Err(CommitmentError::Mismatch));
        }
    }

    #[test]
    fn one_opening_says_nothing_of_another_name() {
        let shown = Opening::new(&key(), "a", b"x");
        let hidden = Opening::new(&key(), "b", b"x");
        assert_ne!(shown.key, hidden.key);
        assert_ne!(shown.key, *key().expose());
        assert!(!format!("{shown:?}").contains("120"), "the value is not in Debug");
    }
}
