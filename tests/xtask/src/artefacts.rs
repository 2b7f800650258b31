//! Images, layers and reference values, made again only when what they are made of has changed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    Outcome, Trouble,
    process::{self, step},
    programs::{self, Profile, Programs},
    setup::{self, VmTools},
    workspace::{Workspace, make_directory, read_json, remove_directory, write},
};

/// Lower-case hex of SHA-256, by coreutils: xtask needs no crate for it.
pub(crate) fn sha256(bytes: &[u8]) -> Outcome<String> {
    let text = process::filter(&mut Command::new("sha256sum"), bytes)?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

pub(crate) fn sha256_file(path: &Path) -> Outcome<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Trouble::failed(format!("read {}: {error}", path.display())))?;
    sha256(&bytes)
}

/// One digest over files and words.
pub(crate) fn fingerprint(files: &[PathBuf], words: &[&str]) -> Outcome<String> {
    let mut text = words.join("\n");
    for file in files {
        text.push('\n');
        text.push_str(&sha256_file(file)?);
    }
    sha256(text.as_bytes())
}

/// Runs `make` unless it was run for the same `fingerprint` and `product` is still there.
pub(crate) fn once(
    stamp: &Path,
    product: &Path,
    fingerprint: &str,
    make: impl FnOnce() -> Outcome<()>,
) -> Outcome<()> {
    let before = std::fs::read_to_string(stamp).unwrap_or_default();
    if product.exists() && before == fingerprint {
        eprintln!("   {} is up to date", product.display());
        return Ok(());
    }
    let _ = std::fs::remove_file(stamp);
    make()?;
    write(stamp, fingerprint)
}

pub(crate) fn image(
    workspace: &Workspace,
    programs: &Programs,
    agent: &Path,
    profile: Profile,
) -> Outcome<PathBuf> {
    let out = workspace.made(&format!("image-{}", profile.name()));
    step(&format!("{} image", profile.name()), || {
        let inputs = [agent.to_owned(), programs.image.clone()];
        let stamp = workspace.made(&format!("image-{}.stamp", profile.name()));
        once(&stamp, &out, &fingerprint(&inputs, &["image"])?, || {
            build_image(workspace, programs, agent, profile, &out)
        })
    })?;
    Ok(out)
}

fn build_image(
    workspace: &Workspace,
    programs: &Programs,
    agent: &Path,
    profile: Profile,
    out: &Path,
) -> Outcome<()> {
    let mut build = Command::new(&programs.image);
    build.args(["build", "--profile", profile.name(), "--agent"]).arg(agent);
    build.arg("--out").arg(out);
    process::run(packages_from(workspace, &mut build))
}

/// The same once more, elsewhere, with an agent of another name.
pub(crate) fn image_again(
    workspace: &Workspace,
    programs: &Programs,
    agent: &Path,
    profile: Profile,
) -> Outcome<PathBuf> {
    let folder = fresh(workspace, "image-again")?;
    let (copy, out) = (folder.join("agent"), folder.join("image"));
    std::fs::copy(agent, &copy)
        .map_err(|error| Trouble::failed(format!("copy {}: {error}", agent.display())))?;
    step(&format!("{} image again", profile.name()), || {
        build_image(workspace, programs, &copy, profile, &out)
    })?;
    Ok(out)
}

/// What goes into a training layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerRecipe<'r> {
    pub(crate) name: &'r str,
    pub(crate) packages: &'r str,
    /// File here, place in the layer.
    pub(crate) files: Vec<(PathBuf, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Holds this layer and no other.
    pub(crate) directory: PathBuf,
    pub(crate) description: PathBuf,
}

/// Each layer has a directory of its own: a daemon offers all that are in one.
pub(crate) fn layer(
    workspace: &Workspace,
    programs: &Programs,
    recipe: &LayerRecipe<'_>,
) -> Outcome<Layer> {
    let directory = workspace.made(&format!("layer-{}", recipe.name));
    let description = directory.join(format!("{}.layer.json", recipe.name));
    step(&format!("layer {}", recipe.name), || {
        make_directory(&directory)?;
        let mut inputs: Vec<PathBuf> = recipe.files.iter().map(|(file, _)| file.clone()).collect();
        inputs.push(programs.image.clone());
        let mut words = vec![recipe.name, recipe.packages];
        words.extend(recipe.files.iter().map(|(_, place)| place.as_str()));
        let stamp = directory.join("stamp");
        once(&stamp, &description, &fingerprint(&inputs, &words)?, || {
            let mut build = Command::new(&programs.image);
            build.args(["layer", "--name", recipe.name, "--packages", recipe.packages]);
            for (file, place) in &recipe.files {
                build.arg("--file").arg(format!("{}:{place}", file.display()));
            }
            build.arg("--out").arg(&directory);
            process::run(packages_from(workspace, &mut build))
        })
    })?;
    Ok(Layer { directory, description })
}

/// Python without anything more: what scripts of stories need.
pub(crate) fn story_layer(workspace: &Workspace, programs: &Programs) -> Outcome<Layer> {
    let recipe = LayerRecipe { name: "training-python", packages: "python3", files: vec![] };
    layer(workspace, programs, &recipe)
}

/// Numbers of virtual CPUs and MiB of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
}

/// What a customer compares evidence with, for VMs of one shape with this firmware.
pub(crate) fn reference_values(
    programs: &Programs,
    tools: &VmTools,
    image: &Path,
    shape: Shape,
    layer: &Layer,
    file: &Path,
) -> Outcome<()> {
    // An existing file would only get a row more.
    let _ = std::fs::remove_file(file);
    let mut measure = Command::new(&programs.image);
    measure.args(["measure", "--image"]).arg(image).arg("--firmware").arg(&tools.firmware);
    measure.args(["--vcpus", &shape.vcpus.to_string()]);
    measure.args(["--memory-mib", &shape.memory_mib.to_string()]);
    measure.arg("--layer").arg(&layer.description).arg("--reference-values").arg(file);
    process::output(&mut measure).map(|_| ())
}

/// Where the system's own package tools say that Debian's packages are (package `python-apt-common`).
const MIRRORS: &str = "/usr/share/python-apt/templates/Debian.info";

/// Ubuntu's own mirror has no Debian packages: there `SEALTUNE_MIRROR` or the system's package tools name one.
fn packages_from<'c>(workspace: &Workspace, command: &'c mut Command) -> &'c mut Command {
    command.arg("--cache").arg(workspace.package_cache());
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = system.lines().any(|line| line == "ID=debian");
    let named = std::env::var("SEALTUNE_MIRROR").ok().or_else(|| {
        let listed = std::fs::read_to_string(MIRRORS).unwrap_or_default();
        let first = listed.lines().find_map(|line| line.strip_prefix("BaseURI:"))?;
        (!is_debian).then(|| first.trim().to_owned())
    });
    // Where nothing is named, the image builder says what to do.
    if let Some(mirror) = named {
        command.args(["--mirror", &mirror]);
    }
    command
}

/// Kernel and initramfs together.
pub(crate) fn image_bytes(image: &Path) -> Outcome<u64> {
    let metadata = read_json(&image.join("metadata.json"))?;
    let mut total = 0;
    for key in ["kernel", "initrd"] {
        let name = text(&metadata, key)?;
        let path = image.join(name);
        let file = std::fs::metadata(&path)
            .map_err(|error| Trouble::failed(format!("read {}: {error}", path.display())))?;
        total += file.len();
    }
    Ok(total)
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> Outcome<&'v str> {
    value[key]
        .as_str()
        .ok_or_else(|| Trouble::failed(format!("find the text {key:?} in an answer")))
}

/// `cargo xtask build`
pub(crate) fn build_all(workspace: &Workspace) -> Outcome<()> {
    setup::to_build()?;
    setup::to_run_vms(workspace)?;
    let programs = programs::build_host(workspace)?;
    let agent = programs::build_agent(workspace, Profile::Dev)?;
    let image = image(workspace, &programs, &agent, Profile::Dev)?;
    println!("programs  {}", workspace.target.join("debug").display());
    println!("agent     {}", agent.display());
    println!("image     {}", image.display());
    Ok(())
}

/// A fresh directory below the target directory.
pub(crate) fn fresh(workspace: &Workspace, name: &str) -> Outcome<PathBuf> {
    let path = workspace.made(name);
    remove_directory(&path)?;
    make_directory(&path)?;
    Ok(path)
}
