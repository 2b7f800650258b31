//! Leaves the initramfs for a size-limited tmpfs: containers pivot their root, and some kernels
//! refuse that on the initramfs. Each file is removed there as soon as it is copied, so memory
//! holds everything once.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::InitError;
use crate::device::dm::errno_of;

const NEW_ROOT: &str = "/.new-root";
/// Programs, modules until they are loaded, and small files; jobs live on /scratch.
const ROOT_OPTIONS: &str = "mode=0755,size=512m,nr_inodes=64k";
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Initramfs,
    Moved,
}

/// Nothing is mounted before the move, and /proc is right after it.
pub(super) fn stage() -> Stage {
    if Path::new("/proc/self").exists() { Stage::Moved } else { Stage::Initramfs }
}

/// Moves everything to the tmpfs and makes it the root; gives the program to start there.
pub(super) fn leave_initramfs() -> Result<CString, InitError> {
    let new_root = Path::new(NEW_ROOT);
    fs::create_dir_all(new_root).map_err(|error| failed(new_root, errno_of(&error)))?;
    mount(Some("tmpfs"), new_root, Some("tmpfs"), MsFlags::MS_NODEV, Some(ROOT_OPTIONS))
        .map_err(|errno| failed(new_root, errno))?;
    move_tree(Path::new("/"), new_root, 0)?;
    chdir(new_root).map_err(|errno| failed(new_root, errno))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(|errno| failed(Path::new("/"), errno))?;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        super::mounts::mount_kernel(kind, target, None)?;
    }
    // The kernel names the program that it started.
    let program = std::env::args_os().next().unwrap_or_else(|| "/init".into());
    CString::new(program.into_vec()).map_err(|_| failed(Path::new("/init"), Errno::EINVAL))
}

/// Moves the content of `from` into `to`. Device nodes are left: devtmpfs makes its own.
pub(super) fn move_tree(from: &Path, to: &Path, depth: usize) -> Result<(), InitError> {
    if depth > MAX_DEPTH {
        return Err(failed(from, Errno::ELOOP));
    }
    let listing = fs::read_dir(from).map_err(|error| failed(from, errno_of(&error)))?;
    for entry in listing {
        let entry = entry.map_err(|error| failed(from, errno_of(&error)))?;
        let source = entry.path();
        if source == Path::new(NEW_ROOT) {
            continue;
        }
        let target = to.join(entry.file_name());
        let kind = entry.file_type().map_err(|error| failed(&source, errno_of(&error)))?;
        let moved = if kind.is_dir() {
            fs::create_dir_all(&target).and_then(|()| copy_mode(&source, &target)).map_or_else(
                |error| Err(failed(&source, errno_of(&error))),
                |()| move_tree(&source, &target, depth + 1),
            )?;
            fs::remove_dir(&source).or(Ok(()))
        } else if kind.is_symlink() {
            fs::read_link(&source)
                .and_then(|points_to| symlink(points_to, &target))
                .and_then(|()| fs::remove_file(&source))
        } else if kind.is_file() {
            fs::copy(&source, &target).and_then(|_| fs::remove_file(&source))
        } else {
            Ok(())
        };
        moved.map_err(|error| failed(&source, errno_of(&error)))?;
    }
    Ok(())
}

fn copy_mode(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::set_permissions(target, fs::metadata(source)?.permissions())
}

fn failed(path: &Path, errno: Errno) -> InitError {
    InitError::MoveRoot { path: PathBuf::from(path), errno }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn moves_files_links_and_modes_and_leaves_nothing() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("usr/bin")).unwrap();
        fs::write(from.path().join("usr/bin/agent"), b"program").unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(from.path().join("usr/bin/agent"), mode).unwrap();
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(from.path().join("usr"), mode).unwrap();
        symlink("usr/bin/agent", from.path().join("init")).unwrap();

        move_tree(from.path(), to.path(), 0).unwrap();

        assert_eq!(fs::read(to.path().join("init")).unwrap(), b"program");
        let agent = fs::metadata(to.path().join("usr/bin/agent")).unwrap();
        assert_eq!(agent.permissions().mode() & 0o777, 0o755);
        assert_eq!(
            fs::metadata(to.path().join("usr")).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::read_dir(from.path()).unwrap().count(), 0);
    }
}
