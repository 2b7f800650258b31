//! `sealtune-image release verify`.

use std::path::Path;

use sealtune_evidence::release::{Manifest, TrustedKeys};

use super::MAX_MANIFEST_BYTES;
use super::report::ManifestReport;
use crate::digest::read_bounded;
use crate::error::ImageError;

const MAX_KEYS_BYTES: u64 = 64 * 1024;

/// # Errors
/// Too few holders signed, the manifest breaks a rule, or this is not its time.
pub(super) fn verify(file: &Path, keys: &Path, now: u64) -> Result<ManifestReport, ImageError> {
    let refused = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ImageError::Release { path, source }
    };
    let set = TrustedKeys::parse(&read_bounded(keys, MAX_KEYS_BYTES)?).map_err(refused(keys))?;
    let bytes = read_bounded(file, MAX_MANIFEST_BYTES)?;
    let verified = Manifest::verify(&bytes, &set, now).map_err(refused(file))?;
    Ok(ManifestReport::verified(file, &verified))
}
