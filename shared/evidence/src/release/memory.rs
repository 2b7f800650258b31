//! What a verifier remembers of releases, so that nobody can take him back: the newest edition of each, the lowest number
//! that is still good, and everything that was ever revoked. Closed JSON, version 1.

use std::collections::BTreeMap;

use sealtune_seal::canonical;
use serde::{Deserialize, Serialize};

use super::{
    error::ReleaseError,
    manifest::{MAX_REVOKED, RevokedDigest, digests_of},
    verified::VerifiedManifest,
};
use crate::{fixed_hex::Hex32, reference::ReferenceValues};

const MAX_MEMORY_BYTES: usize = 1024 * 1024;
const MAX_RELEASES: usize = 256;
/// Revocations of several manifests add up.
const MAX_REMEMBERED: usize = 2 * MAX_REVOKED;
const MAX_REASON: usize = 256;

/// The newest manifest seen of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edition {
    pub edition: u32,
    /// SHA-256 of its statement.
    pub statement: Hex32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseMemory {
    pub version: u32,
    pub min_release: u32,
    /// By the number of the release.
    pub releases: BTreeMap<u32, Edition>,
    /// Reasons by digest.
    pub revoked: BTreeMap<String, String>,
}

impl Default for ReleaseMemory {
    fn default() -> Self {
        Self { version: 1, min_release: 0, releases: BTreeMap::new(), revoked: BTreeMap::new() }
    }
}

impl ReleaseMemory {
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() > MAX_MEMORY_BYTES {
            return Err(ReleaseError::MemoryUnreadable("longer than 1 MiB".to_owned()));
        }
        let memory: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReleaseError::MemoryUnreadable(error.to_string()))?;
        memory.validate()?;
        Ok(memory)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        self.validate()?;
        canonical::to_vec(self).map_err(|error| ReleaseError::MemoryUnreadable(error.to_string()))
    }

    /// Holds all manifests at hand against each other and against what was seen before, whatever their order. The new
    /// memory is to be kept before the manifests are used.
    pub fn admit(&self, manifests: &[&VerifiedManifest]) -> Result<Self, ReleaseError> {
        let mut memory = self.clone();
        for manifest in manifests {
            memory.learn(manifest)?;
        }
        for manifest in manifests {
            memory.check(manifest)?;
        }
        let minimum = memory.min_release;
        memory.releases.retain(|number, _| *number >= minimum);
        memory.validate()?;
        Ok(memory)
    }

    /// Why a digest must not be used any more.
    pub fn revocation(&self, digest: &[u8]) -> Option<&str> {
        self.revoked.get(&RevokedDigest::of(digest).to_string()).map(String::as_str)
    }

    /// For reference values that came beside their manifest.
    pub fn check_reference(&self, values: &ReferenceValues) -> Result<(), ReleaseError> {
        self.check_digests(&values.release, digests_of(values))
    }

    fn learn(&mut self, manifest: &VerifiedManifest) -> Result<(), ReleaseError> {
        let statement = manifest.payload_digest();
        let said = manifest.manifest();
        self.min_release = self.min_release.max(said.min_release);
        for revocation in &said.revoked {
            let digest = revocation.digest.to_string();
            self.revoked.entry(digest).or_insert_with(|| revocation.reason.clone());
        }
        let new = Edition { edition: said.edition, statement };
        let seen = self.releases.entry(said.number).or_insert(new);
        if said.edition == seen.edition && statement != seen.statement {
            return Err(ReleaseError::Equivocation {
                release: said.release.clone(),
                edition: said.edition,
            });
        }
        if said.edition > seen.edition {
            *seen = new;
        }
        Ok(())
    }

    fn check(&self, manifest: &VerifiedManifest) -> Result<(), ReleaseError> {
        let said = manifest.manifest();
        if said.number < self.min_release {
            return Err(ReleaseError::BelowMinimum {
                release: said.release.clone(),
                number: said.number,
                minimum: self.min_release,
            });
        }
        if let Some(seen) = self.releases.get(&said.number)
            && said.edition < seen.edition
        {
            return Err(ReleaseError::RolledBack {
                release: said.release.clone(),
                edition: said.edition,
                seen: seen.edition,
            });
        }
        self.check_digests(&said.release, said.digests())
    }

    fn check_digests(
        &self,
        release: &str,
        digests: impl IntoIterator<Item = RevokedDigest>,
    ) -> Result<(), ReleaseError> {
        for digest in digests.into_iter().map(|digest| digest.to_string()) {
            if let Some(reason) = self.revoked.get(&digest) {
                let (release, reason) = (release.to_owned(), reason.clone());
                return Err(ReleaseError::Revoked { release, digest, reason });
            }
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), ReleaseError> {
        if self.version != 1 {
            return Err(ReleaseError::MemoryField("this program knows version 1"));
        }
        if self.releases.len() > MAX_RELEASES {
            return Err(ReleaseError::MemoryField("expected at most 256 releases"));
        }
        if self.revoked.len() > MAX_REMEMBERED {
            return Err(ReleaseError::MemoryField("expected at most 2048 revoked digests"));
        }
        let is_digest = |text: &str| {
            matches!(text.len(), 64 | 96)
                && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !self.revoked.iter().all(|(digest, reason)| {
            is_digest(digest) && !reason.is_empty() && reason.len() <= MAX_REASON
        }) {
            return Err(ReleaseError::MemoryField("expected digests and short reasons"));
        }
        Ok(())
    }
}

/// Fuzz entry: whatever is accepted reads back from its canonical form.
pub fn fuzz_release_memory(data: &[u8]) {
    if let Ok(memory) = ReleaseMemory::parse(data)
        && let Ok(bytes) = memory.to_bytes()
        && bytes.len() <= MAX_MEMORY_BYTES
    {
        assert_eq!(ReleaseMemory::parse(&bytes).ok(), Some(memory));
    }
}
