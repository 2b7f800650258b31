//! The guest image directory and the training layers, as the image builder leaves them.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use sealtune_evidence::{Layer, launch::HashAlgorithm};
use sealtune_job::Hex;
use serde::Deserialize;

use super::definition::DefinedLayer;

/// Bounds the descriptions that are read.
const MAX_DESCRIPTION: u64 = 1 << 20;
/// Where distributions keep QEMU's default firmware.
const FIRMWARE: [&str; 3] = [
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/bios-256k.bin",
    "/usr/local/share/qemu/bios-256k.bin",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("read {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("understand {path}: {error}")]
    Format { path: PathBuf, error: serde_json::Error },
    #[error("use the image {0}: it has no reference-values.json")]
    NoReferenceValues(PathBuf),
    #[error("use the layer {path}: {reason}")]
    Layer { path: PathBuf, reason: String },
    #[error("find QEMU's firmware bios-256k.bin")]
    NoFirmware,
}

impl ImageError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ST-VM-20",
            Self::Format { .. } => "ST-VM-21",
            Self::NoReferenceValues(_) => "ST-VM-22",
            Self::Layer { .. } => "ST-VM-23",
            Self::NoFirmware => "ST-VM-24",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Format { .. } | Self::NoReferenceValues(_) => {
                "build the image anew with `sealtune-image build`, then name its directory with --image"
            }
            Self::Layer { .. } => "build the layer anew with `sealtune-image layer`",
            Self::NoFirmware => {
                "install seabios (it comes with QEMU), or name a file with --firmware"
            }
        }
    }
}

/// A bootable guest image.
#[derive(Debug, Clone)]
pub(crate) struct GuestImage {
    pub(crate) name: String,
    pub(crate) release: String,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) command_line: String,
    pub(crate) firmware: Option<PathBuf>,
}

/// The parts of `metadata.json` that a boot needs; the file has more (it is dstack's format).
#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    bios: Option<String>,
    kernel: String,
    initrd: String,
    cmdline: String,
    version: String,
}

impl GuestImage {
    pub(crate) fn load(directory: &Path) -> Result<Self, ImageError> {
        let directory = directory
            .canonicalize()
            .map_err(|error| ImageError::Read { path: directory.to_owned(), error })?;
        let metadata: Metadata = read_json(&directory.join("metadata.json"))?;
        if !directory.join("reference-values.json").is_file() {
            return Err(ImageError::NoReferenceValues(directory));
        }
        let file = |name: &str| {
            let path = directory.join(name);
            match std::fs::metadata(&path) {
                Ok(_) => Ok(path),
                Err(error) => Err(ImageError::Read { path, error }),
            }
        };
        Ok(Self {
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            release: metadata.version,
            kernel: file(&metadata.kernel)?,
            initramfs: file(&metadata.initrd)?,
            command_line: metadata.cmdline,
            firmware: metadata.bios.as_deref().map(file).transpose()?,
        })
    }
}

/// The firmware that VMs of this image start with.
pub(crate) fn firmware(asked: Option<&Path>, image: &GuestImage) -> Result<PathBuf, ImageError> {
    if let Some(path) = asked {
        return match std::fs::metadata(path) {
            Ok(_) => Ok(path.to_owned()),
            Err(error) => Err(ImageError::Read { path: path.to_owned(), error }),
        };
    }
    let mut candidates = image.firmware.iter().cloned().chain(FIRMWARE.iter().map(PathBuf::from));
    candidates.find(|path| path.is_file()).ok_or(ImageError::NoFirmware)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerDescription {
    version: u32,
    name: String,
    root: Hex<32>,
    data_blocks: u64,
    hash_offset: u64,
    hash_algorithm: HashAlgorithm,
    data_block_size: u32,
    hash_block_size: u32,
    salt: String,
    file_bytes: u64,
    #[expect(dead_code, reason = "part of the format; shown by the image builder")]
    packages: Vec<serde_json::Value>,
}

/// Every `<name>.layer.json` of `directory` whose `<name>.erofs` has the described size.
pub(crate) fn layers(directory: &Path) -> Result<Vec<DefinedLayer>, ImageError> {
    let failed = |error| ImageError::Read { path: directory.to_owned(), error };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(".layer.json") {
            found.push(layer(&path)?);
        }
    }
    found.sort_by(|a, b| a.layer.name.cmp(&b.layer.name));
    Ok(found)
}

fn layer(path: &Path) -> Result<DefinedLayer, ImageError> {
    let refused = |reason: &str| ImageError::Layer { path: path.to_owned(), reason: reason.into() };
    let description: LayerDescription = read_json(path)?;
    if description.version != 1 {
        return Err(refused("its description is of another version"));
    }
    let file = path.with_file_name(format!("{}.erofs", description.name));
    let file = file.canonicalize().map_err(|error| ImageError::Read { path: file, error })?;
    let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    if bytes != description.file_bytes {
        return Err(refused("its file has another size than described"));
    }
    let salt = hex::decode(&description.salt).map_err(|_| refused("its salt is not hex"))?;
    Ok(DefinedLayer {
        file,
        layer: Layer {
            name: description.name,
            root: description.root.0.into(),
            data_blocks: description.data_blocks,
            hash_offset: description.hash_offset,
            data_block_size: description.data_block_size,
            hash_block_size: description.hash_block_size,
            hash_algorithm: description.hash_algorithm,
            salt: sealtune_evidence::HexBytes(salt),
        },
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let failed = |error| ImageError::Read { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(MAX_DESCRIPTION).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|error| ImageError::Format { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_its_reference_values_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let metadata = r#"{"kernel":"k","initrd":"i","cmdline":"c","version":"1","is_dev":true}"#;
        std::fs::write(folder.path().join("metadata.json"), metadata).expect("write");
        let error = GuestImage::load(folder.path()).expect_err("no reference values");
        assert_eq!(error.code(), "ST-VM-22");
        std::fs::write(folder.path().join("reference-values.json"), "{}").expect("write");
        assert_eq!(GuestImage::load(folder.path()).expect_err("no kernel").code(), "ST-VM-20");
    }
}
