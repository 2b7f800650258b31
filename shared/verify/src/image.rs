//! An image's directory: what the builder says of it, and the files that a VM is started from.

use std::path::{Path, PathBuf};

use sealtune_evidence::{
    FileDigests, ImageReference,
    measure::{MeasureError, MeasuredFile, Recipe, SHIPPED, recipe::MAX_RECIPE_BYTES},
    reference::{MAX_REFERENCE_BYTES, ReferenceError},
};
use serde::Deserialize;

use crate::{failure::Failure, input};

const IMAGE_FILE: &str = "reference-values.json";
const METADATA_FILE: &str = "metadata.json";
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Kernel, initramfs or firmware.
pub(crate) const MAX_BOOT_FILE_BYTES: usize = 256 << 20;

/// The part of `metadata.json` that says which files are measured; foreign images have more.
#[derive(Deserialize)]
struct Metadata {
    kernel: String,
    initrd: String,
}

/// Of a directory, or of the file itself; with the file's path.
pub(crate) fn reference(image: &Path) -> Result<(PathBuf, ImageReference), Failure> {
    let path = if image.is_dir() { image.join(IMAGE_FILE) } else { image.to_owned() };
    let bytes = input::read(&path, MAX_REFERENCE_BYTES)?;
    let reference = ImageReference::parse(&bytes).map_err(refused(&path))?;
    Ok((path, reference))
}

/// The measured files of an image.
pub(crate) struct Boot {
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrd: Vec<u8>,
}

impl Boot {
    pub(crate) fn read(directory: &Path, image: &ImageReference) -> Result<Self, Failure> {
        let unfit = |reason: String| Failure::Image { path: directory.to_owned(), reason };
        let metadata = input::read(&directory.join(METADATA_FILE), MAX_METADATA_BYTES)?;
        let metadata: Metadata =
            serde_json::from_slice(&metadata).map_err(|error| unfit(error.to_string()))?;
        let file = |name: &str, expected: FileDigests| {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(unfit("metadata.json names a file outside the directory".to_owned()));
            }
            let bytes = input::read(&directory.join(name), MAX_BOOT_FILE_BYTES)?;
            if FileDigests::of(&bytes) == expected {
                Ok(bytes)
            } else {
                Err(unfit(format!("{name} is not the file of its reference values")))
            }
        };
        let kernel = file(&metadata.kernel, image.kernel)?;
        let initrd = file(&metadata.initrd, image.initramfs)?;
        Ok(Self { kernel, initrd })
    }
}

/// A shipped recipe by its name, or a file.
pub(crate) fn recipe(recipe: &Path) -> Result<Recipe, Failure> {
    let shipped = recipe
        .to_str()
        .and_then(|name| SHIPPED.iter().find(|(known, _)| *known == name))
        .map(|(_, text)| text.as_bytes().to_vec());
    let bytes = match shipped {
        Some(bytes) => bytes,
        None => input::read(recipe, MAX_RECIPE_BYTES)?,
    };
    Recipe::parse(&bytes)
        .map_err(|source| Failure::Measure { path: recipe.to_owned(), source: Box::new(source) })
}

/// Names the file that is at fault, or `other` if it is neither.
pub(crate) fn unmeasured(
    source: MeasureError,
    firmware: &Path,
    image: &Path,
    other: &Path,
) -> Failure {
    let path = match source.file() {
        Some(MeasuredFile::Firmware) => firmware,
        Some(MeasuredFile::Image) => image,
        None => other,
    };
    Failure::Measure { path: path.to_owned(), source: Box::new(source) }
}

pub(crate) fn refused(path: &Path) -> impl FnOnce(ReferenceError) -> Failure {
    Failure::of(path, |path, source| Failure::Reference { path, source })
}
