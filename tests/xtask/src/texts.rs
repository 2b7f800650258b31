//! The demo's two texts and the model that has learned the first of them. None of it is committed here: the texts come
//! from Debian packages, and the model is made from them once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome, Trouble,
    artefacts::{fingerprint, once},
    process::{self, step},
    setup,
    workspace::{Workspace, make_directory, remove_directory},
};

const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["bible-kjv-text", "debian-policy"];

#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) dataset: PathBuf,
    pub(crate) base_model: PathBuf,
    pub(crate) model_zip: PathBuf,
    /// Has numpy.
    pub(crate) python: PathBuf,
}

pub(crate) fn prepare(workspace: &Workspace) -> Outcome<Texts> {
    let scripts = workspace.root.join("tests/demo");
    let folder = workspace.made("texts");
    make_directory(&folder)?;
    let debs = step("texts from Debian packages", || fetch(workspace, &folder.join("debs")))?;
    let texts = folder.join("texts");
    let script = |name: &str| scripts.join(name);
    let mut made_from = debs.clone();
    made_from.push(script("prepare.py"));
    let (pretrain, dataset) = (texts.join("pretrain.txt"), texts.join("dataset.jsonl"));
    once(&folder.join("texts.stamp"), &dataset, &fingerprint(&made_from, &[])?, || {
        let mut python = Command::new("python3");
        python.arg(script("prepare.py"));
        for (deb, (name, option)) in debs.iter().zip(PACKAGES.iter().zip(["--bible", "--policy"])) {
            let unpacked = folder.join(name);
            remove_directory(&unpacked)?;
            make_directory(&unpacked)?;
            process::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
            python.arg(option).arg(unpacked);
        }
        process::run(python.arg("--out").arg(&texts))
    })?;
    let python = step("a Python with numpy", || setup::python_with_numpy(workspace))?;
    let (base_model, model_zip) = (folder.join("base-model"), folder.join("base-model.zip"));
    let made_from = ["pretrain.py", "model.py", "tokenizer.py", "pack.py"].map(script);
    let mut made_from = made_from.to_vec();
    made_from.push(pretrain.clone());
    step("base model, pre-trained on the first text (a minute, once)", || {
        once(&folder.join("model.stamp"), &model_zip, &fingerprint(&made_from, &[])?, || {
            remove_directory(&base_model)?;
            let mut train = quiet_python(&python);
            train.arg(script("pretrain.py")).arg("--text").arg(&pretrain);
            process::run(train.arg("--out").arg(&base_model))?;
            let mut pack = quiet_python(&python);
            pack.arg(script("pack.py")).arg("--model").arg(&base_model);
            process::run(pack.arg("--out").arg(&model_zip))
        })
    })?;
    Ok(Texts { dataset, base_model, model_zip, python })
}

/// Leaves nothing beside the scripts.
pub(crate) fn quiet_python(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Through the private apt root that `sealtune-image` has made for its own packages: signatures are checked, and the
/// machine's own packages are neither read nor changed.
fn fetch(workspace: &Workspace, into: &Path) -> Outcome<Vec<PathBuf>> {
    make_directory(into)?;
    if let Some(debs) = downloaded(into) {
        return Ok(debs);
    }
    let root = workspace.package_cache().join(format!("apt-{SUITE}"));
    let configuration = std::path::absolute(root.join("apt.conf"))
        .map_err(|error| Trouble::failed(format!("find {}: {error}", root.display())))?;
    if !configuration.is_file() {
        return Err(Trouble::failed(format!("find {}", configuration.display())));
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.arg("-q").args(arguments).env("APT_CONFIG", &configuration).current_dir(into);
        process::run(&mut apt)
    };
    let download = ["download", PACKAGES[0], PACKAGES[1]];
    // The lists that the cache holds may name packages that the mirror has replaced.
    if apt(&download).is_err() {
        apt(&["update"])?;
        apt(&download)?;
    }
    downloaded(into).ok_or_else(|| Trouble::failed(format!("find packages in {}", into.display())))
}

/// The packages in the order of [`PACKAGES`], if all are there.
fn downloaded(folder: &Path) -> Option<Vec<PathBuf>> {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let find = |package: &&str| {
        let begins = format!("{package}_");
        let is_it = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&begins) && name.ends_with(".deb")
        };
        files.iter().find(is_it).cloned()
    };
    PACKAGES.iter().map(find).collect()
}
