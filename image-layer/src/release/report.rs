//! What a manifest says, for the people who sign it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sealtune_evidence::Hex32;
use sealtune_evidence::dsse::Envelope;
use sealtune_evidence::release::{Manifest, VerifiedManifest};
use sealtune_evidence::time::Timestamp;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct ManifestReport {
    file: PathBuf,
    release: String,
    number: u32,
    edition: u32,
    min_release: u32,
    not_before: Timestamp,
    not_after: Timestamp,
    images: Vec<Image>,
    layers: Vec<String>,
    revoked: Vec<String>,
    /// SHA-256 of what is signed: two people who see the same digest sign the same.
    statement: Hex32,
    /// Key ids, unchecked; absent where signatures were checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures: Option<Vec<String>>,
    /// Holders whose signatures count.
    #[serde(skip_serializing_if = "Option::is_none")]
    signers: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Image {
    name: String,
    os_image: Hex32,
    cmdline: String,
    aml_sandbox: bool,
}

impl ManifestReport {
    pub(super) fn of(file: &Path, manifest: &Manifest, envelope: &Envelope) -> Self {
        let ids = envelope.signatures.iter().map(|one| one.keyid.clone()).collect();
        Self { signatures: Some(ids), ..Self::new(file, manifest, envelope.payload_digest()) }
    }

    pub(super) fn verified(file: &Path, verified: &VerifiedManifest) -> Self {
        let signers = Some(verified.signers().to_vec());
        Self { signers, ..Self::new(file, verified.manifest(), verified.payload_digest()) }
    }

    fn new(file: &Path, manifest: &Manifest, statement: Hex32) -> Self {
        let image = |image: &sealtune_evidence::release::ReleaseImage| Image {
            name: image.name.clone(),
            os_image: image.os_image,
            cmdline: image.cmdline.clone(),
            aml_sandbox: image.aml_sandbox,
        };
        Self {
            file: file.to_path_buf(),
            release: manifest.release.clone(),
            number: manifest.number,
            edition: manifest.edition,
            min_release: manifest.min_release,
            not_before: manifest.not_before,
            not_after: manifest.not_after,
            images: manifest.images.iter().map(image).collect(),
            layers: manifest
                .layers
                .iter()
                .map(|layer| format!("{} {}", layer.name, layer.root))
                .collect(),
            revoked: manifest
                .revoked
                .iter()
                .map(|one| format!("{} {}", one.digest, one.reason))
                .collect(),
            statement,
            signatures: None,
            signers: None,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _infallible = writeln!(text, "{name:<12} {}", printable(&value.to_string()));
        };
        line("file", &self.file.display());
        line("release", &self.release);
        line("number", &self.number);
        line("edition", &self.edition);
        line("min_release", &self.min_release);
        line("not_before", &self.not_before);
        line("not_after", &self.not_after);
        for image in &self.images {
            line("image", &format!("{} {}", image.name, image.os_image));
            line("  cmdline", &image.cmdline);
            line("  sandbox", &if image.aml_sandbox { "ACPI code is kept away" } else { "none" });
        }
        for layer in &self.layers {
            line("layer", layer);
        }
        for revoked in &self.revoked {
            line("revoked", revoked);
        }
        line("statement", &self.statement);
        for id in self.signatures.iter().flatten() {
            line("signed by", &format!("key {id} (not checked)"));
        }
        for holder in self.signers.iter().flatten() {
            line("signed by", holder);
        }
        text
    }
}

/// Somebody else wrote it: it must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
