//! `sealtune-verify measure`: reference values of an image for the firmware and shapes that it is started with.

use std::path::Path;

use sealtune_evidence::{
    Hex32, HexBytes, ImageReference, Layer, ReferenceValues, Shape, launch::HashAlgorithm,
    reference::MAX_REFERENCE_BYTES,
};
use serde::Deserialize;

use crate::{Report, cli::MeasureCommand, failure::Failure, input};

const IMAGE_FILE: &str = "reference-values.json";
const MAX_LAYER_BYTES: usize = 4 * 1024 * 1024;

/// The part of a layer's description that dm-verity needs; the rest is for its readers.
#[derive(Deserialize)]
struct LayerFile {
    name: String,
    root: Hex32,
    data_blocks: u64,
    hash_offset: u64,
    hash_algorithm: HashAlgorithm,
    data_block_size: u32,
    hash_block_size: u32,
    salt: HexBytes,
}

pub(crate) fn run(command: &MeasureCommand) -> Result<Report, Failure> {
    let path =
        if command.image.is_dir() { command.image.join(IMAGE_FILE) } else { command.image.clone() };
    let refused =
        |path: &Path| Failure::of(path, |path, source| Failure::Reference { path, source });
    let image =
        ImageReference::parse(&input::read(&path, MAX_REFERENCE_BYTES)?).map_err(refused(&path))?;
    let mut layers = Vec::new();
    for path in &command.layer {
        layers.push(layer(path)?);
    }
    let mut firmware = Vec::new();
    for path in &command.firmware {
        firmware.push(input::sha384(path)?);
    }
    let mut shapes = Vec::new();
    for vcpus in &command.vcpus {
        for memory_mib in &command.memory_mib {
            shapes.push(Shape { vcpus: *vcpus, memory_mib: *memory_mib });
        }
    }
    let values = ReferenceValues::from_image(image.facts(layers), &firmware, &shapes)
        .map_err(refused(&path))?;
    let mut stdout = serde_json::to_string_pretty(&values).map_err(Failure::Write)?;
    stdout.push('\n');
    Ok(Report { stdout, accepted: true })
}

fn layer(path: &Path) -> Result<Layer, Failure> {
    let bytes = input::read(path, MAX_LAYER_BYTES)?;
    let file: LayerFile = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Layer { path: path.to_owned(), reason: error.to_string() })?;
    Ok(Layer {
        name: file.name,
        root: file.root,
        data_blocks: file.data_blocks,
        hash_offset: file.hash_offset,
        data_block_size: file.data_block_size,
        hash_block_size: file.hash_block_size,
        hash_algorithm: file.hash_algorithm,
        salt: file.salt,
    })
}
