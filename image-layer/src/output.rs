//! Output that is whole or not there: written beside its place, then renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::ImageError;

/// A directory in the making; dropped without [`StagedDir::commit`] it vanishes.
#[derive(Debug)]
pub struct StagedDir {
    staging: tempfile::TempDir,
    target: PathBuf,
}

impl StagedDir {
    /// Refuses to replace anything but an empty directory or one that holds `marker`.
    ///
    /// # Errors
    /// The target is something else, or its parent cannot be written.
    pub fn beside(target: &Path, marker: &str) -> Result<Self, ImageError> {
        let in_use = |detail: &str| ImageError::OutputInUse {
            path: target.to_path_buf(),
            detail: detail.to_owned(),
        };
        if target.symlink_metadata().is_ok() {
            let mut entries = fs::read_dir(target).map_err(|_| in_use("it is not a directory"))?;
            if entries.next().is_some() && !target.join(marker).is_file() {
                return Err(in_use("it holds other files"));
            }
        }
        let parent = parent_of(target);
        fs::create_dir_all(&parent).map_err(ImageError::io("make", &parent))?;
        let staging = tempfile::Builder::new()
            .prefix(".sealtune-image-")
            .tempdir_in(&parent)
            .map_err(ImageError::io("write in", &parent))?;
        Ok(Self { staging, target: target.to_path_buf() })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// # Errors
    /// The rename failed; the old directory is then untouched.
    pub fn commit(self) -> Result<(), ImageError> {
        use std::os::unix::fs::PermissionsExt;
        let staged = self.staging.path();
        fs::set_permissions(staged, fs::Permissions::from_mode(0o755))
            .map_err(ImageError::io("open up", staged))?;
        if self.target.exists() {
            // One step: whoever looks sees the old directory or the new one.
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                staged,
                rustix::fs::CWD,
                &self.target,
                rustix::fs::RenameFlags::EXCHANGE,
            )
            .map_err(|error| ImageError::io("replace", &self.target)(error.into()))?;
            // What is in the staging place now is the old directory; dropping removes it.
            return Ok(());
        }
        fs::rename(staged, &self.target).map_err(ImageError::io("make", &self.target))?;
        let _moved = self.staging.keep();
        Ok(())
    }
}

/// # Errors
/// The file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let parent = parent_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".sealtune-image-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(&parent)
        .map_err(ImageError::io("write in", &parent))?;
    file.write_all(bytes).map_err(ImageError::io("write", path))?;
    file.persist(path).map_err(|error| ImageError::io("write", path)(error.error))?;
    Ok(())
}

pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_appears_whole_and_is_replaced_only_when_it_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("image");
        for round in ["one", "two"] {
            let staged = StagedDir::beside(&target, "metadata.json").unwrap();
            fs::write(staged.path().join("metadata.json"), round).unwrap();
            staged.commit().unwrap();
            assert_eq!(fs::read_to_string(target.join("metadata.json")).unwrap(), round);
        }
        drop(StagedDir::beside(&target, "metadata.json").unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "staging directories are removed");

        let foreign = dir.path().join("home");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "x").unwrap();
        assert_eq!(StagedDir::beside(&foreign, "metadata.json").unwrap_err().code(), "ST-IMAGE-11");
    }

    #[test]
    fn files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomically(&path, b"1").unwrap();
        write_atomically(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }
}
