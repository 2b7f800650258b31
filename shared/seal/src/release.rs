//! The release of a job: its whole specification, signed by the owner and sealed to the key of the machine that offered
//! to run it.
//!
//! ```text
//! plaintext = u32be length ‖ canonical specification ‖ 64 bytes signature (r ‖ s) over the specification digest
//! HPKE info = "sealtune/release/v1" ‖ 0x00 ‖ offer digest (32 bytes); no associated data
//! ```

use serde::{Deserialize, Serialize};

use crate::{
    OwnerKey, RecipientKey, RecipientKeyPair, Secret, SigningPublicKey, Suite, canonical, encoding,
    hpke::{self, HpkeError},
    owner::{self, OwnerError},
};

/// The largest specification.
pub const MAX_SPECIFICATION: usize = 512 * 1024;

const TAG: &str = "sealtune/release/v1";
const SPECIFICATION_TAG: &str = "sealtune/job-spec/v1";
const AEAD_TAG: usize = 16;
const LENGTH_PREFIX: usize = 4;
const SIGNATURE: usize = 64;
const MAX_CIPHERTEXT: usize = LENGTH_PREFIX + MAX_SPECIFICATION + SIGNATURE + AEAD_TAG;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("accept a job specification of {length} bytes, the limit is {MAX_SPECIFICATION}")]
    TooLong { length: usize },
    #[error("open a release of suite {sealed} with a key of suite {key}")]
    WrongSuite { sealed: Suite, key: Suite },
    #[error("read the opened release: its lengths do not fit")]
    Malformed,
}

impl ReleaseError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.code(),
            Self::Owner(error) => error.code(),
            Self::TooLong { .. } => "ST-SEAL-40",
            Self::WrongSuite { .. } => "ST-SEAL-41",
            Self::Malformed => "ST-SEAL-42",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.fix(),
            Self::Owner(error) => error.fix(),
            Self::TooLong { .. } => "shorten parameters and environment of the job",
            Self::WrongSuite { .. } => "seal to the key that the offer names, with its suite",
            Self::Malformed => "seal with a program of the same release",
        }
    }
}

/// A sealed job as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRelease {
    pub suite: Suite,
    #[serde(with = "encoding::base64_vec")]
    pub enc: Vec<u8>,
    #[serde(with = "encoding::base64_vec")]
    pub ciphertext: Vec<u8>,
}

/// An opened release. The signature is not checked yet: its key stands inside the specification.
#[derive(Debug)]
pub struct OpenedRelease {
    pub spec_bytes: Secret<Vec<u8>>,
    pub signature: [u8; 64],
}

/// The digest that names a specification and that its owner signs.
pub fn specification_digest(spec_bytes: &[u8]) -> [u8; 32] {
    canonical::domain_hash(SPECIFICATION_TAG, spec_bytes)
}

/// The owner's signature over a specification.
pub fn sign_specification(key: &OwnerKey, spec_bytes: &[u8]) -> Result<[u8; 64], OwnerError> {
    key.sign(&specification_digest(spec_bytes))
}

/// Checks that `owner`, as named in the specification, signed exactly these bytes.
pub fn verify_specification(
    owner: &SigningPublicKey,
    spec_bytes: &[u8],
    signature: &[u8; 64],
) -> Result<(), OwnerError> {
    owner::verify(owner, &specification_digest(spec_bytes), signature)
}

/// Seals a signed specification to the key of the offer whose evidence has the digest `offer_digest`.
pub fn seal_release(
    spec_bytes: &[u8],
    signature: &[u8; 64],
    offer_digest: &[u8; 32],
    recipient: &RecipientKey,
) -> Result<SealedRelease, ReleaseError> {
    let length = spec_bytes.len();
    if length > MAX_SPECIFICATION {
        return Err(ReleaseError::TooLong { length });
    }
    let prefix = u32::try_from(length).map_err(|_| ReleaseError::TooLong { length })?;
    // Reserved once: a buffer that grows would leave unwiped copies behind.
    let mut plaintext = Secret::new(Vec::with_capacity(LENGTH_PREFIX + length + SIGNATURE));
    plaintext.expose_mut().extend_from_slice(&prefix.to_be_bytes());
    plaintext.expose_mut().extend_from_slice(spec_bytes);
    plaintext.expose_mut().extend_from_slice(signature);
    let suite = recipient.suite();
    let sealed =
        hpke::seal(suite, recipient.as_bytes(), &info(offer_digest), &[], plaintext.expose())?;
    Ok(SealedRelease { suite, enc: sealed.enc, ciphertext: sealed.ciphertext })
}

/// Opens a release that answers the offer with digest `offer_digest`.
pub fn open_release(
    sealed: &SealedRelease,
    offer_digest: &[u8; 32],
    pair: &RecipientKeyPair,
) -> Result<OpenedRelease, ReleaseError> {
    if sealed.suite != pair.suite() {
        return Err(ReleaseError::WrongSuite { sealed: sealed.suite, key: pair.suite() });
    }
    if sealed.ciphertext.len() > MAX_CIPHERTEXT {
        return Err(ReleaseError::TooLong { length: sealed.ciphertext.len() });
    }
    let plaintext = hpke::open(pair, &sealed.enc, &info(offer_digest), &[], &sealed.ciphertext)?;
    split_plaintext(plaintext.expose()).ok_or(ReleaseError::Malformed)
}

fn info(offer_digest: &[u8; 32]) -> Vec<u8> {
    [TAG.as_bytes(), &[0], offer_digest].concat()
}

fn split_plaintext(plaintext: &[u8]) -> Option<OpenedRelease> {
    let (prefix, rest) = plaintext.split_first_chunk::<LENGTH_PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    if length > MAX_SPECIFICATION {
        return None;
    }
    let (specification, signature) = rest.split_at_checked(length)?;
    Some(OpenedRelease {
        spec_bytes: Secret::new(specification.to_vec()),
        signature: signature.try_into().ok()?,
    })
}

/// Fuzz entry: a release that parses keeps its meaning, and an opened plaintext splits in one way only.
pub fn fuzz_release(data: &[u8]) {
    if let Ok(release) = serde_json::from_slice::<SealedRelease>(data) {
        let again = serde_json::to_vec(&release).ok();
        let again = again.and_then(|text| serde_json::from_slice::<SealedRelease>(&text).ok());
        assert_eq!(again, Some(release));
    }
    if let Some(opened) = split_plaintext(data) {
        let specification = opened.spec_bytes.expose();
        let length = u32::try_from(specification.len()).unwrap_or(u32::MAX).to_be_bytes();
        assert_eq!([&length[..], specification, &opened.signature].concat(), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: [u8; 32] = [9; 32];

    fn sealed(suite: Suite) -> (RecipientKeyPair, OwnerKey, Vec<u8>, SealedRelease) {
        let pair = RecipientKeyPair::generate(suite).expect("generate");
        let owner = OwnerKey::generate(Suite::X25519).expect("generate");
        let specification = br#"{"job":"0011"}"#.to_vec();
        let signature = sign_specification(&owner, &specification).expect("sign");
        let sealed = seal_release(&specification, &signature, &OFFER, pair.public()).expect("seal");
        (pair, owner, specification, sealed)
    }

    #[test]
    fn opens_in_both_suites_to_a_specification_that_its_owner_signed() {
        for suite in Suite::ALL {
            let (pair, owner, specification, sealed) = sealed(suite);
            let text = serde_json::to_string(&sealed).expect("json");
            let arrived: SealedRelease = serde_json::from_str(&text).expect("json");
            let opened = open_release(&arrived, &OFFER, &pair).expect("open");
            assert_eq!(opened.spec_bytes.expose(), &specification);
            let public = owner.public().signing;
            verify_specification(&public, &specification, &opened.signature).expect("signature");
            let mut other = specification.clone();
            other[2] ^= 1;
            assert_eq!(
                verify_specification(&public, &other, &opened.signature),
                Err(OwnerError::BadSignature)
            );
        }
    }

    #[test]
    fn a_release_for_another_offer_key_or_suite_does_not_open() {
        let (pair, _, _, release) = sealed(Suite::X25519);
        let other = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let hybrid = RecipientKeyPair::generate(Suite::XWing).expect("generate");
        let code = |result: Result<OpenedRelease, ReleaseError>| result.expect_err("no").code();
        assert_eq!(code(open_release(&release, &[8; 32], &pair)), "ST-SEAL-15");
        assert_eq!(code(open_release(&release, &OFFER, &other)), "ST-SEAL-15");
        assert_eq!(code(open_release(&release, &OFFER, &hybrid)), "ST-SEAL-41");
        let mut cut = release.clone();
        cut.enc.pop();
        assert_eq!(code(open_release(&cut, &OFFER, &pair)), "ST-SEAL-15");
        let mut changed = release;
        changed.ciphertext[3] ^= 1;
        assert_eq!(code(open_release(&changed, &OFFER, &pair)), "ST-SEAL-15");
    }

    #[test]
    fn sizes_are_bounded_and_lengths_must_fit() {
        let pair = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let largest = vec![b' '; MAX_SPECIFICATION];
        let release = seal_release(&largest, &[0; 64], &OFFER, pair.public()).expect("largest");
        assert!(open_release(&release, &OFFER, &pair).is_ok());
        let larger = vec![b' '; MAX_SPECIFICATION + 1];
        let error = seal_release(&larger, &[0; 64], &OFFER, pair.public()).expect_err("larger");
        assert_eq!(error.code(), "ST-SEAL-40");
        for plaintext in [&[][..], &[0, 0, 0], &[0; 67], &[0; 69], &[255; 100]] {
            let raw =
                hpke::seal(Suite::X25519, pair.public().as_bytes(), &info(&OFFER), &[], plaintext)
                    .expect("seal");
            let release =
                SealedRelease { suite: Suite::X25519, enc: raw.enc, ciphertext: raw.ciphertext };
            let error = open_release(&release, &OFFER, &pair).expect_err("malformed");
            assert_eq!(error.code(), "ST-SEAL-42", "{plaintext:?}");
        }
    }

    #[test]
    fn json_refuses_unknown_members_and_suites() {
        for text in [
            r#"{"suite":"x25519","enc":"","ciphertext":"","job":"1"}"#,
            r#"{"suite":"p-256","enc":"","ciphertext":""}"#,
            r#"{"suite":"x25519","enc":"","ciphertext":"","enc":""}"#,
        ] {
            assert!(serde_json::from_str::<SealedRelease>(text).is_err(), "{text}");
            fuzz_release(text.as_bytes());
        }
        fuzz_release(br#"{"suite":"x25519","enc":"AQ==","ciphertext":""}"#);
        fuzz_release(&[0; 68]);
        fuzz_release(&[0xff; 68]);
    }
}
