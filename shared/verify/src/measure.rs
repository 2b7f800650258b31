//! `sealtune-verify measure`: reference values of an image for the firmware and shapes that it is started with, in the
//! simulated TEE's layout or, by a recipe, as TDX measures.

use std::path::Path;

use sealtune_evidence::{
    FileDigests, Hex32, HexBytes, ImageReference, Layer, ReferenceValues, Shape,
    launch::HashAlgorithm,
    layout1::file_digest,
    measure::{MachineShape, Recipe, SHIPPED, TdxImage, measure_tdx, recipe::MAX_RECIPE_BYTES},
    reference::{MAX_REFERENCE_BYTES, ReferenceError, RegisterRow, Rtmr0Layout},
};
use serde::Deserialize;

use crate::{Report, cli::MeasureCommand, failure::Failure, input};

const IMAGE_FILE: &str = "reference-values.json";
const METADATA_FILE: &str = "metadata.json";
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Kernel, initramfs or firmware.
const MAX_BOOT_FILE_BYTES: usize = 256 << 20;
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
    let image =
        ImageReference::parse(&input::read(&path, MAX_REFERENCE_BYTES)?).map_err(refused(&path))?;
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

/// The part of `metadata.json` that says which files are measured; foreign images have more.
#[derive(Deserialize)]
struct Metadata {
    kernel: String,
    initrd: String,
}

fn by_recipe(
    command: &MeasureCommand,
    recipe: &Path,
    image: &ImageReference,
    layers: Vec<Layer>,
) -> Result<ReferenceValues, Failure> {
    let directory = &command.image;
    let unfit = |reason: String| Failure::Image { path: directory.clone(), reason };
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
    let known = read_recipe(recipe)?;
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
            let measured = measure_tdx(&files, machine, &known).map_err(|source| {
                Failure::Measure { path: path.clone(), source: Box::new(source) }
            })?;
            let digest = file_digest(&firmware);
            registers.push(RegisterRow::recorded(digest, shape, &measured.registers));
            let layout = Rtmr0Layout::of(digest, shape.vcpus, &measured.events);
            rtmr0.extend(layout.filter(|layout| !rtmr0.contains(layout)));
        }
    }
    ReferenceValues::from_rows(image.facts(layers), registers, rtmr0)
        .map_err(refused(&command.image))
}

/// A shipped recipe by its name, or a file.
fn read_recipe(recipe: &Path) -> Result<Recipe, Failure> {
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

fn refused(path: &Path) -> impl FnOnce(ReferenceError) -> Failure {
    Failure::of(path, |path, source| Failure::Reference { path, source })
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
