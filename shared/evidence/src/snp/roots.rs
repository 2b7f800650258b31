//! What an SNP report finally rests on: AMD's root key of a product (ARK), pinned by its public key.
//!
//! A simulated root exists in tests and under the feature `simulated-tee` only; a release build has no way to make one.

use ring::digest;

use super::product::Product;
use crate::fixed_hex::{FixedHex, Hex48};

/// SHA-384 of the SubjectPublicKeyInfo of each ARK, as AMD's key service hands them out.
const AMD: [(Product, &str); 3] = [
    (
        Product::Milan,
        "1249f67f15cf229a4069195e1a9ce537d1765ef706a1f4a123c36be9518786515d25ecc007f366b564d2b3f31c48082e",
    ),
    (
        Product::Genoa,
        "32ab53a6ce5ec14926207396e5c475ae768a6a9831b7e860b5acf2e1c1dff222bc5a8bfc43eb5e06393189c1f246d880",
    ),
    (
        Product::Turin,
        "3475f08a9727f8ac9a1deaea5f2a2097aa59d64d05c2a678c229c873e6359d3a6926287a2a22cd5f88a385e333a2fcc5",
    ),
];

/// The root keys that a verifier trusts.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    simulated: Option<(Product, Hex48)>,
}

/// Which root key verified the chain. Computed from the key, never read from evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpAnchor {
    Amd(Product),
    Simulated(Product, Hex48),
}

impl Roots {
    /// AMD's, and no other.
    pub fn amd() -> Self {
        Self::default()
    }

    /// AMD's, and one that signs for hardware that does not exist.
    #[cfg(any(test, feature = "simulated-tee"))]
    pub fn with_simulated(product: Product, key_digest: Hex48) -> Self {
        Self { simulated: Some((product, key_digest)) }
    }

    /// The anchor whose root has this SubjectPublicKeyInfo.
    pub(super) fn find(&self, public_key: &[u8]) -> Option<SnpAnchor> {
        let digest = key_digest(public_key);
        let text = digest.to_string();
        if let Some((product, _)) = AMD.iter().find(|(_, known)| *known == text) {
            return Some(SnpAnchor::Amd(*product));
        }
        self.simulated
            .filter(|(_, known)| *known == digest)
            .map(|(product, known)| SnpAnchor::Simulated(product, known))
    }
}

impl SnpAnchor {
    pub fn product(self) -> Product {
        match self {
            Self::Amd(product) | Self::Simulated(product, _) => product,
        }
    }

    pub fn is_simulated(self) -> bool {
        matches!(self, Self::Simulated(..))
    }
}

impl std::fmt::Display for SnpAnchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amd(product) => write!(f, "amd:{}", product.as_str().to_ascii_lowercase()),
            Self::Simulated(_, digest) => write!(f, "simulated:{digest}"),
        }
    }
}

/// What root keys are pinned by.
pub fn key_digest(public_key: &[u8]) -> Hex48 {
    let mut value = [0; 48];
    value.copy_from_slice(digest::digest(&digest::SHA384, public_key).as_ref());
    FixedHex(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_digests_and_differ() {
        for (at, (product, pin)) in AMD.iter().enumerate() {
            assert!(pin.parse::<Hex48>().is_ok(), "{product}");
            assert!(AMD[..at].iter().all(|(other, before)| other != product && before != pin));
        }
    }

    #[test]
    fn a_simulated_root_is_found_only_where_it_was_named() {
        let key = b"not a key of AMD's";
        assert_eq!(Roots::amd().find(key), None);
        let digest = key_digest(key);
        let named = Roots::with_simulated(Product::Turin, digest);
        assert_eq!(named.find(key), Some(SnpAnchor::Simulated(Product::Turin, digest)));
        assert_eq!(named.find(b"another"), None);
    }
}
