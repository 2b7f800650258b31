//! A disk of a few MiB that a story can fill.

use std::{io::Write as _, path::PathBuf, process::Command};

use crate::command::tell;

/// A tmpfs, gone at the end.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Makes the folder and mounts on it; says why it cannot: it needs root.
    pub fn mount(path: PathBuf, mib: u32) -> Result<Self, String> {
        std::fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"]).arg(&path);
        let mounted = tell(&mut mount);
        if mounted.exit == 0 { Ok(Self { path }) } else { Err(mounted.to_string()) }
    }

    /// Bytes that are still free.
    pub fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.path).expect("look at the disk");
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves no byte free, until [`SmallDisk::relieve`].
    pub fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("a ballast file");
        for size in [1 << 20, 4096, 1] {
            let block = vec![0x5a; size];
            while ballast.write_all(&block).is_ok() {}
        }
        assert_eq!(self.free(), 0);
    }

    pub fn relieve(&self) {
        std::fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may still be going.
        tell(Command::new("umount").arg("--lazy").arg(&self.path));
    }
}
