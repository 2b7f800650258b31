//! Gives the work folder to the container's user. What serve put there belongs to the agent until
//! then; links are changed themselves and never followed.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::protocol::ContainerRequest;

const MAX_DEPTH: usize = 64;

pub(super) fn hand_over(request: &ContainerRequest) -> Result<(), String> {
    let folder = &request.work_dir;
    let status = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if !status.is_dir() {
        return Err("the work folder is not a folder".into());
    }
    give(folder, request.uid_base, status.dev(), 0)
}

fn give(path: &Path, owner: u32, device: u64, depth: usize) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if depth > MAX_DEPTH {
        return Err("the work folder is too deep".into());
    }
    let status = fs::symlink_metadata(path).map_err(named)?;
    // What is mounted below is somebody else's, and read-only.
    if status.dev() != device {
        return Ok(());
    }
    lchown(path, Some(owner), Some(owner)).map_err(named)?;
    if status.is_dir() {
        for entry in fs::read_dir(path).map_err(named)? {
            give(&entry.map_err(named)?.path(), owner, device, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::protocol::tests::request;

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("work");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        let request = ContainerRequest { work_dir: link, ..request() };
        assert!(hand_over(&request).is_err());
    }
}
