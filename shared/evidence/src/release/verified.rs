//! Manifests whose signatures were checked.

use std::collections::BTreeSet;

use super::{
    error::ReleaseError,
    keys::TrustedKeys,
    manifest::{Manifest, Reference, ReleaseImage, Revocation, RevokedDigest},
    sign, statement,
};
use crate::{
    dsse::{Envelope, payload_digest},
    fixed_hex::Hex32,
    reference::{HostCode, MAX_REFERENCE_BYTES, ReferenceError, ReferenceValues},
    time::Timestamp,
};

pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
const MAX_SIGNATURES: usize = 16;

/// A manifest that enough holders signed and that is valid at the time that was asked for. Only [`Manifest::verify`] makes
/// one. Whether it is still the newest is for [`super::ReleaseMemory`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    manifest: Manifest,
    payload_digest: Hex32,
    signers: Vec<String>,
}

impl Manifest {
    /// Checks signatures before anything of the statement is parsed, then its rules and its time.
    ///
    /// Signatures of keys that the set does not have are passed over, so that a set can change while releases live; one
    /// under a trusted key's id must verify.
    pub fn verify(
        bytes: &[u8],
        trusted: &TrustedKeys,
        now: u64,
    ) -> Result<VerifiedManifest, ReleaseError> {
        trusted.validate()?;
        let envelope = read_envelope(bytes)?;
        let signers = check_signatures(&envelope, trusted, now)?;
        if signers.len() < trusted.threshold {
            return Err(ReleaseError::Threshold {
                found: signers.len(),
                needed: trusted.threshold,
            });
        }
        let manifest = statement::read(&envelope.payload.0)?;
        if now < manifest.not_before.seconds() {
            return Err(ReleaseError::NotYetValid(manifest.not_before));
        }
        if now >= manifest.not_after.seconds() {
            return Err(ReleaseError::Expired(manifest.not_after));
        }
        Ok(VerifiedManifest {
            manifest,
            payload_digest: envelope.payload_digest(),
            signers: signers.into_iter().map(str::to_owned).collect(),
        })
    }
}

/// An envelope within its limits whose key ids differ.
pub(super) fn read_envelope(bytes: &[u8]) -> Result<Envelope, ReleaseError> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ReleaseError::TooLong { length: bytes.len() });
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(ReleaseError::Unreadable)?;
    check_form(&envelope)?;
    Ok(envelope)
}

pub(super) fn check_form(envelope: &Envelope) -> Result<(), ReleaseError> {
    if !envelope.is_in_toto() {
        return Err(ReleaseError::PayloadType);
    }
    let count = envelope.signatures.len();
    if count == 0 || count > MAX_SIGNATURES {
        return Err(ReleaseError::Signatures("expected 1 to 16 signatures"));
    }
    let ids: BTreeSet<_> = envelope.signatures.iter().map(|one| one.keyid.as_str()).collect();
    if ids.len() != count {
        return Err(ReleaseError::Signatures("two signatures have one key id"));
    }
    Ok(())
}

/// The holders whose signatures count at `now`.
fn check_signatures<'a>(
    envelope: &Envelope,
    trusted: &'a TrustedKeys,
    now: u64,
) -> Result<BTreeSet<&'a str>, ReleaseError> {
    let message = envelope.signed_bytes();
    let mut holders = BTreeSet::new();
    for signature in &envelope.signatures {
        let Some(key) = trusted.find(&signature.keyid) else { continue };
        if !signature.is_by(&key.public_key, &message) {
            return Err(ReleaseError::SignatureInvalid { holder: key.holder.clone() });
        }
        if key.not_after.is_none_or(|end| now < end.seconds()) {
            holders.insert(key.holder.as_str());
        }
    }
    Ok(holders)
}

impl VerifiedManifest {
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the signed statement: what to pin a release by.
    pub fn payload_digest(&self) -> Hex32 {
        self.payload_digest
    }

    /// Holders whose signatures counted.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    pub fn not_after(&self) -> Timestamp {
        self.manifest.not_after
    }

    /// The reference values in the manifest itself; [`Self::admit_reference`] takes those beside it.
    pub fn reference_values(&self) -> impl Iterator<Item = &ReferenceValues> {
        self.manifest.images.iter().filter_map(|image| match &image.reference {
            Reference::Embedded(values) => Some(&**values),
            Reference::Sha256(_) => None,
        })
    }

    /// Reads a file of reference values that the manifest names by digest.
    pub fn admit_reference(&self, bytes: &[u8]) -> Result<ReferenceValues, ReleaseError> {
        if bytes.len() > MAX_REFERENCE_BYTES {
            let error = ReferenceError::Parse("longer than 1 MiB".to_owned());
            return Err(ReleaseError::Reference(error));
        }
        let digest = payload_digest(bytes);
        let image = self
            .manifest
            .images
            .iter()
            .find(|image| image.reference == Reference::Sha256(digest))
            .ok_or(ReleaseError::ReferenceOther(digest))?;
        let values = ReferenceValues::parse(bytes).map_err(ReleaseError::Reference)?;
        self.manifest.accept_reference(image, &values)?;
        Ok(values)
    }

    /// The image that reference values describe.
    pub fn image_of(&self, values: &ReferenceValues) -> Option<&ReleaseImage> {
        let of_release = values.release == self.manifest.release;
        self.manifest.images.iter().find(|image| of_release && image.covers(values))
    }

    /// What the manifest states of the host's ACPI code in the kernel of these values.
    pub fn host_code(&self, values: &ReferenceValues) -> HostCode {
        match self.image_of(values) {
            Some(image) if image.aml_sandbox => HostCode::Confined,
            _ => HostCode::Unstated,
        }
    }

    /// Why this manifest says that a digest must not be used any more.
    pub fn revocation(&self, digest: &[u8]) -> Option<&Revocation> {
        let wanted = RevokedDigest::of(digest);
        self.manifest.revoked.iter().find(|revocation| revocation.digest == wanted)
    }
}

/// Fuzz entry: hostile envelopes never verify under keys that did not sign them; a statement that is accepted has one form;
/// merging an envelope with itself changes nothing.
pub fn fuzz_manifest(data: &[u8]) {
    if let Ok(manifest) = statement::read(data) {
        assert_eq!(statement::write(&manifest).ok().as_deref(), Some(data));
    }
    if let Ok(merged) = sign::merge(data, data)
        && let Ok(text) = serde_json::to_vec(&merged)
        && text.len() <= MAX_MANIFEST_BYTES
    {
        assert_eq!(read_envelope(&text).ok(), Some(merged));
    }
    // Nobody has the private keys of these.
    let strangers = super::keys::strangers();
    assert!(Manifest::verify(data, &strangers, 1_800_000_000).is_err());
}
