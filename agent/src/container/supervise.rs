//! Waits for the container's end, its deadline or a cancel, whichever is first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use super::cancel_signals;
use super::cgroup::Cgroup;
use super::first::ProgramEnd;
use super::protocol::{ContainerExit, Limits};

#[derive(Debug)]
pub(super) struct Supervisor {
    cancel: SignalFd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    Itself,
    Deadline,
    Cancel,
}

impl Supervisor {
    pub(super) fn listen() -> Result<Self, Errno> {
        let signals = cancel_signals();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { cancel: SignalFd::with_flags(&signals, flags)? })
    }

    pub(super) fn run(
        &self,
        pid: Pid,
        cgroup: &Cgroup,
        limits: &Limits,
        told: OwnedFd,
    ) -> Result<ContainerExit, Errno> {
        let deadline = Instant::now() + Duration::from_secs(limits.wall_seconds);
        let process = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)?;
        let process = pidfd_open(process, PidfdFlags::empty())
            .map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        let ended_by = self.wait(process.as_fd(), deadline)?;
        if ended_by != EndedBy::Itself {
            // Its end is waited for below; a failure to write would be a cgroup that is gone.
            let _ = cgroup.kill();
        }
        reap(pid);
        Ok(classify(ended_by, ProgramEnd::read(told), cgroup.oom_kills()))
    }

    fn wait(&self, process: BorrowedFd<'_>, deadline: Instant) -> Result<EndedBy, Errno> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut polled = [
                PollFd::new(process, PollFlags::POLLIN),
                PollFd::new(self.cancel.as_fd(), PollFlags::POLLIN),
            ];
            // A deadline that poll cannot hold is reached in several rounds.
            let round = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, round) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if polled[0].any() == Some(true) {
                return Ok(EndedBy::Itself);
            }
            if polled[1].any() == Some(true) {
                return Ok(EndedBy::Cancel);
            }
            if left.is_zero() {
                return Ok(EndedBy::Deadline);
            }
        }
    }
}

/// Waits for the process, unless somebody else did.
pub(super) fn reap(pid: Pid) {
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

fn classify(ended_by: EndedBy, end: Option<ProgramEnd>, oom_kills: u64) -> ContainerExit {
    match (ended_by, end) {
        (EndedBy::Deadline, _) => ContainerExit::Timeout,
        (EndedBy::Cancel, _) => ContainerExit::Cancelled,
        (EndedBy::Itself, _) if oom_kills > 0 => ContainerExit::Oom,
        (EndedBy::Itself, Some(ProgramEnd::Code(code))) => ContainerExit::Code(code),
        (EndedBy::Itself, Some(ProgramEnd::Signal(signal))) => ContainerExit::Signal(signal),
        // An end that nobody can tell is none that may lead to a result.
        (EndedBy::Itself, _) => ContainerExit::Signal(libc::SIGKILL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_one_name() {
        let exited = |code| Some(ProgramEnd::Code(code));
        let killed = Some(ProgramEnd::Signal(9));
        for (ended_by, end, oom_kills, exit) in [
            (EndedBy::Itself, exited(0), 0, ContainerExit::Code(0)),
            (EndedBy::Itself, exited(7), 0, ContainerExit::Code(7)),
            (EndedBy::Itself, killed, 0, ContainerExit::Signal(9)),
            (EndedBy::Itself, killed, 1, ContainerExit::Oom),
            (EndedBy::Itself, exited(0), 1, ContainerExit::Oom),
            (EndedBy::Itself, None, 0, ContainerExit::Signal(9)),
            (EndedBy::Deadline, killed, 0, ContainerExit::Timeout),
            (EndedBy::Deadline, exited(0), 0, ContainerExit::Timeout),
            (EndedBy::Cancel, killed, 1, ContainerExit::Cancelled),
        ] {
            assert_eq!(classify(ended_by, end, oom_kills), exit, "{ended_by:?} {end:?}");
        }
    }

    #[test]
    fn the_deadline_and_the_end_are_told_apart() {
        let supervisor = Supervisor::listen().unwrap();
        let (reading, writing) = std::io::pipe().unwrap();
        let ended = supervisor.wait(reading.as_fd(), Instant::now()).unwrap();
        assert_eq!(ended, EndedBy::Deadline);
        // A closed pipe is readable, as the descriptor of an ended process is.
        drop(writing);
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(supervisor.wait(reading.as_fd(), far).unwrap(), EndedBy::Itself);
    }
}
