//! What the helper program may do. It runs NVIDIA's library over a driver that talks to a device of the host's: whatever
//! takes it over there finds no key, no other process of its user, and nothing to start or to connect to.

#![expect(unsafe_code, reason = "limits and filters are set between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use crate::seccomp::Filters;

/// No container's and no file's user.
const USER: u32 = 65_501;
const OPEN_FILES: u64 = 64;
/// The driver maps device memory; the program itself needs little.
const MEMORY_BYTES: u64 = 4 << 30;
const THREADS: u64 = 16;
const CPU_SECONDS: u64 = 120;
const LIMITS: [(Resource, u64); 6] = [
    (Resource::RLIMIT_CORE, 0),
    (Resource::RLIMIT_FSIZE, 0),
    (Resource::RLIMIT_NOFILE, OPEN_FILES),
    (Resource::RLIMIT_NPROC, THREADS),
    (Resource::RLIMIT_CPU, CPU_SECONDS),
    (Resource::RLIMIT_AS, MEMORY_BYTES),
];
const CAP_SYS_ADMIN: libc::c_ulong = 21;
/// More than any kernel has.
const CAPABILITIES: libc::c_ulong = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    /// A user of its own, which is enough to ask the driver.
    None,
    /// The same user with CAP_SYS_ADMIN, which the driver wants to see before it sets GPUs ready or gives a switch's evidence.
    /// (A node of `/dev/nvidia-caps` would do for switches, as it does for Fabric Manager; whether NSCQ asks for it is not
    /// known, so none is made.) Not root, who needs no capability to open what is root's: the TEE's device and its
    /// folder of quotes, disks, the RTMRs.
    Admin,
}

/// `command` runs so confined, or not at all.
pub(super) fn confine(command: &mut Command, filters: &Filters, privilege: Privilege) {
    // Whoever is not root (a developer's tests) can neither become another user nor give up capabilities.
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && privilege == Privilege::None {
        // Groups go too: the standard library clears them when root becomes somebody else.
        command.uid(USER).gid(USER);
    }
    let keeps_admin = is_root && privilege == Privilege::Admin;
    let filters = filters.clone();
    let last_steps = move || {
        for (resource, most) in LIMITS {
            setrlimit(resource, most, most)?;
        }
        if keeps_admin {
            drop_capabilities_but(CAP_SYS_ADMIN)?;
            become_user_with(CAP_SYS_ADMIN)?;
        }
        filters.install_in_child()
    };
    // SAFETY: between fork and exec the closure makes system calls only (setrlimit, prctl, seccomp), all
    // async-signal-safe, over memory that it owns; it neither allocates nor locks, nor do its errors.
    unsafe { command.pre_exec(last_steps) };
}

/// An ambient capability is what a program without any of its own keeps.
fn become_user_with(kept: libc::c_ulong) -> io::Result<()> {
    // <linux/capability.h>, version 3: effective, permitted and inheritable, of 32 capabilities each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let own: [[u32; 3]; 2] = [[1 << kept; 3], [0; 3]];
    let done = |result: libc::c_long| match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: system calls with numbers, and with two arrays that live on and have the kernel's layout. Not libc's setuid,
    // which looks for other threads.
    unsafe {
        done(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        done(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        done(libc::syscall(libc::SYS_setresgid, USER, USER, USER))?;
        done(libc::syscall(libc::SYS_setresuid, USER, USER, USER))?;
        done(libc::syscall(libc::SYS_capset, header.as_ptr(), own.as_ptr()))?;
        done(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, kept, 0, 0).into())
    }
}

/// For what is started next: nobody gets what the bounding set lacks.
fn drop_capabilities_but(kept: libc::c_ulong) -> io::Result<()> {
    for capability in (0..CAPABILITIES).filter(|capability| *capability != kept) {
        // SAFETY: PR_CAPBSET_DROP takes one integer.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // The kernel does not have this many.
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
    }
    Ok(())
}
