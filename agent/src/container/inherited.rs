//! What `run-container` inherits from serve, and hands on: descriptors by number, and signal
//! dispositions. The only unsafe code of this role.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork as fork_process};
use rustix::io::{dup2, fcntl_dupfd_cloexec};

use super::protocol::EVENTS_DESCRIPTOR;

const OUTPUT: i32 = 3;
const ERRORS: i32 = 4;
const EVENTS: i32 = 5;
/// Above what any of the three is.
const FIRST_FREE: i32 = 10;

/// The container's streams, out of the way of the numbers that libcontainer preserves.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) output: OwnedFd,
    pub(super) errors: OwnedFd,
    /// Stands at [`EVENTS_DESCRIPTOR`] and stays open across exec.
    pub(super) events: OwnedFd,
}

/// To be called once, before anything else opens a descriptor.
pub(super) fn take_streams() -> Result<Streams, Errno> {
    let output = take(OUTPUT)?;
    let errors = take(ERRORS)?;
    let events = take(EVENTS)?;
    let moved = |fd: &OwnedFd| {
        fcntl_dupfd_cloexec(fd, FIRST_FREE).map_err(|error| Errno::from_raw(error.raw_os_error()))
    };
    let container_output = moved(&output)?;
    let container_errors = moved(&errors)?;
    // `output` is descriptor 3 and becomes the events pipe there.
    let mut at_events = output;
    const { assert!(OUTPUT == EVENTS_DESCRIPTOR) };
    dup2(&events, &mut at_events).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    fcntl(&at_events, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(Streams { output: container_output, errors: container_errors, events: at_events })
}

#[expect(unsafe_code, reason = "an inherited descriptor is known by its number only")]
fn take(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: borrowed for the length of this call, which only asks whether it is open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_GETFD)?;
    // SAFETY: the descriptor is open, and nothing else in this process owns 3, 4 or 5: serve
    // passes them and `take_streams` runs first and once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor but this one, which moves to 0: a process 1 that held the program's
/// streams open would keep their readers waiting.
#[expect(unsafe_code, reason = "descriptors that libcontainer opened are known by number only")]
pub(super) fn keep_only(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    // SAFETY: dup2 and close_range take integers. This process only waits, writes to descriptor 0
    // and exits: no value that owns one of the closed descriptors is used or dropped again.
    unsafe {
        Errno::result(libc::dup2(kept.as_raw_fd(), 0))?;
        std::mem::forget(kept);
        Errno::result(libc::syscall(libc::SYS_close_range, 1u32, u32::MAX, 0u32))?;
        Ok(OwnedFd::from_raw_fd(0))
    }
}

#[expect(unsafe_code, reason = "fork(2) is unsafe beside other threads; this role has one")]
pub(super) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: `run-container` is single-threaded, and so is the process that libcontainer made of
    // it (its status was read back: one thread): no lock can be held by a thread that is gone.
    unsafe { fork_process() }
}

#[expect(unsafe_code, reason = "signal(2) is unsafe for handlers; this sets none")]
pub(super) fn restore_sigpipe() {
    // SAFETY: the default disposition is no function of ours. A failure leaves it ignored, which
    // changes no more than how a program learns of a closed pipe.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
