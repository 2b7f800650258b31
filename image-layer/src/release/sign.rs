//! `sealtune-image release sign`: the first signature, or one more.

use std::path::Path;

use ring::signature::Ed25519KeyPair;
use sealtune_evidence::release::{Manifest, cosign, sign as sign_first};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::report::ManifestReport;
use super::{MAX_MANIFEST_BYTES, key_file};
use crate::digest::read_bounded;
use crate::error::ImageError;
use crate::image::json;
use crate::output::write_atomically;

/// What tells an envelope from a manifest that nobody has signed.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "payloadType")]
    payload_type: Option<IgnoredAny>,
}

/// Without a key the rules are checked and nothing is written.
///
/// # Errors
/// The file is no manifest, breaks a rule, or was signed with this key before.
pub(super) fn sign(
    file: &Path,
    key: Option<&Path>,
    out: &Path,
) -> Result<ManifestReport, ImageError> {
    let bytes = read_bounded(file, MAX_MANIFEST_BYTES)?;
    let refused = |source| ImageError::Release { path: file.to_path_buf(), source };
    let bad = |error: serde_json::Error| ImageError::BadJson {
        path: file.to_path_buf(),
        detail: error.to_string(),
    };
    let signer = match key {
        Some(path) => key_file::read(path)?,
        // Stands in for the missing key; its signature goes nowhere.
        None => Ed25519KeyPair::from_seed_unchecked(&[0; 32]).map_err(|_| ImageError::Encode {
            what: "a key",
            detail: "it was refused".to_owned(),
        })?,
    };
    let kind: Kind = serde_json::from_slice(&bytes).map_err(bad)?;
    let (manifest, mut envelope) = if kind.payload_type.is_some() {
        cosign(&bytes, &signer).map_err(refused)?
    } else {
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(bad)?;
        let envelope = sign_first(&manifest, &signer).map_err(refused)?;
        (manifest, envelope)
    };
    if key.is_none() {
        envelope.signatures.pop();
        return Ok(ManifestReport::of(file, &manifest, &envelope));
    }
    write_atomically(out, &json(&envelope)?)?;
    Ok(ManifestReport::of(out, &manifest, &envelope))
}
