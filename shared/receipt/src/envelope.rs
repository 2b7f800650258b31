//! DSSE v1: a payload, its type, and a signature over both in an unambiguous encoding.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use sealtune_evidence::{FixedHex, Hex32, base64_bytes::Base64Bytes};
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    statement::{MAX_STATEMENT_BYTES, Statement, StatementError},
};

pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Hex of the receipt key; a hint, never believed.
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

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("read the envelope: its payload is of another type")]
    Type,
    #[error("read the envelope: {0} signatures, expected one")]
    Signatures(usize),
    #[error("read the envelope: its payload is longer than a statement may be")]
    TooLong,
    #[error("check the signature: the envelope names another key")]
    Key,
    #[error("check the signature: it is not of this key and payload")]
    Signature,
    #[error(transparent)]
    Statement(#[from] StatementError),
}

impl EnvelopeError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Type => Code::EnvelopeType,
            Self::Signatures(_) => Code::EnvelopeSignatures,
            Self::TooLong => Code::StatementUnreadable,
            Self::Key => Code::KeyOther,
            Self::Signature => Code::SignatureInvalid,
            Self::Statement(error) => error.entry(),
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Envelope {
    /// Signs the bytes of a statement with the VM's receipt key.
    pub fn sign(payload: Vec<u8>, key: &Ed25519KeyPair) -> Self {
        let signature = key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload));
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: Base64Bytes(payload),
            signatures: vec![Signature {
                keyid: hex::encode(key.public_key().as_ref()),
                sig: Base64Bytes(signature.as_ref().to_vec()),
            }],
        }
    }

    /// The statement, if `receipt_key` signed it. The signature is checked before anything of the payload is parsed.
    pub fn verify(&self, receipt_key: &Hex32) -> Result<Statement, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Type);
        }
        let [signature] = self.signatures.as_slice() else {
            return Err(EnvelopeError::Signatures(self.signatures.len()));
        };
        if self.payload.0.len() > MAX_STATEMENT_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        if signature.keyid != receipt_key.to_string() {
            return Err(EnvelopeError::Key);
        }
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &self.payload.0);
        UnparsedPublicKey::new(&ED25519, receipt_key.as_bytes())
            .verify(&message, &signature.sig.0)
            .map_err(|_| EnvelopeError::Signature)?;
        Ok(Statement::parse(&self.payload.0)?)
    }

    /// What the receipt evidence's claims name the statement by.
    pub fn payload_digest(&self) -> Hex32 {
        payload_digest(&self.payload.0)
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

/// Fuzz entry: hostile envelopes never verify under a key that did not sign them, and never panic.
pub fn fuzz_envelope(data: &[u8]) {
    if data.len() > MAX_STATEMENT_BYTES {
        return;
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        assert!(envelope.verify(&FixedHex([3; 32])).is_err());
        if let Ok(text) = serde_json::to_vec(&envelope) {
            let again = serde_json::from_slice::<Envelope>(&text).ok();
            assert_eq!(again.as_ref(), Some(&envelope));
        }
        assert!(STANDARD.decode(STANDARD.encode(&envelope.payload.0)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed")
    }

    fn public() -> Hex32 {
        FixedHex(key().public_key().as_ref().try_into().expect("32 bytes"))
    }

    /// The example of the DSSE protocol description.
    #[test]
    fn pae_is_the_published_one() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn each_part_of_the_envelope_counts() {
        let good = Envelope::sign(b"{}".to_vec(), &key());
        assert_eq!(
            good.verify(&public()).expect_err("not a statement").entry(),
            Code::StatementUnreadable,
            "the signature passes"
        );
        type Change = fn(&mut Envelope);
        let cases: [(Code, Change); 6] = [
            (Code::EnvelopeType, |e| e.payload_type.push('x')),
            (Code::EnvelopeSignatures, |e| e.signatures.clear()),
            (Code::EnvelopeSignatures, |e| e.signatures.push(e.signatures[0].clone())),
            (Code::KeyOther, |e| e.signatures[0].keyid.clear()),
            (Code::SignatureInvalid, |e| e.payload.0.push(b' ')),
            (Code::SignatureInvalid, |e| e.signatures[0].sig.0[0] ^= 1),
        ];
        for (code, change) in cases {
            let mut envelope = good.clone();
            change(&mut envelope);
            assert_eq!(envelope.verify(&public()).expect_err("refused").entry(), code);
        }
        assert_eq!(good.verify(&Hex32::ZERO).expect_err("other key").entry(), Code::KeyOther);
    }
}
