//! The owner of a job: one secp256k1 key that signs (a wallet key works) and one HPKE key that results are sealed to.

use std::fmt;

use k256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};
use serde::{Deserialize, Serialize};
use tiny_keccak::{Hasher, Keccak};

use crate::{
    Secret, encoding,
    hpke::{HpkeError, RecipientKey, RecipientKeyPair, Suite},
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error("use a signing key that is not 32 bytes of hex within the order of secp256k1")]
    BadSigningKey,
    #[error("accept an owner that is not a compressed secp256k1 key of 66 lower-case hex digits")]
    BadPublicKey,
    #[error("sign the digest")]
    Sign,
    #[error("verify the owner's signature: it was made by another key or over other bytes")]
    BadSignature,
    #[error("accept a signature whose s is in the upper half of the order")]
    HighS,
}

impl OwnerError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.code(),
            Self::BadSigningKey => "ST-SEAL-20",
            Self::BadPublicKey => "ST-SEAL-21",
            Self::Sign => "ST-SEAL-22",
            Self::BadSignature => "ST-SEAL-23",
            Self::HighS => "ST-SEAL-24",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Hpke(error) => error.fix(),
            Self::BadSigningKey => "give a wallet's private key as 64 hex digits",
            Self::BadPublicKey => "give the owner's public key as `sealtune key show` prints it",
            Self::Sign => "report this as a bug: the key cannot sign",
            Self::BadSignature => {
                "sign with the key of the owner that is named, over exactly these bytes"
            }
            Self::HighS => {
                "sign with a program that makes low-s signatures, as Ethereum wallets do"
            }
        }
    }
}

/// The public half of a signing key, which also names the owner: 33 bytes compressed, 66 hex digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SigningPublicKey([u8; 33]);

impl SigningPublicKey {
    /// Refuses bytes that are no point of the curve.
    pub fn new(compressed: [u8; 33]) -> Result<Self, OwnerError> {
        VerifyingKey::from_sec1_bytes(&compressed).map_err(|_| OwnerError::BadPublicKey)?;
        Ok(Self(compressed))
    }

    pub fn from_hex(text: &str) -> Result<Self, OwnerError> {
        Self::new(encoding::hex_array(text).ok_or(OwnerError::BadPublicKey)?)
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// The Ethereum address of the key, with the checksum of EIP-55.
    pub fn address(&self) -> Result<String, OwnerError> {
        let key = VerifyingKey::from_sec1_bytes(&self.0).map_err(|_| OwnerError::BadPublicKey)?;
        let point = key.to_encoded_point(false);
        // The first byte only says that the point is uncompressed.
        let coordinates = point.as_bytes().get(1..).ok_or(OwnerError::BadPublicKey)?;
        let digest = keccak(coordinates);
        Ok(checksum_address(&hex::encode(digest.get(12..).ok_or(OwnerError::BadPublicKey)?)))
    }
}

impl TryFrom<String> for SigningPublicKey {
    type Error = OwnerError;

    fn try_from(text: String) -> Result<Self, OwnerError> {
        Self::from_hex(&text)
    }
}

impl From<SigningPublicKey> for String {
    fn from(key: SigningPublicKey) -> Self {
        key.to_hex()
    }
}

impl fmt::Display for SigningPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for SigningPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningPublicKey({self})")
    }
}

/// What others know of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerPublic {
    pub signing: SigningPublicKey,
    pub recipient: RecipientKey,
}

/// The owner's two private keys.
pub struct OwnerKey {
    signing: SigningKey,
    recipient: RecipientKeyPair,
}

impl OwnerKey {
    pub fn generate(suite: Suite) -> Result<Self, OwnerError> {
        loop {
            let candidate = Secret::random().map_err(HpkeError::Randomness)?;
            // Outside the order once in 2^128 draws.
            if let Ok(signing) = SigningKey::from_slice(candidate.expose()) {
                return Ok(Self { signing, recipient: RecipientKeyPair::generate(suite)? });
            }
        }
    }

    /// Takes a wallet's private key (64 hex digits, with or without `0x`) and makes a fresh recipient key for it.
    pub fn from_signing_key_hex(text: &str, suite: Suite) -> Result<Self, OwnerError> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mut bytes = Secret::new([0u8; 32]);
        hex::decode_to_slice(digits, bytes.expose_mut()).map_err(|_| OwnerError::BadSigningKey)?;
        Self::from_parts(&bytes, RecipientKeyPair::generate(suite)?)
    }

    pub fn from_parts(
        signing: &Secret<[u8; 32]>,
        recipient: RecipientKeyPair,
    ) -> Result<Self, OwnerError> {
        let signing =
            SigningKey::from_slice(signing.expose()).map_err(|_| OwnerError::BadSigningKey)?;
        Ok(Self { signing, recipient })
    }

    pub fn public(&self) -> OwnerPublic {
        OwnerPublic { signing: self.signing_public(), recipient: self.recipient.public().clone() }
    }

    pub fn signing_public(&self) -> SigningPublicKey {
        let point = self.signing.verifying_key().to_encoded_point(true);
        let mut compressed = [0; 33];
        compressed.copy_from_slice(point.as_bytes());
        SigningPublicKey(compressed)
    }

    pub fn address(&self) -> Result<String, OwnerError> {
        self.signing_public().address()
    }

    pub fn recipient(&self) -> &RecipientKeyPair {
        &self.recipient
    }

    pub(crate) fn signing_bytes(&self) -> Secret<[u8; 32]> {
        Secret::new(self.signing.to_bytes().into())
    }

    /// Signs a 32-byte digest: deterministic (RFC 6979), r ‖ s, s in the lower half of the order.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], OwnerError> {
        let signature: Signature =
            self.signing.sign_prehash(digest).map_err(|_| OwnerError::Sign)?;
        let signature = signature.normalize_s().unwrap_or(signature);
        Ok(signature.to_bytes().into())
    }
}

impl fmt::Debug for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerKey")
            .field("signing", &self.signing_public())
            .field("recipient", self.recipient.public())
            .finish_non_exhaustive()
    }
}

/// Whether `signature` (r ‖ s) was made over `digest` by the holder of `public`. A digest has one accepted signature
/// form: the other of the two values of s is refused.
pub fn verify(
    public: &SigningPublicKey,
    digest: &[u8; 32],
    signature: &[u8; 64],
) -> Result<(), OwnerError> {
    let key = VerifyingKey::from_sec1_bytes(&public.0).map_err(|_| OwnerError::BadPublicKey)?;
    let signature = Signature::from_slice(signature).map_err(|_| OwnerError::BadSignature)?;
    if signature.normalize_s().is_some() {
        return Err(OwnerError::HighS);
    }
    key.verify_prehash(digest, &signature).map_err(|_| OwnerError::BadSignature)
}

fn keccak(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak::v256();
    hasher.update(bytes);
    let mut digest = [0; 32];
    hasher.finalize(&mut digest);
    digest
}

fn checksum_address(lower: &str) -> String {
    let digest = hex::encode(keccak(lower.as_bytes()));
    let digits = lower
        .chars()
        .zip(digest.chars())
        .map(|(digit, nibble)| if nibble >= '8' { digit.to_ascii_uppercase() } else { digit });
    std::iter::once('0').chain(std::iter::once('x')).chain(digits).collect()
}

/// Fuzz entry: an owner that parses has one spelling.
pub fn fuzz_owner_public(data: &[u8]) {
    if let Ok(owner) = serde_json::from_slice::<OwnerPublic>(data) {
        let again = serde_json::to_vec(&owner).ok();
        let again = again.and_then(|text| serde_json::from_slice::<OwnerPublic>(&text).ok());
        assert_eq!(again, Some(owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first account of the development mnemonic that Ethereum's test chains publish.
    const WALLET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    fn wallet() -> OwnerKey {
        OwnerKey::from_signing_key_hex(WALLET, Suite::X25519).expect("wallet")
    }

    #[test]
    fn a_wallet_key_has_its_wallets_address() {
        assert_eq!(
            wallet().address().expect("address"),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
        assert_eq!(
            wallet().signing_public().to_hex(),
            "038318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed75"
        );
    }

    #[test]
    fn signatures_are_deterministic_low_and_checked() {
        let digest = [0x5a; 32];
        let signature = wallet().sign(&digest).expect("sign");
        assert_eq!(signature, wallet().sign(&digest).expect("sign"));
        let public = wallet().signing_public();
        assert_eq!(verify(&public, &digest, &signature), Ok(()));
        assert_eq!(verify(&public, &[0; 32], &signature), Err(OwnerError::BadSignature));
        let other = OwnerKey::generate(Suite::X25519).expect("generate").signing_public();
        assert_eq!(verify(&other, &digest, &signature), Err(OwnerError::BadSignature));
        assert_eq!(verify(&public, &digest, &[0; 64]), Err(OwnerError::BadSignature));
        assert_eq!(verify(&public, &digest, &[0xff; 64]), Err(OwnerError::BadSignature));
    }

    #[test]
    fn the_other_s_of_a_good_signature_is_refused() {
        let digest = [1; 32];
        let low = Signature::from_slice(&wallet().sign(&digest).expect("sign")).expect("parse");
        let high = Signature::from_scalars(low.r(), -low.s()).expect("scalars");
        let high: [u8; 64] = high.to_bytes().into();
        assert_eq!(verify(&wallet().signing_public(), &digest, &high), Err(OwnerError::HighS));
        for round in 0..64u8 {
            let made = wallet().sign(&[round; 32]).expect("sign");
            assert!(Signature::from_slice(&made).expect("parse").normalize_s().is_none());
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        for text in ["", "0x", "12", &WALLET[..64], &"0".repeat(64), order, &"g".repeat(64)] {
            let error = OwnerKey::from_signing_key_hex(text, Suite::X25519).expect_err(text);
            assert_eq!(error, OwnerError::BadSigningKey);
        }
        let good = wallet().signing_public().to_hex();
        assert_eq!(SigningPublicKey::from_hex(&good), Ok(wallet().signing_public()));
        let not_on_curve = format!("02{}", "f".repeat(64));
        for text in [&good.to_uppercase(), &good[2..], &format!("0x{good}"), &not_on_curve] {
            assert_eq!(SigningPublicKey::from_hex(text), Err(OwnerError::BadPublicKey), "{text}");
        }
    }

    #[test]
    fn the_public_half_travels_as_json_and_debug_shows_no_private_key() {
        let owner = wallet();
        let text = serde_json::to_string(&owner.public()).expect("json");
        fuzz_owner_public(text.as_bytes());
        let again: OwnerPublic = serde_json::from_str(&text).expect("json");
        assert_eq!(again, owner.public());
        let private = hex::encode(owner.recipient().private().expose());
        let shown = format!("{owner:?}");
        assert!(!shown.contains(&WALLET[2..]) && !shown.contains(&private));
        assert!(!text.contains(&WALLET[2..]) && !text.contains(&private));
    }
}
