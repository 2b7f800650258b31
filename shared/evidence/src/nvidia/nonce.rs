//! The nonces of a GPU's evidence: one that the GPU signs, and one for each OCSP request that belongs to it.

use sealtune_seal::canonical::domain_hash;

pub use crate::claims::{GPU_NONCE_TAG, gpu_nonce};
use crate::fixed_hex::Hex32;

pub const OCSP_NONCE_TAG: &str = "sealtune/ocsp-nonce/v1";

/// What an OCSP request about `certificate` (SHA-256) carries so that its answer belongs to this request for evidence:
/// `SHA-256("sealtune/ocsp-nonce/v1" ‖ 0x00 ‖ gpu nonce ‖ certificate)`.
pub fn ocsp_nonce(gpu_nonce: &[u8; 32], certificate: &Hex32) -> [u8; 32] {
    domain_hash(OCSP_NONCE_TAG, &[gpu_nonce.as_slice(), certificate.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use ring::digest::{SHA256, digest};

    use super::*;
    use crate::{claims::Purpose, fixed_hex::FixedHex};

    /// Written out, so that an agent in another language can be held against it.
    #[test]
    fn the_gpu_nonce_is_the_tagged_hash_of_its_parts() {
        let mut bytes = b"sealtune/gpu-nonce/v1\0offer\0".to_vec();
        bytes.extend([1; 32]);
        bytes.extend([2; 32]);
        bytes.extend(digest(&SHA256, b"key").as_ref());
        let expected = digest(&SHA256, &bytes);
        let nonce = gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([2; 32]), b"key");
        assert_eq!(nonce, expected.as_ref());
        let ocsp = [b"sealtune/ocsp-nonce/v1\0".as_slice(), &nonce, &[3; 32]].concat();
        assert_eq!(ocsp_nonce(&nonce, &FixedHex([3; 32])), digest(&SHA256, &ocsp).as_ref());
    }
}
