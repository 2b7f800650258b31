//! Waits for serve and reaps orphans, by signals only: no other process' exit status is of
//! interest here.

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::InitError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServeEnd {
    Exited(i32),
    Signalled(i32),
    AskedToStop,
}

impl fmt::Display for ServeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => write!(f, "was killed by signal {signal}"),
            Self::AskedToStop => write!(f, "was asked to stop"),
        }
    }
}

/// Blocks its signals only now, after serve was started: a child inherits the mask. A child that
/// ended before is found by the first round, which looks without waiting for a signal.
pub(super) fn run_until_end(serve: Pid) -> Result<ServeEnd, InitError> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block().map_err(InitError::Reap)?;
    loop {
        if let Some(end) = reap_all(serve)? {
            return Ok(end);
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(ServeEnd::AskedToStop),
            Err(errno) => return Err(InitError::Reap(errno)),
        }
    }
}

fn reap_all(serve: Pid) -> Result<Option<ServeEnd>, InitError> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == serve => {
                return Ok(Some(ServeEnd::Exited(code)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == serve => {
                return Ok(Some(ServeEnd::Signalled(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(InitError::Reap(errno)),
        }
    }
}
