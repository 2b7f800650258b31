//! The envelope: the key of a job's result, logs and metrics, sealed to the owner.
//!
//! ```text
//! envelope  = version u8 (1) ‖ suite u8 (1 x-wing, 2 x25519) ‖ u16be length ‖ enc ‖ u16be length ‖ wrapped key
//! HPKE info = "sealtune/owner-envelope/v1" ‖ 0x00 ‖ specification digest (32 bytes); no associated data
//! ```

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    RecipientKey, RecipientKeyPair, Secret, Suite, encoding,
    hpke::{self, HpkeError},
};

const TAG: &str = "sealtune/owner-envelope/v1";
const VERSION: u8 = 1;
/// A wrapped key: 32 bytes and the tag.
const WRAPPED: usize = 48;
/// The largest envelope of any suite.
pub const MAX_ENVELOPE: usize = 2 + 2 + 1120 + 2 + WRAPPED;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error("read the envelope: it is cut, too long or of another version")]
    Malformed,
    #[error("open an envelope of suite {sealed} with a key of suite {key}")]
    WrongSuite { sealed: Suite, key: Suite },
}

impl EnvelopeError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.code(),
            Self::Malformed => "ST-SEAL-66",
            Self::WrongSuite { .. } => "ST-SEAL-67",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.fix(),
            Self::Malformed => "fetch the object again, with a program of the same release",
            Self::WrongSuite { .. } => "use the owner key that the job was submitted with",
        }
    }
}

/// A wrapped object key. Decoded, its lengths are those of its suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EnvelopeText", into = "EnvelopeText")]
pub struct Envelope {
    suite: Suite,
    enc: Vec<u8>,
    wrapped: [u8; WRAPPED],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeText {
    suite: Suite,
    #[serde(with = "encoding::base64_vec")]
    enc: Vec<u8>,
    #[serde(with = "encoding::base64_vec")]
    wrapped: Vec<u8>,
}

impl Envelope {
    fn new(suite: Suite, enc: &[u8], wrapped: &[u8]) -> Result<Self, EnvelopeError> {
        if enc.len() != suite.enc_length() {
            return Err(EnvelopeError::Malformed);
        }
        let wrapped = wrapped.try_into().map_err(|_| EnvelopeError::Malformed)?;
        Ok(Self { suite, enc: enc.to_vec(), wrapped })
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Both lengths are fixed by the suite and fit.
        let enc_length = u16::try_from(self.enc.len()).unwrap_or(u16::MAX);
        [
            &[VERSION, self.suite.number()][..],
            &enc_length.to_be_bytes(),
            &self.enc,
            &(WRAPPED as u16).to_be_bytes(),
            &self.wrapped,
        ]
        .concat()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Some((suite, enc, wrapped)) = split(bytes) else {
            return Err(EnvelopeError::Malformed);
        };
        Self::new(suite, enc, wrapped)
    }
}

fn split(bytes: &[u8]) -> Option<(Suite, &[u8], &[u8])> {
    if bytes.len() > MAX_ENVELOPE {
        return None;
    }
    let (&[version, suite], rest) = bytes.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let (enc, rest) = take_field(rest)?;
    let (wrapped, rest) = take_field(rest)?;
    rest.is_empty().then_some((Suite::from_number(suite)?, enc, wrapped))
}

fn take_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

impl TryFrom<EnvelopeText> for Envelope {
    type Error = EnvelopeError;

    fn try_from(text: EnvelopeText) -> Result<Self, EnvelopeError> {
        Self::new(text.suite, &text.enc, &text.wrapped)
    }
}

impl From<Envelope> for EnvelopeText {
    fn from(envelope: Envelope) -> Self {
        Self { suite: envelope.suite, enc: envelope.enc, wrapped: envelope.wrapped.to_vec() }
    }
}

/// Seals the object key of the job with this specification to its owner.
pub fn wrap_object_key(
    recipient: &RecipientKey,
    specification_digest: &[u8; 32],
    object_key: &Secret<[u8; 32]>,
) -> Result<Envelope, EnvelopeError> {
    let sealed = hpke::seal(
        recipient.suite(),
        recipient.as_bytes(),
        &info(specification_digest),
        &[],
        object_key.expose(),
    )?;
    Envelope::new(recipient.suite(), &sealed.enc, &sealed.ciphertext)
}

/// Opens what [`wrap_object_key`] made; fails for another specification.
pub fn unwrap_object_key(
    pair: &RecipientKeyPair,
    specification_digest: &[u8; 32],
    envelope: &Envelope,
) -> Result<Secret<[u8; 32]>, EnvelopeError> {
    if envelope.suite != pair.suite() {
        return Err(EnvelopeError::WrongSuite { sealed: envelope.suite, key: pair.suite() });
    }
    let opened =
        hpke::open(pair, &envelope.enc, &info(specification_digest), &[], &envelope.wrapped)?;
    let mut key = Secret::new([0; 32]);
    let Ok(bytes) = <&[u8; 32]>::try_from(opened.expose().as_slice()) else {
        key.expose_mut().zeroize();
        return Err(EnvelopeError::Malformed);
    };
    key.expose_mut().copy_from_slice(bytes);
    Ok(key)
}

fn info(specification_digest: &[u8; 32]) -> Vec<u8> {
    [TAG.as_bytes(), &[0], specification_digest].concat()
}

/// Fuzz entry: an envelope that decodes is the one encoding of what it says, in both forms.
pub fn fuzz_envelope(data: &[u8]) {
    if let Ok(envelope) = Envelope::from_bytes(data) {
        assert_eq!(envelope.to_bytes(), data);
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
        let bytes = envelope.to_bytes();
        assert_eq!(Envelope::from_bytes(&bytes).ok(), Some(envelope));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [3; 32];

    #[test]
    fn the_owner_gets_the_key_of_this_job_and_of_no_other() {
        for suite in Suite::ALL {
            let pair = RecipientKeyPair::generate(suite).expect("generate");
            let other = RecipientKeyPair::generate(suite).expect("generate");
            let key = Secret::random().expect("random");
            let envelope = wrap_object_key(pair.public(), &DIGEST, &key).expect("wrap");
            let bytes = envelope.to_bytes();
            fuzz_envelope(&bytes);
            assert!(bytes.len() <= MAX_ENVELOPE);
            let arrived = Envelope::from_bytes(&bytes).expect("decode");
            let json = serde_json::to_string(&arrived).expect("json");
            fuzz_envelope(json.as_bytes());
            let arrived: Envelope = serde_json::from_str(&json).expect("json");
            assert!(unwrap_object_key(&pair, &DIGEST, &arrived).expect("unwrap").equals(&key));
            for error in [
                unwrap_object_key(&pair, &[4; 32], &arrived),
                unwrap_object_key(&other, &DIGEST, &arrived),
            ] {
                assert_eq!(error.expect_err("refused").code(), "ST-SEAL-15");
            }
        }
    }

    #[test]
    fn every_cut_extension_and_false_length_is_refused() {
        let pair = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let envelope =
            wrap_object_key(pair.public(), &DIGEST, &Secret::new([1; 32])).expect("wrap");
        let bytes = envelope.to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Envelope::from_bytes(&bytes[..length]), Err(EnvelopeError::Malformed));
        }
        assert!(Envelope::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        for place in [0, 1, 2, 3, 36, 37] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(Envelope::from_bytes(&changed).is_err(), "byte {place}");
        }
        assert!(Envelope::from_bytes(&vec![1; 1 << 20]).is_err());
        let hybrid = RecipientKeyPair::generate(Suite::XWing).expect("generate");
        let error = unwrap_object_key(&hybrid, &DIGEST, &envelope).expect_err("suite");
        assert_eq!(error.code(), "ST-SEAL-67");
    }

    #[test]
    fn a_wrapped_key_of_another_length_does_not_decode() {
        for text in [
            r#"{"suite":"x25519","enc":"","wrapped":""}"#,
            r#"{"suite":"x25519","enc":"AQ==","wrapped":"AQ==","x":1}"#,
        ] {
            assert!(serde_json::from_str::<Envelope>(text).is_err());
        }
    }
}
