//! The DSSE envelope of a receipt: one signature, by the VM's receipt key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::{Hex32, dsse};
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    statement::{MAX_STATEMENT_BYTES, Statement, StatementError},
};

pub use sealtune_evidence::dsse::{PAYLOAD_TYPE, payload_digest};

/// One signature, whose key id is the hex of the receipt key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Envelope(pub dsse::Envelope);

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
        let mut envelope = dsse::Envelope::unsigned(payload);
        envelope.add_signature(hex::encode(key.public_key().as_ref()), key);
        Self(envelope)
    }

    /// The statement, if `receipt_key` signed it. The signature is checked before anything of the payload is parsed.
    pub fn verify(&self, receipt_key: &Hex32) -> Result<Statement, EnvelopeError> {
        let envelope = &self.0;
        if !envelope.is_in_toto() {
            return Err(EnvelopeError::Type);
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(EnvelopeError::Signatures(envelope.signatures.len()));
        };
        if envelope.payload.0.len() > MAX_STATEMENT_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        if signature.keyid != receipt_key.to_string() {
            return Err(EnvelopeError::Key);
        }
        if !signature.is_by(receipt_key, &envelope.signed_bytes()) {
            return Err(EnvelopeError::Signature);
        }
        Ok(Statement::parse(&envelope.payload.0)?)
    }

    /// What the receipt evidence's claims name the statement by.
    pub fn payload_digest(&self) -> Hex32 {
        self.0.payload_digest()
    }
}

/// Fuzz entry: hostile envelopes never verify under a key that did not sign them, and never panic.
pub fn fuzz_envelope(data: &[u8]) {
    if data.len() > MAX_STATEMENT_BYTES {
        return;
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        assert!(envelope.verify(&Hex32::from([3; 32])).is_err());
        if let Ok(text) = serde_json::to_vec(&envelope) {
            let again = serde_json::from_slice::<Envelope>(&text).ok();
            assert_eq!(again.as_ref(), Some(&envelope));
        }
        assert!(STANDARD.decode(STANDARD.encode(&envelope.0.payload.0)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed")
    }

    fn public() -> Hex32 {
        Hex32::from(<[u8; 32]>::try_from(key().public_key().as_ref()).expect("32 bytes"))
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
            (Code::EnvelopeType, |e| e.0.payload_type.push('x')),
            (Code::EnvelopeSignatures, |e| e.0.signatures.clear()),
            (Code::EnvelopeSignatures, |e| e.0.signatures.push(e.0.signatures[0].clone())),
            (Code::KeyOther, |e| e.0.signatures[0].keyid.clear()),
            (Code::SignatureInvalid, |e| e.0.payload.0.push(b' ')),
            (Code::SignatureInvalid, |e| e.0.signatures[0].sig.0[0] ^= 1),
        ];
        for (code, change) in cases {
            let mut envelope = good.clone();
            change(&mut envelope);
            assert_eq!(envelope.verify(&public()).expect_err("refused").entry(), code);
        }
        assert_eq!(good.verify(&Hex32::ZERO).expect_err("other key").entry(), Code::KeyOther);
    }
}
