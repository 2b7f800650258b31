//! The processes of one VM: started so that they outlive the daemon, found again by pid and start time, watched by
//! pidfd, ended and reaped.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A process that is the same one only while its start time is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub(crate) start_time: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("start {program}: {error}")]
    Spawn { program: String, error: std::io::Error },
    #[error("watch process {pid}: {error}")]
    Watch { pid: u32, error: std::io::Error },
}

/// Starts `program` in a process group of its own, with no pipe to the daemon; its output goes to `log`.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    log: &Path,
) -> Result<ProcessIdentity, ProcessError> {
    let failed = |error| ProcessError::Spawn { program: program.display().to_string(), error };
    let log = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let pid = child.id();
    // The child stays ours to reap until then, so that its pid cannot be anybody else's.
    let start_time = start_time(pid).unwrap_or_default();
    Ok(ProcessIdentity { pid, start_time })
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields count from behind its last `)`.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Kills every process of this user whose command line names `folder`: a VM's folder is in no other's.
pub(crate) fn kill_strays(folder: &Path) {
    use std::os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _};
    let needle = folder.as_os_str().as_bytes();
    let user = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let ours = entry.metadata().is_ok_and(|metadata| metadata.uid() == user);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let programs = [&b"qemu"[..], b"vsock"];
        let is_ours = ours
            && contains(&line, needle)
            && programs.iter().any(|program| contains(&line, program));
        if is_ours {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len().max(1)).any(|window| window == part)
}

/// A watched process.
#[derive(Debug)]
pub(crate) struct Watched {
    descriptor: Arc<OwnedFd>,
    has_ended: watch::Receiver<bool>,
}

impl Watched {
    /// `None` when the process has ended (or its pid is another's by now).
    pub(crate) fn open(identity: ProcessIdentity) -> Result<Option<Self>, ProcessError> {
        let failed = |error| ProcessError::Watch { pid: identity.pid, error };
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Arc::new(descriptor),
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        // Compared after the descriptor is open: from here on the pid cannot be reused unnoticed.
        if start_time(identity.pid) != Some(identity.start_time) {
            return Ok(None);
        }
        let (sender, has_ended) = watch::channel(false);
        let watched = descriptor.clone();
        // A thread of its own, which the end of the daemon does not wait for.
        std::thread::Builder::new()
            .name("pidfd".into())
            .spawn(move || {
                wait_for_end(&watched);
                let _ = sender.send(true);
            })
            .map_err(failed)?;
        Ok(Some(Self { descriptor, has_ended }))
    }

    /// Returns when the process has ended and, if it is a child of this daemon, is reaped.
    pub(crate) async fn ended(&self) {
        let _ = self.has_ended.clone().wait_for(|ended| *ended).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.descriptor, signal);
    }

    /// Asks, then insists; returns when the process is gone.
    pub(crate) async fn end(&self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }
}

/// A pidfd is readable when its process has ended.
fn wait_for_end(descriptor: &OwnedFd) {
    let mut poll = [PollFd::new(descriptor, PollFlags::IN)];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut poll, None) {}
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = rustix::process::waitid(WaitId::PidFd(descriptor.as_fd()), options);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_found_again_and_ended() {
        let folder = tempfile::tempdir().expect("folder");
        let identity =
            spawn(Path::new("/bin/sleep"), &["30"], &folder.path().join("log")).expect("spawn");
        let watched = Watched::open(identity).expect("watch").expect("alive");
        assert!(tokio::time::timeout(Duration::from_millis(50), watched.ended()).await.is_err());
        watched.end(Duration::from_secs(5)).await;
        assert!(Watched::open(identity).expect("look").is_none());
    }

    #[tokio::test]
    async fn another_process_with_the_same_pid_is_not_ours() {
        let identity = ProcessIdentity { pid: std::process::id(), start_time: 1 };
        assert!(Watched::open(identity).expect("look").is_none());
    }
}
