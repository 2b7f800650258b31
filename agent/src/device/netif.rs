//! Brings up `lo` in the network namespace of the calling thread.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::DeviceError;

pub(crate) fn bring_up_loopback() -> Result<(), DeviceError> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(DeviceError::Loopback)?;
    set_loopback_up(&socket).map_err(DeviceError::Loopback)
}

#[expect(unsafe_code, reason = "interface flags are set by an ioctl on a C union")]
fn set_loopback_up(socket: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `ifreq` is plain data of integers and byte arrays; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns; the descriptor
    // is an open socket.
    let result = unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    };
    Errno::result(result).map(|_| ())
}
