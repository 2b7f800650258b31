//! Loads the modules that the image lists: one path a line, dependencies first. The kernel unpacks
//! compressed ones itself. A module is removed from the root once it is in, to give memory back.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use super::InitError;
use super::console;
use super::profile::Profile;
use super::root::OldRoot;
use crate::device::ALL_LOADED;

const LIST: &str = "/lib/modules/sealtune.load";
const MAX_LIST_BYTES: u64 = 64 * 1024;
const MAX_MODULES: usize = 256;
/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h.
const COMPRESSED_FILE: i32 = 4;

/// Without these the agent cannot be reached or cannot open a layer. The rest is hardware that may
/// be absent.
const NEEDED: &[&str] = &[
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "virtio_blk",
    "dm_mod",
    "dm_verity",
    "erofs",
];

/// What the agent needs before it can be reached and can check its launch: the way to the host, its disks, its TEE.
/// Their dependencies stand in the same list. The rest is loaded while the agent serves already.
const FIRST: &[&str] = &[
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "virtio_blk",
    "configfs",
    "tsm_report",
    "tdx_guest",
    "sev_guest",
];

/// Which part of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    First,
    Rest,
}

/// The modules, and their list, are still in the initramfs.
pub(super) fn load_listed(profile: Profile, part: Part, root: &OldRoot) -> Result<(), InitError> {
    for path in read_list(&root.path(Path::new(LIST)), Path::new(LIST))? {
        let path = root.path(&path);
        let name = module_name(&path);
        if FIRST.contains(&name.as_str()) != (part == Part::First) {
            continue;
        }
        match load(&path) {
            Ok(()) => {
                // Only memory is at stake.
                let _ = fs::remove_file(&path);
            }
            Err(cause) if NEEDED.contains(&name.as_str()) => {
                return Err(InitError::Module { name, cause });
            }
            Err(cause) if profile == Profile::Dev => {
                console::line(&format!("module {name} not loaded: {cause}"));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Says that all modules are in: from here on layers can be opened and `modules_disabled` may be set.
pub(super) fn announce_all() -> Result<(), InitError> {
    let failed = |error: std::io::Error| InitError::Module {
        name: "marker".into(),
        cause: error.to_string(),
    };
    let marker = Path::new(ALL_LOADED);
    fs::create_dir_all(marker.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    fs::write(marker, "").map_err(failed)
}

/// A missing list is an empty one: such a kernel has everything built in.
/// Relative paths are beside the list, where it stands in the image.
fn read_list(list: &Path, in_image: &Path) -> Result<Vec<PathBuf>, InitError> {
    let failed = |cause: String| InitError::Module { name: "list".into(), cause };
    let mut text = String::new();
    match File::open(list) {
        Ok(file) => file
            .take(MAX_LIST_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| failed(error.to_string()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let folder = in_image.parent().unwrap_or(Path::new("/"));
    let paths: Vec<PathBuf> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|l| folder.join(l))
        .collect();
    if paths.len() > MAX_MODULES {
        return Err(failed("too long".into()));
    }
    Ok(paths)
}

fn load(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let is_plain = path.extension() == Some(OsStr::new("ko"));
    match finit_module(&file, c"", if is_plain { 0 } else { COMPRESSED_FILE }) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.to_string()),
    }
}

/// The kernel's name of a module: its file name up to the first dot, with underscores.
fn module_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(module_name(Path::new("/lib/modules/x/dm-verity.ko.xz")), "dm_verity");
        assert_eq!(module_name(Path::new("vsock.ko")), "vsock");
    }

    #[test]
    fn lists_are_absolute_or_beside_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("sealtune.load");
        assert!(read_list(&list, &list).unwrap().is_empty());
        fs::write(&list, "/lib/modules/a.ko.xz\n\n b.ko \n").unwrap();
        let paths = read_list(&list, &list).unwrap();
        assert_eq!(paths, [PathBuf::from("/lib/modules/a.ko.xz"), folder.path().join("b.ko")]);
        fs::write(&list, "x.ko\n".repeat(MAX_MODULES + 1)).unwrap();
        assert_eq!(read_list(&list, &list).unwrap_err().code(), "ST-AGENT-06");
    }
}
