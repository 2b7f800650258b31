//! `sealtune-image release merge`: signatures that were made on different machines.

use std::path::{Path, PathBuf};

use sealtune_evidence::Hex32;
use sealtune_evidence::release::merge as merge_signatures;
use serde::Serialize;

use super::MAX_MANIFEST_BYTES;
use crate::digest::read_bounded;
use crate::error::ImageError;
use crate::image::json;
use crate::output::write_atomically;

/// Nothing here was checked against a key set; `verify` does that.
#[derive(Debug, Serialize)]
pub(super) struct Merged {
    file: PathBuf,
    statement: Hex32,
    signatures: Vec<String>,
}

impl Merged {
    pub(super) fn text(&self) -> String {
        let count = self.signatures.len();
        format!("{}\nstatement {}\n{count} signatures\n", self.file.display(), self.statement)
    }
}

/// # Errors
/// They are of different manifests, or one of them is no signed manifest.
pub(super) fn merge(a: &Path, b: &Path, out: &Path) -> Result<Merged, ImageError> {
    let (one, other) = (read_bounded(a, MAX_MANIFEST_BYTES)?, read_bounded(b, MAX_MANIFEST_BYTES)?);
    let envelope = merge_signatures(&one, &other)
        .map_err(|source| ImageError::Release { path: b.to_path_buf(), source })?;
    write_atomically(out, &json(&envelope)?)?;
    Ok(Merged {
        file: out.to_path_buf(),
        statement: envelope.payload_digest(),
        signatures: envelope.signatures.into_iter().map(|one| one.keyid).collect(),
    })
}
