//! HPKE (RFC 9180, base mode) to one recipient, with the two suites that Sealtune knows.
//!
//! Base mode authenticates nobody: who sealed is shown by a signature inside (a job's release) or by the evidence that
//! names the key. What a message is for stands in `info`, so that one made for one purpose cannot be opened for another.

use std::{fmt, str::FromStr};

use ::hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable,
    aead::ChaCha20Poly1305,
    kdf::HkdfSha256,
    kem::{X25519HkdfSha256, XWing},
    single_shot_open, single_shot_seal,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{Secret, encoding};

/// The largest public key of any suite.
const MAX_PUBLIC_KEY: usize = 1216;

/// Key encapsulation; the rest is always HKDF-SHA256 and ChaCha20-Poly1305.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Suite {
    /// X25519 and ML-KEM-768 together: what is stored today stays closed to tomorrow's machines.
    #[default]
    #[serde(rename = "x-wing")]
    XWing,
    #[serde(rename = "x25519")]
    X25519,
}

impl Suite {
    pub const ALL: [Self; 2] = [Self::XWing, Self::X25519];

    pub fn name(self) -> &'static str {
        match self {
            Self::XWing => "x-wing",
            Self::X25519 => "x25519",
        }
    }

    pub fn public_key_length(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::X25519 => 32,
        }
    }

    /// Length of the encapsulated key that goes before a ciphertext.
    pub fn enc_length(self) -> usize {
        match self {
            Self::XWing => 1120,
            Self::X25519 => 32,
        }
    }

    /// The suite's byte in binary formats.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::XWing => 1,
            Self::X25519 => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = HpkeError;

    fn from_str(text: &str) -> Result<Self, HpkeError> {
        Self::ALL.into_iter().find(|suite| suite.name() == text).ok_or(HpkeError::UnknownSuite)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    #[error("get random bytes from the operating system: {0}")]
    Randomness(getrandom::Error),
    #[error("know that HPKE suite")]
    UnknownSuite,
    #[error("accept a recipient key that is not a public key of suite {suite}")]
    BadPublicKey { suite: Suite },
    #[error("accept a private key that is not one of suite {suite}")]
    BadPrivateKey { suite: Suite },
    #[error("seal with suite {suite}")]
    Seal { suite: Suite },
    #[error(
        "open the sealed message (suite {suite}): it is damaged, for another key or for another purpose"
    )]
    Open { suite: Suite },
}

impl HpkeError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Randomness(_) => "ST-SEAL-10",
            Self::UnknownSuite => "ST-SEAL-11",
            Self::BadPublicKey { .. } => "ST-SEAL-12",
            Self::BadPrivateKey { .. } => "ST-SEAL-13",
            Self::Seal { .. } => "ST-SEAL-14",
            Self::Open { .. } => "ST-SEAL-15",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Randomness(_) => {
                "make the system's random generator available (getrandom must not be filtered)"
            }
            Self::UnknownSuite => "use x-wing or x25519",
            Self::BadPublicKey { .. } => {
                "take the recipient key, with its suite, from the owner or from the evidence again"
            }
            Self::BadPrivateKey { .. } => "restore the owner's key file from its backup",
            Self::Seal { .. } => {
                "ask the recipient for another key: this one gives no shared secret"
            }
            Self::Open { .. } => {
                "check that the message is whole and was made for this key and this job"
            }
        }
    }
}

/// A public key to seal to. Holds only keys that decode in their suite.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RecipientKeyText", into = "RecipientKeyText")]
pub struct RecipientKey {
    suite: Suite,
    key: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipientKeyText {
    suite: Suite,
    key: String,
}

impl RecipientKey {
    pub fn new(suite: Suite, key: &[u8]) -> Result<Self, HpkeError> {
        let decodes = match suite {
            Suite::XWing => <XWing as Kem>::PublicKey::from_bytes(key).is_ok(),
            Suite::X25519 => <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(key).is_ok(),
        };
        if !decodes {
            return Err(HpkeError::BadPublicKey { suite });
        }
        Ok(Self { suite, key: key.to_vec() })
    }

    pub fn from_hex(suite: Suite, text: &str) -> Result<Self, HpkeError> {
        let key =
            encoding::hex_vec(text, MAX_PUBLIC_KEY).ok_or(HpkeError::BadPublicKey { suite })?;
        Self::new(suite, &key)
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.key
    }

    pub fn to_hex(&self) -> String {
        hex::encode(&self.key)
    }
}

impl TryFrom<RecipientKeyText> for RecipientKey {
    type Error = HpkeError;

    fn try_from(text: RecipientKeyText) -> Result<Self, HpkeError> {
        Self::from_hex(text.suite, &text.key)
    }
}

impl From<RecipientKey> for RecipientKeyText {
    fn from(key: RecipientKey) -> Self {
        Self { suite: key.suite, key: key.to_hex() }
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = hex::encode(self.key.get(..8).unwrap_or(&self.key));
        write!(f, "RecipientKey({}, {start}..)", self.suite)
    }
}

/// A private key with the public key that belongs to it. In both suites the private key is 32 bytes.
#[derive(Debug)]
pub struct RecipientKeyPair {
    private: Secret<[u8; 32]>,
    public: RecipientKey,
}

impl RecipientKeyPair {
    pub fn generate(suite: Suite) -> Result<Self, HpkeError> {
        Self::from_private(suite, Secret::random().map_err(HpkeError::Randomness)?)
    }

    pub fn from_private(suite: Suite, private: Secret<[u8; 32]>) -> Result<Self, HpkeError> {
        let key = match suite {
            Suite::XWing => public_of::<XWing>(private.expose()),
            Suite::X25519 => public_of::<X25519HkdfSha256>(private.expose()),
        }
        .ok_or(HpkeError::BadPrivateKey { suite })?;
        Ok(Self { private, public: RecipientKey { suite, key } })
    }

    pub fn suite(&self) -> Suite {
        self.public.suite
    }

    pub fn public(&self) -> &RecipientKey {
        &self.public
    }

    pub fn private(&self) -> &Secret<[u8; 32]> {
        &self.private
    }

    pub fn open(
        &self,
        sealed: &Sealed,
        info: &[u8],
        aad: &[u8],
    ) -> Result<Secret<Vec<u8>>, HpkeError> {
        open(self, &sealed.enc, info, aad, &sealed.ciphertext)
    }
}

fn public_of<K: Kem>(private: &[u8; 32]) -> Option<Vec<u8>> {
    let private = K::PrivateKey::from_bytes(private).ok()?;
    Some(K::sk_to_pk(&private).to_bytes().to_vec())
}

/// What [`seal`] makes: the encapsulated key and the ciphertext with its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub enc: Vec<u8>,
    pub ciphertext: Vec<u8>,
}

/// Seals `plaintext` so that only the holder of `public`'s private key, who gives the same `info` and `aad`, opens it.
pub fn seal(
    suite: Suite,
    public: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, HpkeError> {
    match suite {
        Suite::XWing => seal_with::<XWing>(suite, public, info, aad, plaintext),
        Suite::X25519 => seal_with::<X25519HkdfSha256>(suite, public, info, aad, plaintext),
    }
}

/// Opens what [`seal`] made for `pair`.
pub fn open(
    pair: &RecipientKeyPair,
    enc: &[u8],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Secret<Vec<u8>>, HpkeError> {
    match pair.suite() {
        Suite::XWing => open_with::<XWing>(pair, enc, info, aad, ciphertext),
        Suite::X25519 => open_with::<X25519HkdfSha256>(pair, enc, info, aad, ciphertext),
    }
}

fn seal_with<K: Kem>(
    suite: Suite,
    public: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, HpkeError> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| HpkeError::BadPublicKey { suite })?;
    // The crate below panics when there is no randomness; asking first turns that into an error.
    let mut probe = [0; 1];
    getrandom::fill(&mut probe).map_err(HpkeError::Randomness)?;
    probe.zeroize();
    let (enc, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, K>(
        &OpModeS::Base,
        &public,
        info,
        plaintext,
        aad,
    )
    .map_err(|_| HpkeError::Seal { suite })?;
    Ok(Sealed { enc: enc.to_bytes().to_vec(), ciphertext })
}

fn open_with<K: Kem>(
    pair: &RecipientKeyPair,
    enc: &[u8],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Secret<Vec<u8>>, HpkeError> {
    let suite = pair.suite();
    let private = K::PrivateKey::from_bytes(pair.private.expose())
        .map_err(|_| HpkeError::BadPrivateKey { suite })?;
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| HpkeError::Open { suite })?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, K>(
        &OpModeR::Base,
        &private,
        &enc,
        info,
        ciphertext,
        aad,
    )
    .map(Secret::new)
    .map_err(|_| HpkeError::Open { suite })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9180, appendix A.2.1 (DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305, base mode), sequence number 0.
    #[test]
    fn opens_the_message_of_the_rfc() {
        let private = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
        let private = Secret::new(encoding::hex_array(private).expect("hex"));
        let pair = RecipientKeyPair::from_private(Suite::X25519, private).expect("key");
        assert_eq!(
            pair.public().to_hex(),
            "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
        );
        let bytes = |text| hex::decode(text).expect("hex");
        let sealed = Sealed {
            enc: bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
            ciphertext: bytes(
                "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
            ),
        };
        let opened = pair.open(&sealed, b"Ode on a Grecian Urn", b"Count-0").expect("open");
        assert_eq!(opened.expose(), b"Beauty is truth, truth beauty");
    }

    #[test]
    fn only_the_same_key_purpose_and_data_open() {
        for suite in Suite::ALL {
            let pair = RecipientKeyPair::generate(suite).expect("generate");
            let other = RecipientKeyPair::generate(suite).expect("generate");
            let public = pair.public().as_bytes();
            assert_eq!(public.len(), suite.public_key_length());
            let sealed = seal(suite, public, b"info", b"aad", b"secret").expect("seal");
            assert_eq!(sealed.enc.len(), suite.enc_length());
            assert_eq!(sealed.ciphertext.len(), 6 + 16);
            assert_eq!(pair.open(&sealed, b"info", b"aad").expect("open").expose(), b"secret");
            let refused = |pair: &RecipientKeyPair, info: &[u8], aad: &[u8], sealed: &Sealed| {
                pair.open(sealed, info, aad).expect_err("refused") == HpkeError::Open { suite }
            };
            assert!(refused(&other, b"info", b"aad", &sealed));
            assert!(refused(&pair, b"inf0", b"aad", &sealed));
            assert!(refused(&pair, b"info", b"", &sealed));
            for place in [0, 6 + 15] {
                let mut changed = sealed.clone();
                changed.ciphertext[place] ^= 1;
                assert!(refused(&pair, b"info", b"aad", &changed));
            }
            let mut changed = sealed.clone();
            changed.enc[0] ^= 1;
            assert!(refused(&pair, b"info", b"aad", &changed));
            changed.enc.clear();
            assert!(refused(&pair, b"info", b"aad", &changed));
        }
    }

    #[test]
    fn two_seals_of_the_same_message_differ() {
        let pair = RecipientKeyPair::generate(Suite::XWing).expect("generate");
        let seal =
            || seal(Suite::XWing, pair.public().as_bytes(), b"", b"", b"same").expect("seal");
        let (one, other) = (seal(), seal());
        assert_ne!(one.enc, other.enc);
        assert_ne!(one.ciphertext, other.ciphertext);
    }

    #[test]
    fn a_pair_comes_back_from_its_private_key() {
        for suite in Suite::ALL {
            let pair = RecipientKeyPair::generate(suite).expect("generate");
            let again =
                RecipientKeyPair::from_private(suite, pair.private().duplicate()).expect("key");
            assert_eq!(again.public(), pair.public());
        }
    }

    #[test]
    fn a_key_without_shared_secret_is_refused() {
        // The point of order 1: every exchange with it gives zero.
        let error = seal(Suite::X25519, &[0; 32], b"", b"", b"x").expect_err("no secret");
        assert_eq!(error.code(), "ST-SEAL-14");
    }

    #[test]
    fn public_keys_in_json_are_checked() {
        let pair = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let text = serde_json::to_string(pair.public()).expect("json");
        assert_eq!(&serde_json::from_str::<RecipientKey>(&text).expect("json"), pair.public());
        for (from, to) in [("x25519", "x-wing"), ("\"key\":\"", "\"key\":\"00"), ("}", ",\"x\":1}")]
        {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            assert!(serde_json::from_str::<RecipientKey>(&other).is_err(), "{other}");
        }
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse::<Suite>(), Ok(suite));
            assert_eq!(serde_json::to_string(&suite).expect("json"), format!("\"{suite}\""));
            assert_eq!(Suite::from_number(suite.number()), Some(suite));
            for length in [0, 31, 33, 1215, 1217] {
                assert!(RecipientKey::new(suite, &vec![1; length]).is_err());
            }
        }
        assert_eq!("X-Wing".parse::<Suite>(), Err(HpkeError::UnknownSuite));
    }
}
