//! What a release says of itself: the predicate of the statement, version 1. Canonical JSON, closed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::ReleaseError;
use crate::{
    fixed_hex::{Hex32, HexBytes},
    launch::Layer,
    reference::{FileDigests, Profile, ReferenceValues},
    time::Timestamp,
};

const MAX_IMAGES: usize = 64;
const MAX_LAYERS: usize = 256;
pub(super) const MAX_REVOKED: usize = 1024;
const MAX_TEXT: usize = 128;
const MAX_REASON: usize = 256;
const MAX_CMDLINE: usize = 2048;
/// Three years: no release is for ever.
const LONGEST_VALIDITY: u64 = 3 * 366 * 24 * 3600;

/// One image of the release, as an artefact directory holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseImage {
    pub name: String,
    /// SHA-256 of the image's `sha256sum.txt`: what `digest.txt` holds, and the subject of the statement.
    pub os_image: Hex32,
    pub kernel: FileDigests,
    pub initramfs: FileDigests,
    pub cmdline: String,
    /// The kernel keeps the host's ACPI code away from private memory.
    pub aml_sandbox: bool,
    pub reference: Reference,
}

/// What the image measures: in the manifest, or a file beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    Embedded(Box<ReferenceValues>),
    /// SHA-256 of the file.
    Sha256(Hex32),
}

/// A SHA-256 or SHA-384 digest of something that must not run any more: a file, a layer's root, a measurement register.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevokedDigest(pub HexBytes);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    pub digest: RevokedDigest,
    pub reason: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    /// The name that launch configurations carry.
    pub release: String,
    /// The place of the release among all: each has a higher number than those before.
    pub number: u32,
    /// Counts the manifests of this release; a newer one replaces the older.
    pub edition: u32,
    /// Releases with a lower number must not be used any more.
    pub min_release: u32,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub images: Vec<ReleaseImage>,
    /// Layers that belong to the release, beside those that reference values name.
    pub layers: Vec<Layer>,
    /// Of this release or of any other.
    pub revoked: Vec<Revocation>,
}

impl RevokedDigest {
    pub fn of(digest: &[u8]) -> Self {
        Self(HexBytes(digest.to_vec()))
    }

    fn is_digest(&self) -> bool {
        matches!(self.0.0.len(), 32 | 48) && self.0.0.iter().any(|byte| *byte != 0)
    }
}

impl std::fmt::Display for RevokedDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl ReleaseImage {
    /// Every digest by which this image could have been revoked.
    fn digests(&self) -> Vec<RevokedDigest> {
        let mut list = vec![RevokedDigest::of(&self.os_image.0)];
        for file in [&self.kernel, &self.initramfs] {
            list.push(RevokedDigest::of(&file.sha256.0));
            list.push(RevokedDigest::of(&file.sha384.0));
        }
        match &self.reference {
            Reference::Sha256(digest) => list.push(RevokedDigest::of(&digest.0)),
            Reference::Embedded(values) => list.extend(digests_of(values)),
        }
        list
    }

    /// Whether these are reference values of this image, as far as its files say.
    pub(super) fn covers(&self, values: &ReferenceValues) -> bool {
        values.kernel == self.kernel
            && values.initramfs == self.initramfs
            && values.cmdline == self.cmdline
    }
}

/// Digests in reference values that a revocation can name.
pub(super) fn digests_of(values: &ReferenceValues) -> Vec<RevokedDigest> {
    let mut list = BTreeSet::new();
    for row in &values.registers {
        let registers = [&row.firmware, &row.mrtd, &row.rtmr1, &row.rtmr2];
        for register in registers.into_iter().chain(&row.rtmr0) {
            list.insert(RevokedDigest::of(&register.0));
        }
    }
    for row in &values.snp {
        list.insert(RevokedDigest::of(&row.firmware.0));
        list.insert(RevokedDigest::of(&row.measurement.0));
    }
    list.extend(values.layers.iter().map(|layer| RevokedDigest::of(&layer.root.0)));
    list.into_iter().collect()
}

impl Manifest {
    /// Every digest by which a part of this release could have been revoked.
    pub(super) fn digests(&self) -> BTreeSet<RevokedDigest> {
        let images = self.images.iter().flat_map(ReleaseImage::digests);
        let layers = self.layers.iter().map(|layer| RevokedDigest::of(&layer.root.0));
        images.chain(layers).collect()
    }

    /// Every rule that a manifest must keep by itself; signing and verifying check it too.
    pub fn validate(&self) -> Result<(), ReleaseError> {
        let refuse = |field, reason| Err(ReleaseError::Field { field, reason });
        if self.version != 1 {
            return Err(ReleaseError::StatementType);
        }
        if !is_name(&self.release) {
            return refuse("release", "expected a short name without spaces");
        }
        if self.number == 0 || self.edition == 0 {
            return refuse("number", "number and edition begin at 1");
        }
        if self.min_release > self.number {
            return refuse("min_release", "a release cannot end itself");
        }
        let (from, to) = (self.not_before.seconds(), self.not_after.seconds());
        if to <= from || to - from > LONGEST_VALIDITY {
            return refuse("not_after", "expected at most three years after not_before");
        }
        if self.images.is_empty() || self.images.len() > MAX_IMAGES {
            return refuse("images", "expected 1 to 64");
        }
        if self.layers.len() > MAX_LAYERS {
            return refuse("layers", "expected at most 256");
        }
        if self.revoked.len() > MAX_REVOKED {
            return refuse("revoked", "expected at most 1024");
        }
        let names: BTreeSet<_> = self.images.iter().map(|image| image.name.as_str()).collect();
        if names.len() != self.images.len() {
            return refuse("images", "two have one name");
        }
        self.images.iter().try_for_each(|image| self.validate_image(image))?;
        self.validate_revoked()
    }

    fn validate_image(&self, image: &ReleaseImage) -> Result<(), ReleaseError> {
        let refuse = |field, reason| Err(ReleaseError::Field { field, reason });
        if !is_name(&image.name) {
            return refuse("images", "expected short names without spaces");
        }
        if image.cmdline.len() > MAX_CMDLINE {
            return refuse("cmdline", "the kernel cuts lines at 2048 bytes");
        }
        if image.os_image.is_zero() {
            return refuse("os_image", "it is all zero");
        }
        match &image.reference {
            Reference::Embedded(values) => self.accept_reference(image, values),
            Reference::Sha256(_) => Ok(()),
        }
    }

    /// The rules for reference values, wherever they came from.
    pub(super) fn accept_reference(
        &self,
        image: &ReleaseImage,
        values: &ReferenceValues,
    ) -> Result<(), ReleaseError> {
        let refuse = |reason| Err(ReleaseError::Field { field: "reference", reason });
        values.to_bytes().map_err(ReleaseError::Reference)?;
        if values.release != self.release {
            return refuse("they are of another release");
        }
        if values.profile != Profile::Prod {
            return refuse("a release has images of the prod profile only");
        }
        if !image.covers(values) {
            return refuse("kernel, initramfs or command line are not the image's");
        }
        Ok(())
    }

    fn validate_revoked(&self) -> Result<(), ReleaseError> {
        let refuse = |reason| Err(ReleaseError::Field { field: "revoked", reason });
        let own = self.digests();
        let mut seen = BTreeSet::new();
        for revocation in &self.revoked {
            let reason = &revocation.reason;
            if reason.is_empty()
                || reason.len() > MAX_REASON
                || reason.chars().any(char::is_control)
            {
                return refuse("expected a short reason for each");
            }
            if !revocation.digest.is_digest() {
                return refuse("expected SHA-256 or SHA-384 digests");
            }
            if !seen.insert(&revocation.digest) {
                return refuse("a digest is listed twice");
            }
            if own.contains(&revocation.digest) {
                return refuse("the release revokes a part of itself");
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}
