//! Where things are: asked of cargo, never guessed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{Outcome, Trouble, process};

/// Variables that `cargo run` sets for us. Passed on, they would make cargo rebuild every crate whose build script
/// looks at them.
const OF_CARGO_RUN: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Outcome<Self> {
        let near = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = near.ancestors().nth(2).unwrap_or(near).to_owned();
        let mut workspace = Self { target: root.join("target"), root };
        let metadata = workspace.metadata(&["--no-deps"])?;
        let target = metadata["target_directory"].as_str();
        let target = target.ok_or_else(|| Trouble::failed("read cargo's metadata"))?;
        workspace.target = PathBuf::from(target);
        Ok(workspace)
    }

    pub(crate) fn metadata(&self, more: &[&str]) -> Outcome<Value> {
        let mut cargo = self.cargo("metadata");
        cargo.args(["--format-version", "1"]).args(more);
        let text = process::output(&mut cargo)?;
        serde_json::from_str(&text)
            .map_err(|error| Trouble::failed(format!("read cargo's metadata: {error}")))
    }

    pub(crate) fn cargo(&self, command: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut process = Command::new(cargo);
        process.arg(command).current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if OF_CARGO_RUN.iter().any(|prefix| text.starts_with(prefix)) {
                process.env_remove(&name);
            }
        }
        process
    }

    /// A place below the target directory for what xtask makes.
    pub(crate) fn made(&self, name: &str) -> PathBuf {
        self.target.join("sealtune").join(name)
    }

    /// Debian packages, kept between runs.
    pub(crate) fn package_cache(&self) -> PathBuf {
        std::env::var_os("SEALTUNE_IMAGE_CACHE")
            .map_or_else(|| self.target.join("sealtune-cache"), PathBuf::from)
    }
}

pub(crate) fn make_directory(path: &Path) -> Outcome<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| Trouble::failed(format!("make {}: {error}", path.display())))
}

pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Outcome<()> {
    std::fs::write(path, bytes)
        .map_err(|error| Trouble::failed(format!("write {}: {error}", path.display())))
}

pub(crate) fn read_json(path: &Path) -> Outcome<Value> {
    let failed = |error: String| Trouble::failed(format!("read {}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
}

/// Removes a directory of ours with all that is in it; that it is missing is fine.
pub(crate) fn remove_directory(path: &Path) -> Outcome<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Trouble::failed(format!("remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
