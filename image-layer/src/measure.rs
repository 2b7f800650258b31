//! `sealtune-image measure`: the registers that an image must show on one host's firmware and one shape.

use std::path::{Path, PathBuf};

use serde::Serialize;

use sealtune_evidence::{
    FileDigests, Hex48, HexBytes, ImageFacts, Layer, ReferenceValues, Shape, launch,
    layout1::{self, BootFiles, BootRegisters},
    reference::Layout,
};

use crate::digest::{read_bounded, sha384_file};
use crate::error::ImageError;
use crate::image::MAX_KERNEL_BYTES;
use crate::layer::LayerDescription;
use crate::metadata::read_metadata;
use crate::output::write_atomically;

/// Expected registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Which recipe this is; hardware recipes have other names.
    pub layout: Layout,
    pub mrtd: Hex48,
    pub rtmr0: Hex48,
    pub rtmr1: Hex48,
    pub rtmr2: Hex48,
}

/// # Errors
/// A file of the image or the firmware cannot be read.
pub fn measure(image: &Path, firmware: &Path, shape: Shape) -> Result<Expected, ImageError> {
    let metadata = read_metadata(image)?;
    let files = BootFiles {
        firmware: sha384_file(firmware)?.into(),
        kernel: sha384_file(&image.join(&metadata.kernel))?.into(),
        initramfs: sha384_file(&image.join(&metadata.initrd))?.into(),
        cmdline: metadata.cmdline,
    };
    let BootRegisters { mrtd, rtmr0, rtmr1, rtmr2 } = layout1::measure(&files, shape)
        .map_err(|error| ImageError::Encode { what: "the shape", detail: error.to_string() })?
        .registers;
    Ok(Expected { layout: Layout::Simulated1, mrtd, rtmr0, rtmr1, rtmr2 })
}

/// Writes the file that a verifier compares evidence with, or adds a row to it when it is of the same image.
///
/// # Errors
/// A file cannot be read or written, or an older one is of another image.
pub fn write_reference_values(
    image: &Path,
    firmware: &Path,
    shape: Shape,
    layers: &[PathBuf],
    file: &Path,
) -> Result<(), ImageError> {
    let metadata = read_metadata(image)?;
    let refused = |detail: String| ImageError::BadImage { path: file.to_path_buf(), detail };
    let ours = metadata.sealtune.as_ref().ok_or_else(|| ImageError::BadImage {
        path: image.to_path_buf(),
        detail: "it does not say its profile, so we did not build it".to_owned(),
    })?;
    let read = |name: &str| {
        read_bounded(&image.join(name), MAX_KERNEL_BYTES).map(|bytes| FileDigests::of(&bytes))
    };
    let facts = ImageFacts {
        release: metadata.version.clone(),
        profile: ours.profile.into(),
        cmdline: metadata.cmdline.clone(),
        kernel: read(&metadata.kernel)?,
        initramfs: read(&metadata.initrd)?,
        layers: layers.iter().map(|path| read_layer(path)).collect::<Result<_, _>>()?,
    };
    let firmware = sha384_file(firmware)?.into();
    let mut values = ReferenceValues::from_image(facts, &[firmware], &[shape])
        .map_err(|error| refused(error.to_string()))?;
    if file.exists() {
        let before = read_bounded(file, sealtune_evidence::reference::MAX_REFERENCE_BYTES as u64)?;
        let mut before =
            ReferenceValues::parse(&before).map_err(|error| refused(error.to_string()))?;
        if (&before.kernel, &before.initramfs, &before.cmdline)
            != (&values.kernel, &values.initramfs, &values.cmdline)
        {
            return Err(refused("it is of another image".to_owned()));
        }
        before.add(firmware, shape).map_err(|error| refused(error.to_string()))?;
        for layer in values.layers {
            if !before.layers.contains(&layer) {
                before.layers.push(layer);
            }
        }
        values = before;
    }
    write_atomically(file, &values.to_bytes().map_err(|error| refused(error.to_string()))?)
}

pub(crate) fn read_layer(path: &Path) -> Result<Layer, ImageError> {
    let bad = |detail: String| ImageError::BadImage { path: path.to_path_buf(), detail };
    let bytes = read_bounded(path, 1 << 20)?;
    let layer: LayerDescription =
        serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let root: [u8; 32] = hex::decode(&layer.root)
        .ok()
        .and_then(|root| root.try_into().ok())
        .ok_or_else(|| bad("its root is not 32 bytes".to_owned()))?;
    if layer.hash_algorithm != "sha256" {
        return Err(bad("its hash algorithm is unknown".to_owned()));
    }
    Ok(Layer {
        name: layer.name,
        root: root.into(),
        data_blocks: layer.data_blocks,
        hash_offset: layer.hash_offset,
        data_block_size: layer.data_block_size,
        hash_block_size: layer.hash_block_size,
        hash_algorithm: launch::HashAlgorithm::Sha256,
        salt: HexBytes(hex::decode(&layer.salt).map_err(|error| bad(error.to_string()))?),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_input_moves_its_own_register() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("k", "kernel");
        write("i", "initramfs");
        write("fw", "firmware");
        write("metadata.json", r#"{"kernel":"k","initrd":"i","cmdline":"a=1"}"#);
        let shape = Shape { memory_mib: 1024, vcpus: 1 };
        let now = || measure(dir.path(), &dir.path().join("fw"), shape).unwrap();
        let first = now();
        assert_eq!(first.mrtd, layout1::file_digest(b"firmware"));

        write("fw", "other");
        let second = now();
        assert_eq!(second, Expected { mrtd: second.mrtd, ..first.clone() });
        assert_ne!(second.mrtd, first.mrtd);
        write("k", "other");
        let third = now();
        assert_eq!(third, Expected { rtmr1: third.rtmr1, ..second.clone() });
        assert_ne!(third.rtmr1, second.rtmr1);
        write("metadata.json", r#"{"kernel":"k","initrd":"i","cmdline":"a=2"}"#);
        assert_ne!(now().rtmr2, third.rtmr2);
        let bigger =
            measure(dir.path(), &dir.path().join("fw"), Shape { vcpus: 2, ..shape }).unwrap();
        assert_ne!(bigger.rtmr0, third.rtmr0);
    }

    fn write_image(dir: &Path, initramfs: &str) {
        let metadata = r#"{"kernel":"k","initrd":"i","cmdline":"a=1","version":"0.1.0","sealtune":{"profile":"dev",
            "suite":"s","kernel_package":"p","kernel_package_version":"1","kernel_release":"r","agent_sha256":"","modules":[]}}"#;
        for (name, text) in
            [("k", "kernel"), ("i", initramfs), ("fw", "firmware"), ("metadata.json", metadata)]
        {
            fs::write(dir.join(name), text).unwrap();
        }
        let root = "ab".repeat(32);
        let layer = format!(
            r#"{{"version":1,"name":"n","root":"{root}","data_blocks":2,"hash_offset":8192,"hash_algorithm":"sha256",
            "data_block_size":4096,"hash_block_size":4096,"salt":"","file_bytes":12288,"packages":[]}}"#
        );
        fs::write(dir.join("n.layer.json"), layer).unwrap();
    }

    #[test]
    fn the_verifiers_file_holds_the_same_registers_and_grows_by_rows() {
        let dir = tempfile::tempdir().unwrap();
        write_image(dir.path(), "initramfs");
        let (firmware, file) = (dir.path().join("fw"), dir.path().join("reference.json"));
        let layers = [dir.path().join("n.layer.json")];
        for vcpus in [1, 2, 2] {
            let shape = Shape { memory_mib: 1024, vcpus };
            write_reference_values(dir.path(), &firmware, shape, &layers, &file).unwrap();
        }
        let values = ReferenceValues::parse(&fs::read(&file).unwrap()).unwrap();
        assert_eq!((values.registers.len(), values.layers.len()), (2, 1));
        for row in &values.registers {
            let shape = Shape { memory_mib: 1024, vcpus: row.vcpus };
            let ours = measure(dir.path(), &firmware, shape).unwrap();
            let theirs = [row.mrtd, row.rtmr0.expect("computed"), row.rtmr1, row.rtmr2];
            assert_eq!(theirs, [ours.mrtd, ours.rtmr0, ours.rtmr1, ours.rtmr2]);
        }
        write_image(dir.path(), "another");
        let shape = Shape { memory_mib: 1024, vcpus: 4 };
        assert!(write_reference_values(dir.path(), &firmware, shape, &[], &file).is_err());
    }
}
