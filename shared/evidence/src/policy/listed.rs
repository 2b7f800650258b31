//! Images that may run: those of the policy, and those that a command line adds.

use super::{PolicyRules, sha256};
use crate::fixed_hex::Hex32;

/// Digests of dstack images and compose files that a command line adds to those of its policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedImages {
    pub compose_hashes: Vec<Hex32>,
    pub os_images: Vec<Hex32>,
}

impl ListedImages {
    pub fn is_empty(&self) -> bool {
        self.compose_hashes.is_empty() && self.os_images.is_empty()
    }

    /// SHA-256 of a policy file alone, or of it and the additions, one on a line.
    pub(super) fn digest_with(&self, policy: &[u8]) -> Hex32 {
        let mut bytes = policy.to_vec();
        for hash in &self.compose_hashes {
            bytes.extend_from_slice(format!("\ncompose_hash {hash}").as_bytes());
        }
        for digest in &self.os_images {
            bytes.extend_from_slice(format!("\nos_image {digest}").as_bytes());
        }
        sha256(&bytes)
    }
}

impl PolicyRules {
    /// Digests of compose files and OS images, from the file and from the command line: a release may revoke any of them.
    pub fn listed_images(&self) -> Vec<Hex32> {
        [self.compose_hashes.as_slice(), &self.os_images].concat()
    }
}
