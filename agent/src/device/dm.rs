//! Device-mapper by its own ioctls (linux/dm-ioctl.h, interface 4.0.0): build the buffer, send it,
//! read the device number from the answer. The buffers are made and read by pure functions; the
//! one unsafe call of this file hands such a buffer to the kernel.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;

use super::DeviceError;

/// `sizeof(struct dm_ioctl)`.
const HEADER_BYTES: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET_BYTES: usize = 40;
/// `DM_NAME_LEN`, the terminating zero included.
const NAME_BYTES: usize = 128;
const TARGET_TYPE_BYTES: usize = 16;
const MAX_TABLE_LINE_BYTES: usize = 4096;

const OFFSET_DATA_SIZE: usize = 12;
const OFFSET_DATA_START: usize = 16;
const OFFSET_TARGET_COUNT: usize = 20;
const OFFSET_FLAGS: usize = 28;
const OFFSET_DEVICE: usize = 40;
const OFFSET_NAME: usize = 48;

const READ_ONLY: u32 = 1;

/// `_IOWR(0xfd, command, struct dm_ioctl)` without the command.
const IOCTL_BASE: u32 = 0xC000_0000 | ((HEADER_BYTES as u32) << 16) | (0xfd << 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Version,
    Create,
    Remove,
    Resume,
    Load,
}

impl Command {
    fn number(self) -> u32 {
        IOCTL_BASE
            | match self {
                Self::Version => 0,
                Self::Create => 3,
                Self::Remove => 4,
                // DM_DEV_SUSPEND without the suspend flag resumes.
                Self::Resume => 6,
                Self::Load => 9,
            }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Resume => "resume",
            Self::Load => "load",
        }
    }
}

/// One line of a device-mapper table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) sectors: u64,
    pub(crate) kind: &'static str,
    pub(crate) line: String,
}

/// A mapped device's number, as the kernel gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MappedDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The open `/dev/mapper/control`.
#[derive(Debug)]
pub(crate) struct Mapper {
    control: File,
}

impl Mapper {
    pub(crate) fn open(control: &Path) -> Result<Self, DeviceError> {
        let failed = |errno| DeviceError::Control { path: control.to_path_buf(), errno };
        let control = File::options()
            .read(true)
            .write(true)
            .open(control)
            .map_err(|error| failed(errno_of(&error)))?;
        let mapper = Self { control };
        mapper.send(Command::Version, "", 0, None)?;
        Ok(mapper)
    }

    /// Creates a read-only device with one target and resumes it; leaves nothing behind on failure.
    pub(crate) fn activate(
        &self,
        name: &str,
        target: &Target,
    ) -> Result<MappedDevice, DeviceError> {
        self.send(Command::Create, name, 0, None)?;
        let loaded = self
            .send(Command::Load, name, READ_ONLY, Some(target))
            .and_then(|_| self.send(Command::Resume, name, 0, None));
        match loaded {
            Ok(answer) => Ok(decode_device(&answer)),
            Err(error) => {
                // The first failure is the one to report.
                let _ = self.remove(name);
                Err(error)
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), DeviceError> {
        self.send(Command::Remove, name, 0, None).map(|_| ())
    }

    fn send(
        &self,
        command: Command,
        name: &str,
        flags: u32,
        target: Option<&Target>,
    ) -> Result<Vec<u8>, DeviceError> {
        let mut buffer = encode(name, flags, target)?;
        exchange(&self.control, command, &mut buffer).map_err(|errno| DeviceError::Mapper {
            command: command.name(),
            name: name.to_owned(),
            errno,
        })?;
        Ok(buffer)
    }
}

#[expect(unsafe_code, reason = "device-mapper has no other interface than this ioctl")]
fn exchange(control: &File, command: Command, buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: `encode` made the buffer: at least `sizeof(struct dm_ioctl)` bytes, and its
    // `data_size` field is its length, which is all that the kernel reads or writes. The
    // descriptor is open for the whole call.
    let result = unsafe {
        libc::ioctl(control.as_raw_fd(), command.number() as libc::Ioctl, buffer.as_mut_ptr())
    };
    Errno::result(result).map(|_| ())
}

/// The request buffer: header, and for a table load one target specification with its line.
fn encode(name: &str, flags: u32, target: Option<&Target>) -> Result<Vec<u8>, DeviceError> {
    if name.len() >= NAME_BYTES || name.contains(['\0', '/']) {
        return Err(DeviceError::Parameters("the mapped name is too long or malformed"));
    }
    let payload = match target {
        None => Vec::new(),
        Some(target) => encode_target(target)?,
    };
    let total = HEADER_BYTES + payload.len();
    let mut buffer = vec![0; HEADER_BYTES];
    put_u32(&mut buffer, 0, 4);
    put_u32(&mut buffer, OFFSET_DATA_SIZE, total as u32);
    put_u32(&mut buffer, OFFSET_DATA_START, HEADER_BYTES as u32);
    put_u32(&mut buffer, OFFSET_TARGET_COUNT, u32::from(target.is_some()));
    put_u32(&mut buffer, OFFSET_FLAGS, flags);
    buffer[OFFSET_NAME..OFFSET_NAME + name.len()].copy_from_slice(name.as_bytes());
    buffer.extend_from_slice(&payload);
    Ok(buffer)
}

fn encode_target(target: &Target) -> Result<Vec<u8>, DeviceError> {
    if target.kind.len() >= TARGET_TYPE_BYTES {
        return Err(DeviceError::Parameters("the target type is too long"));
    }
    if target.line.len() > MAX_TABLE_LINE_BYTES || target.line.contains('\0') {
        return Err(DeviceError::Parameters("the table line is too long or malformed"));
    }
    // The line ends with a zero and the whole is a multiple of eight.
    let length = (TARGET_BYTES + target.line.len() + 1).next_multiple_of(8);
    let mut bytes = vec![0; length];
    bytes[8..16].copy_from_slice(&target.sectors.to_ne_bytes());
    put_u32(&mut bytes, 20, length as u32);
    bytes[24..24 + target.kind.len()].copy_from_slice(target.kind.as_bytes());
    bytes[TARGET_BYTES..TARGET_BYTES + target.line.len()].copy_from_slice(target.line.as_bytes());
    Ok(bytes)
}

fn decode_device(answer: &[u8]) -> MappedDevice {
    let mut number = [0; 8];
    number.copy_from_slice(&answer[OFFSET_DEVICE..OFFSET_DEVICE + 8]);
    // huge_encode_dev: minor in bits 0..8 and 20..32, major in bits 8..20.
    let number = u64::from_ne_bytes(number);
    MappedDevice {
        major: ((number >> 8) & 0xfff) as u32,
        minor: ((number & 0xff) | ((number >> 12) & 0xfff00)) as u32,
    }
}

fn put_u32(buffer: &mut [u8], offset: usize, value: u32) {
    buffer[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_are_those_of_the_kernel_header() {
        assert_eq!(Command::Version.number(), 0xC138_FD00);
        assert_eq!(Command::Create.number(), 0xC138_FD03);
        assert_eq!(Command::Remove.number(), 0xC138_FD04);
        assert_eq!(Command::Resume.number(), 0xC138_FD06);
        assert_eq!(Command::Load.number(), 0xC138_FD09);
    }

    #[test]
    fn header_layout() {
        let buffer = encode("layer", READ_ONLY, None).unwrap();
        assert_eq!(buffer.len(), 312);
        assert_eq!(buffer[0..12], [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(buffer[12..16], 312u32.to_ne_bytes());
        assert_eq!(buffer[16..20], 312u32.to_ne_bytes());
        assert_eq!(buffer[20..24], [0; 4]);
        assert_eq!(buffer[28..32], 1u32.to_ne_bytes());
        assert_eq!(&buffer[48..54], b"layer\0");
    }

    #[test]
    fn target_layout() {
        let target = Target { sectors: 4096, kind: "verity", line: "1 a".into() };
        let buffer = encode("layer", READ_ONLY, Some(&target)).unwrap();
        assert_eq!(buffer.len(), 312 + 48);
        assert_eq!(buffer[12..16], 360u32.to_ne_bytes());
        assert_eq!(buffer[20..24], 1u32.to_ne_bytes());
        let target = &buffer[312..];
        assert_eq!(target[0..8], [0; 8]);
        assert_eq!(target[8..16], 4096u64.to_ne_bytes());
        assert_eq!(target[20..24], 48u32.to_ne_bytes());
        assert_eq!(&target[24..40], b"verity\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&target[40..48], b"1 a\0\0\0\0\0");
    }

    #[test]
    fn a_line_that_ends_on_the_boundary_keeps_its_zero() {
        let target = Target { sectors: 8, kind: "verity", line: "12345678".into() };
        let buffer = encode("layer", 0, Some(&target)).unwrap();
        assert_eq!(buffer.len(), 312 + 40 + 16);
        assert_eq!(buffer[312 + 48], 0);
    }

    #[test]
    fn device_numbers_are_unpacked() {
        let mut answer = vec![0; HEADER_BYTES];
        // 253:0 and 253:300 in the kernel's encoding.
        for (number, minor) in [(0xfd00u64, 0), (0x0010_fd2c, 300)] {
            answer[OFFSET_DEVICE..OFFSET_DEVICE + 8].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(decode_device(&answer), MappedDevice { major: 253, minor });
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(encode(&"n".repeat(128), 0, None).is_err());
        assert!(encode("a/b", 0, None).is_err());
        let long = Target { sectors: 8, kind: "verity", line: "x".repeat(4097) };
        assert!(encode("layer", 0, Some(&long)).is_err());
        let kind = Target { sectors: 8, kind: "a-type-of-16-byte", line: String::new() };
        assert!(encode("layer", 0, Some(&kind)).is_err());
    }
}
