//! The role that unpacks one archive of a customer and ends. A zip reader works on hostile bytes:
//! here it has no keys, a user of its own, one open file, and system calls for making files only.
//!
//! ```text
//! standard input: the archive     current folder: where to     standard output: one report line
//! limits -> user -> system calls -> read the directory -> unpack -> report
//! ```

mod report;
mod start;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use sealtune_content::archive::{self, ArchiveError, DirectorySink};

pub(crate) use self::report::UnpackFailure;
use self::report::UnpackReport;
#[cfg(test)]
pub(crate) use self::start::in_this_process;
pub(crate) use self::start::{UnpackTask, in_own_process};
use crate::seccomp::Filters;

pub(crate) const ROLE: &str = "unpack-archive";
/// No container's and no file's user.
const USER: u32 = 65_500;
const OPEN_FILES: u64 = 16;
/// The directory of an archive is at most 32 MiB; the rest is the program and its buffers.
const MEMORY_BYTES: u64 = 512 << 20;

/// `unpack-archive NAME BYTES`: the top folder's new name, and what all files may have together.
pub(crate) fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let report = match prepare(&arguments) {
        Ok((archive, name, limit)) => {
            UnpackReport::of(unpack(archive, Path::new("."), name, limit))
        }
        Err(reason) => UnpackReport::NotConfined { reason },
    };
    let written = io::stdout().lock().write_all(&report.to_line());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare(arguments: &[String]) -> Result<(File, &str, u64), String> {
    let [name, limit] = arguments else { return Err("expected a name and a limit".into()) };
    let limit: u64 = limit.parse().map_err(|_| "the limit is no number".to_owned())?;
    let archive: OwnedFd =
        io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    confine(limit).map_err(|reason| format!("confine itself: {reason}"))?;
    Ok((File::from(archive), name, limit))
}

fn confine(limit: u64) -> Result<(), String> {
    let filters = Filters::for_unpacking()?;
    let failed = |errno: nix::errno::Errno| errno.to_string();
    for (resource, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_AS, MEMORY_BYTES),
        (Resource::RLIMIT_FSIZE, limit),
    ] {
        setrlimit(resource, most, most).map_err(failed)?;
    }
    setgroups(&[]).map_err(failed)?;
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    setresgid(group, group, group).map_err(failed)?;
    setresuid(user, user, user).map_err(failed)?;
    // Last, and for good: from here on the list is all there is.
    filters.install()
}

fn unpack(archive: File, folder: &Path, name: &str, limit: u64) -> Result<(), ArchiveError> {
    let limits = archive::Limits::with_total(limit).single_top_level(name);
    let mut sink = DirectorySink::new(folder).map_err(ArchiveError::Read)?;
    archive::plan(archive, &limits)?.unpack(&mut sink)?;
    Ok(())
}
