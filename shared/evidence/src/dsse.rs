//! DSSE v1 (secure-systems-lab/dsse, protocol.md): a payload, its type, and Ed25519 signatures over both in an unambiguous
//! encoding.
//!
//! Receipts have one signature, release manifests two or more; each says in its own module whose they must be.

use ring::{
    digest,
    signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use crate::{
    base64_bytes::Base64Bytes,
    fixed_hex::{FixedHex, Hex32},
};

/// The payload is an in-toto Statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A hint, never believed: it only says which key to try.
    pub keyid: String,
    pub sig: Base64Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    pub payload: Base64Bytes,
    pub signatures: Vec<Signature>,
}

impl Envelope {
    /// An in-toto payload that nobody has signed yet.
    pub fn unsigned(payload: Vec<u8>) -> Self {
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: Base64Bytes(payload),
            signatures: vec![],
        }
    }

    pub fn add_signature(&mut self, keyid: String, key: &Ed25519KeyPair) {
        let sig = key.sign(&self.signed_bytes()).as_ref().to_vec();
        self.signatures.push(Signature { keyid, sig: Base64Bytes(sig) });
    }

    pub fn is_in_toto(&self) -> bool {
        self.payload_type == PAYLOAD_TYPE
    }

    /// What every signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload.0)
    }

    /// SHA-256 of the payload.
    pub fn payload_digest(&self) -> Hex32 {
        payload_digest(&self.payload.0)
    }
}

impl Signature {
    /// Whether `public_key` made it over `signed_bytes`.
    pub fn is_by(&self, public_key: &Hex32, signed_bytes: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, public_key.as_bytes())
            .verify(signed_bytes, &self.sig.0)
            .is_ok()
    }
}

/// SHA-256 of a DSSE payload.
pub fn payload_digest(payload: &[u8]) -> Hex32 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, payload).as_ref());
    FixedHex(bytes)
}

/// DSSE's PAE: `DSSEv1 <length of type> <type> <length of payload> <payload>`.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use ring::signature::KeyPair as _;

    use super::*;

    /// The example of the DSSE protocol description.
    #[test]
    fn pae_is_the_published_one() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_signature_is_of_its_key_type_and_payload() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed");
        let public = FixedHex(key.public_key().as_ref().try_into().expect("32 bytes"));
        let mut envelope = Envelope::unsigned(b"{}".to_vec());
        envelope.add_signature("a".into(), &key);
        let good =
            |envelope: &Envelope| envelope.signatures[0].is_by(&public, &envelope.signed_bytes());
        assert!(good(&envelope));
        let mut other = envelope.clone();
        other.payload.0.push(b' ');
        assert!(!good(&other));
        let mut other = envelope.clone();
        other.payload_type.push('x');
        assert!(!good(&other));
        assert!(!envelope.signatures[0].is_by(&Hex32::ZERO, &envelope.signed_bytes()));
    }
}
