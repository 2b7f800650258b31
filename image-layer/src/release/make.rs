//! `sealtune-image release make`: image directories and reference values become a manifest.

use std::path::{Path, PathBuf};

use clap::Args;
use ring::signature::Ed25519KeyPair;
use sealtune_evidence::dsse::payload_digest;
use sealtune_evidence::reference::MAX_REFERENCE_BYTES;
use sealtune_evidence::release::{Manifest, Reference, ReleaseImage, Revocation, sign};
use sealtune_evidence::time::Timestamp;
use sealtune_evidence::{FileDigests, Hex32, ReferenceValues};

use super::report::ManifestReport;
use super::{key_file, parse_time};
use crate::digest::read_bounded;
use crate::error::ImageError;
use crate::image::{MAX_KERNEL_BYTES, json};
use crate::inspect;
use crate::measure::read_layer;
use crate::metadata::{DIGEST, Metadata, read_metadata};
use crate::output::write_atomically;

/// The name of an image that is given without one.
const ONLY_IMAGE: &str = "prod";
const MAX_REVOKED_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct MakeArgs {
    /// An image directory of the release, with its name if there are several; may be given more than once
    #[arg(long = "image", value_name = "[NAME=]DIR", required = true, value_parser = parse_image)]
    images: Vec<(String, PathBuf)>,
    /// Reference values of an image, as `measure` writes them; may be given more than once
    #[arg(long = "reference", value_name = "FILE", required = true)]
    references: Vec<PathBuf>,
    /// Name the files of reference values by their digests instead of embedding them
    #[arg(long)]
    by_digest: bool,
    /// The place of the release among all
    #[arg(long, value_name = "N")]
    number: u32,
    /// Counts the manifests of this release
    #[arg(long, value_name = "N")]
    edition: u32,
    /// Releases with a lower number must not be used any more
    #[arg(long, value_name = "N")]
    min_release: u32,
    /// Good from then on [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    not_before: Option<Timestamp>,
    /// Good until then; at most three years
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    not_after: Timestamp,
    /// A layer of the release besides those in the reference values; may be given more than once
    #[arg(long = "layer", value_name = "NAME.layer.json")]
    layers: Vec<PathBuf>,
    /// What must not be used any more: a JSON array of {"digest", "reason", "since"}
    #[arg(long, value_name = "FILE")]
    revoked: Option<PathBuf>,
    /// The kernels keep the host's ACPI code away from private memory
    #[arg(long)]
    aml_sandbox: bool,
    /// Sign it at once
    #[arg(long, value_name = "KEY")]
    key: Option<PathBuf>,
    /// The manifest: unsigned, or with one signature; an older file there is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

struct ReferenceFile {
    path: PathBuf,
    digest: Hex32,
    values: ReferenceValues,
    used: bool,
}

/// # Errors
/// An image is damaged or not of this release, a file is missing or of something else, or a rule of manifests is broken.
pub(super) fn make(order: MakeArgs, now: u64) -> Result<ManifestReport, ImageError> {
    let not_before = order.not_before.or_else(|| Timestamp::new(now));
    let not_before = not_before.ok_or_else(|| ImageError::BadArgument {
        argument: "--not-before".to_owned(),
        detail: "this machine's clock shows no possible time".to_owned(),
    })?;
    let mut references =
        order.references.iter().map(|path| read_reference(path)).collect::<Result<Vec<_>, _>>()?;
    let mut release: Option<String> = None;
    let mut images = Vec::new();
    for (name, directory) in &order.images {
        let (image, version) = read_image(name, directory, order.aml_sandbox, &mut references)?;
        match &release {
            Some(release) if *release != version => {
                return Err(ImageError::BadImage {
                    path: directory.clone(),
                    detail: format!("it is of release {version}, the first is of {release}"),
                });
            }
            _ => release = Some(version),
        }
        images.push(image);
    }
    if let Some(file) = references.iter().find(|file| !file.used) {
        return Err(ImageError::ReferenceOfNone { path: file.path.clone() });
    }
    let mut manifest = Manifest {
        version: 1,
        release: release.unwrap_or_default(),
        number: order.number,
        edition: order.edition,
        min_release: order.min_release,
        not_before,
        not_after: order.not_after,
        images,
        layers: order.layers.iter().map(|path| read_layer(path)).collect::<Result<_, _>>()?,
        revoked: order.revoked.as_deref().map(read_revoked).transpose()?.unwrap_or_default(),
    };
    let refused = |source| ImageError::Release { path: order.out.clone(), source };
    // Signing checks the rules, those for embedded reference values too; this signature goes nowhere.
    let nobody = Ed25519KeyPair::from_seed_unchecked(&[0; 32])
        .map_err(|_| ImageError::Encode { what: "a key", detail: "it was refused".to_owned() })?;
    let mut envelope = sign(&manifest, &nobody).map_err(refused)?;
    if order.by_digest {
        name_by_digest(&mut manifest, &references);
        envelope = sign(&manifest, &nobody).map_err(refused)?;
    }
    envelope.signatures.clear();
    let bytes = match &order.key {
        None => json(&manifest)?,
        Some(key) => {
            envelope = sign(&manifest, &key_file::read(key)?).map_err(refused)?;
            json(&envelope)?
        }
    };
    write_atomically(&order.out, &bytes)?;
    Ok(ManifestReport::of(&order.out, &manifest, &envelope))
}

fn read_image(
    name: &str,
    directory: &Path,
    aml_sandbox: bool,
    references: &mut [ReferenceFile],
) -> Result<(ReleaseImage, String), ImageError> {
    let bad = |detail: String| ImageError::BadImage { path: directory.to_path_buf(), detail };
    let verdict = inspect::verify(directory)?;
    if let Some(wrong) = verdict.checked.iter().find(|checked| !checked.is_right()) {
        return Err(bad(format!("{} is not what it was", wrong.name)));
    }
    let metadata: Metadata = read_metadata(directory)?;
    let digests = |name: &str| {
        read_bounded(&directory.join(name), MAX_KERNEL_BYTES).map(|bytes| FileDigests::of(&bytes))
    };
    let (kernel, initramfs) = (digests(&metadata.kernel)?, digests(&metadata.initrd)?);
    let file = references
        .iter_mut()
        .find(|file| {
            let values = &file.values;
            (values.kernel, values.initramfs, &values.cmdline)
                == (kernel, initramfs, &metadata.cmdline)
        })
        .ok_or_else(|| ImageError::ReferenceLacking { path: directory.to_path_buf() })?;
    file.used = true;
    let digest = read_bounded(&directory.join(DIGEST), 256)?;
    let os_image = std::str::from_utf8(&digest)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| bad(format!("{DIGEST} holds no digest")))?;
    let image = ReleaseImage {
        name: name.to_owned(),
        os_image,
        kernel,
        initramfs,
        cmdline: metadata.cmdline,
        aml_sandbox,
        reference: Reference::Embedded(Box::new(file.values.clone())),
    };
    Ok((image, metadata.version))
}

fn read_reference(path: &Path) -> Result<ReferenceFile, ImageError> {
    let bytes = read_bounded(path, MAX_REFERENCE_BYTES as u64)?;
    let values = ReferenceValues::parse(&bytes)
        .map_err(|source| ImageError::Reference { path: path.to_path_buf(), source })?;
    Ok(ReferenceFile {
        path: path.to_path_buf(),
        digest: payload_digest(&bytes),
        values,
        used: false,
    })
}

fn read_revoked(path: &Path) -> Result<Vec<Revocation>, ImageError> {
    serde_json::from_slice(&read_bounded(path, MAX_REVOKED_BYTES)?).map_err(|error| {
        ImageError::BadJson { path: path.to_path_buf(), detail: error.to_string() }
    })
}

fn name_by_digest(manifest: &mut Manifest, references: &[ReferenceFile]) {
    for image in &mut manifest.images {
        let Reference::Embedded(values) = &image.reference else { continue };
        if let Some(file) = references.iter().find(|file| file.values == **values) {
            image.reference = Reference::Sha256(file.digest);
        }
    }
}

fn parse_image(text: &str) -> Result<(String, PathBuf), String> {
    let (name, directory) = text.split_once('=').unwrap_or((ONLY_IMAGE, text));
    if name.is_empty() || directory.is_empty() {
        return Err("expected a directory, or NAME=DIRECTORY".to_owned());
    }
    Ok((name.to_owned(), directory.into()))
}
