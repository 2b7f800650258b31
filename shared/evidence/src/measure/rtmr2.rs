//! RTMR2: command line and initramfs, as the kernel's EFI stub measures them.
//!
//! The stub hashes the load options: UTF-16 with a final zero, behind the command line the name under which the firmware
//! offers QEMU's initramfs.

use super::error::MeasureError;
use crate::{fixed_hex::Hex48, logs::payload::sha384};

/// What the firmware appends for an initramfs that comes from QEMU.
const INITRD_OPTION: &str = " initrd=initrd";
pub const MAX_COMMAND_LINE: usize = 4096;
pub const MAX_INITRAMFS_BYTES: usize = 1 << 30;

pub fn command_line_digest(command_line: &str) -> Result<Hex48, MeasureError> {
    if command_line.len() > MAX_COMMAND_LINE {
        return Err(MeasureError::CommandLine("it is longer than 4096 bytes"));
    }
    if command_line.contains('\0') {
        return Err(MeasureError::CommandLine("it holds a zero byte"));
    }
    // The kernel reads bytes, the firmware widens each: beyond ASCII the two would not agree.
    if !command_line.is_ascii() {
        return Err(MeasureError::CommandLine("it holds other characters than ASCII"));
    }
    let letters = command_line.bytes().chain(INITRD_OPTION.bytes()).chain([0]);
    let wide: Vec<u8> = letters.flat_map(|letter| [letter, 0]).collect();
    Ok(sha384(&wide))
}

pub fn initramfs_digest(initramfs: &[u8]) -> Result<Hex48, MeasureError> {
    if !(1..=MAX_INITRAMFS_BYTES).contains(&initramfs.len()) {
        return Err(MeasureError::KernelLength { what: "initramfs", length: initramfs.len() });
    }
    Ok(sha384(initramfs))
}
