//! `mkfs.erofs`, always the suite's own, from the package cache, started by its own dynamic loader:
//! images of two versions differ, so the host's must not be used, and nothing must be installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::apt::Suite;
use crate::digest::sha256_hex;
use crate::error::ImageError;
use crate::packages::{PackageCache, last_lines};

/// The file-system UUID of every layer: identity is the verity root, not this.
const LAYER_UUID: &str = "5ea17000-0000-4000-8000-000000000001";

/// How file contents are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Lz4hc,
}

/// An unpacked root whose programs run in place.
#[derive(Debug, Clone)]
pub struct ForeignRoot(PathBuf);

impl ForeignRoot {
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The loader with its own libraries, then the program: no chroot, no privilege.
    #[must_use]
    pub fn arguments(&self, program: &str, rest: Vec<OsString>) -> (PathBuf, Vec<OsString>) {
        let mut arguments: Vec<OsString> = vec![
            "--inhibit-cache".into(),
            "--library-path".into(),
            self.0.join("usr/lib/x86_64-linux-gnu").into(),
            self.0.join(program).into(),
        ];
        arguments.extend(rest);
        (self.0.join("usr/lib64/ld-linux-x86-64.so.2"), arguments)
    }

    /// A command with an empty environment, so that the caller's cannot change what comes out.
    #[must_use]
    pub fn command(&self, program: &str, rest: Vec<OsString>) -> Command {
        let (loader, arguments) = self.arguments(program, rest);
        let mut command = Command::new(loader);
        command.args(arguments).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// Fetches and unpacks `erofs-utils` once per version.
///
/// # Errors
/// See [`PackageCache::fetch`].
pub fn tool(cache: &PackageCache, suite: &Suite) -> Result<ForeignRoot, ImageError> {
    let packages = cache.fetch(suite, &["erofs-utils".to_owned()], |_, _| true)?;
    let names: String = packages.iter().map(|package| format!("{}\n", package.sha256)).collect();
    let root = cache.dir().join(format!("erofs-utils-{}", &sha256_hex(names.as_bytes())[..24]));
    if !root.is_dir() {
        let staging = cache.work_dir()?;
        cache.unpack(&packages, staging.path())?;
        fs::rename(staging.path(), &root).map_err(ImageError::io("make", &root))?;
        let _moved = staging.keep();
    }
    Ok(ForeignRoot::new(root))
}

/// Same tree, same bytes: fixed time, UUID and owner, no extended attributes.
#[must_use]
pub fn arguments(compression: Compression, image: &Path, tree: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["--quiet", "-b4096", "-T", "0", "-U", LAYER_UUID, "--all-root", "-x-1"]
            .map(OsString::from)
            .to_vec();
    if compression == Compression::Lz4hc {
        arguments.extend(["-zlz4hc,6", "-C65536"].map(OsString::from));
    }
    arguments.extend([image.into(), tree.into()]);
    arguments
}

/// # Errors
/// The tool does not start or refuses.
pub fn make(
    tool: &ForeignRoot,
    compression: Compression,
    image: &Path,
    tree: &Path,
) -> Result<(), ImageError> {
    let output = tool
        .command("usr/bin/mkfs.erofs", arguments(compression, image, tree))
        .output()
        .map_err(|source| ImageError::Erofs { detail: source.to_string() })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(ImageError::Erofs { detail: last_lines(&output.stderr) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_fix_everything_that_could_vary() {
        let text = |compression| {
            let arguments = arguments(compression, Path::new("/o.erofs"), Path::new("/tree"));
            arguments
                .iter()
                .map(|argument| argument.to_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let plain = "--quiet -b4096 -T 0 -U 5ea17000-0000-4000-8000-000000000001 --all-root -x-1";
        assert_eq!(text(Compression::None), format!("{plain} /o.erofs /tree"));
        assert_eq!(text(Compression::Lz4hc), format!("{plain} -zlz4hc,6 -C65536 /o.erofs /tree"));
    }

    #[test]
    fn a_foreign_program_runs_through_its_own_loader() {
        let (loader, arguments) =
            ForeignRoot::new("/r".into()).arguments("usr/bin/x", vec!["-a".into()]);
        assert_eq!(loader, Path::new("/r/usr/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(
            arguments,
            [
                "--inhibit-cache",
                "--library-path",
                "/r/usr/lib/x86_64-linux-gnu",
                "/r/usr/bin/x",
                "-a"
            ]
        );
    }
}
