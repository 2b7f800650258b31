//! The first process of the guest. Single-threaded; parses nothing but its own lists.
//!
//! ```text
//! initramfs --move root--> tmpfs -> mounts -> profile -> first modules -> serve -> power-off
//!                                                                      '-> rest of them
//! ```
//!
//! The only way out is the power-off: serve's orderly end, its death, a signal, an error and a
//! panic all lead there. In `prod` the console gets nothing but one stable code.

#[cfg(test)]
mod codes;
mod console;
mod modules;
mod mounts;
mod profile;
mod reaper;
mod root;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, sync};

use self::modules::Part;
use self::profile::Profile;
use self::reaper::ServeEnd;
use self::root::OldRoot;

const PROGRAM_SEARCH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Codes 01 to 09 of the area AGENT.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("start as init: not process 1")]
    NotFirst,
    #[error("read the image's profile: {0}")]
    ProfileUnreadable(String),
    #[error("start a {image} image with a kernel command line of another profile")]
    ProfileMismatch { image: &'static str },
    #[error("mount {target}: {errno}")]
    Mount { target: &'static str, errno: Errno },
    #[error("move the root out of the initramfs at {path}: {errno}")]
    MoveRoot { path: PathBuf, errno: Errno },
    #[error("load the required module {name}: {cause}")]
    Module { name: String, cause: String },
    #[error("start serve: {0}")]
    ServeStart(String),
    #[error("keep serve running: it {0}")]
    ServeDied(ServeEnd),
    #[error("wait for child processes: {0}")]
    Reap(Errno),
}

impl InitError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotFirst => "ST-AGENT-01",
            Self::ProfileUnreadable(_) => "ST-AGENT-02",
            Self::ProfileMismatch { .. } => "ST-AGENT-03",
            Self::Mount { .. } => "ST-AGENT-04",
            Self::MoveRoot { .. } => "ST-AGENT-05",
            Self::Module { .. } => "ST-AGENT-06",
            Self::ServeStart(_) => "ST-AGENT-07",
            Self::ServeDied(_) => "ST-AGENT-08",
            Self::Reap(_) => "ST-AGENT-09",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NotFirst => "init is started by the kernel; run `serve` by hand instead",
            Self::ProfileUnreadable(_) => "rebuild the image: /etc/sealtune/profile is prod or dev",
            Self::ProfileMismatch { .. } => "boot each image with the command line of its release",
            Self::Mount { .. } => "use the kernel of the image's lock",
            Self::MoveRoot { .. } => "give the VM more memory",
            Self::Module { .. } => "rebuild the image: its module list does not fit its kernel",
            Self::ServeStart(_) => "rebuild the image: the agent must be its /init",
            Self::ServeDied(_) => "read the codes before this one; in dev the console has more",
            Self::Reap(_) => "report this as a bug",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        vec![
            Self::NotFirst,
            Self::ProfileUnreadable("x".into()),
            Self::ProfileMismatch { image: "dev" },
            Self::Mount { target: "/x", errno: Errno::EINVAL },
            Self::MoveRoot { path: "/x".into(), errno: Errno::ENOSPC },
            Self::Module { name: "x".into(), cause: "x".into() },
            Self::ServeStart("x".into()),
            Self::ServeDied(ServeEnd::Signalled(9)),
            Self::Reap(Errno::EINVAL),
        ]
    }
}

pub(crate) fn run() -> ExitCode {
    if getpid() != Pid::from_raw(1) {
        let error = InitError::NotFirst;
        eprintln!("{} failed to {error}", error.code());
        return ExitCode::from(2);
    }
    console::power_off_on_panic();
    // Until the profile is known, say no more than prod may.
    let mut profile = Profile::Prod;
    let ended = root::leave_initramfs().and_then(|old| start(&mut profile, old));
    if let Err(error) = ended {
        console::report(profile, &error);
    }
    power_off()
}

fn start(profile: &mut Profile, initramfs: OldRoot) -> Result<(), InitError> {
    console::attach();
    mounts::mount_early()?;
    *profile = profile::check()?;
    modules::load_listed(*profile, Part::First, &initramfs)?;
    mounts::mount_late()?;
    set_hostname();
    if *profile == Profile::Prod {
        console::silence_kernel();
    }
    // Nothing in the guest needs it before serve, and a kernel without IPv4 can still serve.
    let _ = crate::device::netif::bring_up_loopback();
    let serve = spawn_serve(*profile)?;
    // A module that is missing ends the VM, serve with it.
    modules::load_listed(*profile, Part::Rest, &initramfs)?;
    modules::announce_all()?;
    initramfs.move_tools();
    drop(initramfs);
    match reaper::run_until_end(serve)? {
        ServeEnd::Exited(0) | ServeEnd::AskedToStop => Ok(()),
        end => Err(InitError::ServeDied(end)),
    }
}

fn set_hostname() {
    // A name for people reading a dev console; nothing depends on it.
    let _ = std::fs::write("/proc/sys/kernel/hostname", "sealtune");
}

fn spawn_serve(profile: Profile) -> Result<Pid, InitError> {
    let output = || match profile {
        Profile::Dev => Stdio::inherit(),
        Profile::Prod => Stdio::null(),
    };
    let child = Command::new("/proc/self/exe")
        .arg("serve")
        .env_clear()
        .env("PATH", PROGRAM_SEARCH)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn()
        .map_err(|error| InitError::ServeStart(error.to_string()))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Does not come back, except where the kernel refuses to power off.
fn power_off() -> ExitCode {
    // Everything but this process; there may be nothing left.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}
