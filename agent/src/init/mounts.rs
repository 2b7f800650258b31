//! The file systems of the guest, each with a bound where it can grow.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::InitError;
use crate::device::dm::errno_of;

/// Sockets, container state, mount points of layers.
const RUN_OPTIONS: &str = "mode=0755,size=64m";
/// Work folders of jobs, in memory and so protected by the TEE itself.
const SCRATCH_OPTIONS: &str = "mode=0755,size=80%";

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// What is needed before the modules are in; /proc, /sys and /dev came with the new root.
pub(super) fn mount_early() -> Result<(), InitError> {
    let no_setuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at("tmpfs", "/run", no_setuid, Some(RUN_OPTIONS))?;
    // Programs of a work folder may run, inside the container.
    mount_at("tmpfs", "/scratch", no_setuid, Some(SCRATCH_OPTIONS))?;
    mount_at("cgroup2", "/sys/fs/cgroup", QUIET, Some("nsdelegate"))
}

/// What modules bring; each is used where it is there.
pub(super) fn mount_late() -> Result<(), InitError> {
    for (kind, target) in
        [("configfs", "/sys/kernel/config"), ("securityfs", "/sys/kernel/security")]
    {
        if Path::new(target).is_dir() {
            mount_at(kind, target, QUIET, None)?;
        }
    }
    Ok(())
}

/// One of the kernel's own file systems. devtmpfs alone holds device nodes.
pub(super) fn mount_kernel(
    kind: &'static str,
    target: &'static str,
    options: Option<&str>,
) -> Result<(), InitError> {
    let flags = match kind {
        "devtmpfs" => MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        _ => QUIET,
    };
    mount_at(kind, target, flags, options)
}

fn mount_at(
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), InitError> {
    let failed = |errno| InitError::Mount { target, errno };
    match std::fs::create_dir(target) {
        Err(error) if errno_of(&error) != Errno::EEXIST => return Err(failed(errno_of(&error))),
        _ => {}
    }
    match mount(Some(kind), target, Some(kind), flags, options) {
        // Already there.
        Err(Errno::EBUSY) => Ok(()),
        other => other.map_err(failed),
    }
}
