//! Leaves the initramfs for a size-limited tmpfs: containers pivot their root, and some kernels
//! refuse that on the initramfs.
//!
//! What is small moves at once. The agent stays where it is: processes start it by `/proc/self/exe`.
//! Modules are loaded and removed there too, and a dev image's tools follow once the VM answers:
//! copying ten megabytes before would cost an emulated boot a fifth of a second.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::InitError;
use crate::device::dm::errno_of;

const NEW_ROOT: &str = "/.new-root";
/// What does not move at once: loaded from there, or of no use to what answers first.
const LATER: [&str; 3] = ["/init", "/lib", "/dev-tools"];
/// Small files and a dev image's tools; jobs live on /scratch.
const ROOT_OPTIONS: &str = "mode=0755,size=512m,nr_inodes=64k";
const MAX_DEPTH: usize = 64;

/// The initramfs, which no path leads to any more.
#[derive(Debug)]
pub(super) struct OldRoot(OwnedFd);

impl OldRoot {
    /// A path of the initramfs as it can still be opened.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(inside)
    }

    /// What was left behind and may be of use to people; nothing depends on it.
    pub(super) fn move_tools(&self) {
        let (from, to) = (self.path(Path::new("/dev-tools")), Path::new("/dev-tools"));
        if from.is_dir() && fs::create_dir_all(to).is_ok() {
            let _ = move_tree(&from, to, 0);
        }
    }
}

/// Moves to the tmpfs and makes it the root.
pub(super) fn leave_initramfs() -> Result<OldRoot, InitError> {
    let new_root = Path::new(NEW_ROOT);
    let old = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open("/")
        .map_err(|error| failed(Path::new("/"), errno_of(&error)))?;
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
    Ok(OldRoot(old.into()))
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
        if source == Path::new(NEW_ROOT) || LATER.iter().any(|path| source == Path::new(path)) {
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

    #[test]
    fn the_old_root_is_reached_by_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/list"), b"x").unwrap();
        let old = OldRoot(File::open(folder.path()).unwrap().into());
        assert_eq!(fs::read(old.path(Path::new("/lib/list"))).unwrap(), b"x");
        fs::remove_file(old.path(Path::new("lib/list"))).unwrap();
        assert!(!folder.path().join("lib/list").exists());
    }
}
