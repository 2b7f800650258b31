//! `sealtune-verify measure`: reference values of an image for the firmware and shapes that it is started with, in the
//! simulated TEE's layout or, by a recipe, as TDX measures.

use std::path::Path;

use sealtune_evidence::{
    Hex32, HexBytes, ImageReference, Layer, ReferenceValues, Shape,
    launch::HashAlgorithm,
    layout1::file_digest,
    measure::{MachineShape, TdxImage, expected_events},
    reference::{RegisterRow, Rtmr0Layout},
};
use serde::Deserialize;

use crate::{
    Report,
    cli::MeasureCommand,
    failure::Failure,
    image::{self, Boot, MAX_BOOT_FILE_BYTES, refused},
    input,
};

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
    let (path, image) = image::reference(&command.image)?;
    let mut layers = Vec::new();
    for path in &command.layer {
        layers.push(layer(path)?);
    }
    let values = match &command.recipe {
        None => simulated(command, &image, layers, &path)?,
        Some(recipe) => by_recipe(command, recipe, &image, layers)?,
    };
    let mut stdout = serde_json::to_string_pretty(&values).map_err(Failure::Write)?;
    stdout.push('\n');
    Ok(Report { stdout, accepted: true })
}

fn shapes(command: &MeasureCommand) -> impl Iterator<Item = Shape> {
    command.vcpus.iter().flat_map(|vcpus| {
        command.memory_mib.iter().map(|memory_mib| Shape { vcpus: *vcpus, memory_mib: *memory_mib })
    })
}

fn simulated(
    command: &MeasureCommand,
    image: &ImageReference,
    layers: Vec<Layer>,
    path: &Path,
) -> Result<ReferenceValues, Failure> {
    let firmware: Vec<_> =
        command.firmware.iter().map(|path| input::sha384(path)).collect::<Result<_, _>>()?;
    let shapes: Vec<_> = shapes(command).collect();
    ReferenceValues::from_image(image.facts(layers), &firmware, &shapes).map_err(refused(path))
}

fn by_recipe(
    command: &MeasureCommand,
    recipe: &Path,
    image: &ImageReference,
    layers: Vec<Layer>,
) -> Result<ReferenceValues, Failure> {
    let Boot { kernel, initrd } = Boot::read(&command.image, image)?;
    let known = image::recipe(recipe)?;
    let disks = u32::try_from(layers.len()).unwrap_or(u32::MAX);
    let mut registers = Vec::new();
    let mut rtmr0: Vec<Rtmr0Layout> = Vec::new();
    for path in &command.firmware {
        let firmware = input::read(path, MAX_BOOT_FILE_BYTES)?;
        for shape in shapes(command) {
            let files = TdxImage {
                firmware: &firmware,
                kernel: &kernel,
                initrd: &initrd,
                cmdline: &image.cmdline,
            };
            let machine = MachineShape {
                vcpus: shape.vcpus,
                memory_mib: shape.memory_mib,
                disks,
                gpus: command.gpus,
            };
            let refused = |source| image::unmeasured(source, path, &command.image, path);
            let events = expected_events(&files, machine, &known).map_err(refused)?;
            let digest = file_digest(&firmware);
            let row =
                RegisterRow::by_events(digest, shape, known.mrtd, &events).map_err(refused)?;
            let layout = Rtmr0Layout::of(digest, shape.vcpus, &events).map_err(refused)?;
            registers.push(row);
            if !rtmr0.contains(&layout) {
                rtmr0.push(layout);
            }
        }
    }
    ReferenceValues::from_rows(image.facts(layers), registers, rtmr0)
        .map_err(refused(&command.image))
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
