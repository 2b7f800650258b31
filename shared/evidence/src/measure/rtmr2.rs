//! RTMR2: command line and initramfs, as the kernel's EFI stub measures them.
//!
//! The stub hashes the load options: UTF-16 with a final zero, and beside the command line the name under which the firmware
//! offers QEMU's initramfs: behind it in older firmware, before it since EDK II 202408.

use serde::{Deserialize, Serialize};

use super::error::MeasureError;
use crate::{fixed_hex::Hex48, logs::payload::sha384};

/// What the firmware adds for an initramfs that comes from QEMU.
const INITRD_OPTION: &str = "initrd=initrd";
pub const MAX_COMMAND_LINE: usize = 4096;
pub const MAX_INITRAMFS_BYTES: usize = 1 << 30;

/// On which side of the command line the firmware names the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandLineForm {
    #[default]
    InitrdLast,
    InitrdFirst,
}

impl CommandLineForm {
    pub(super) const ALL: [Self; 2] = [Self::InitrdLast, Self::InitrdFirst];
}

pub fn command_line_digest(
    command_line: &str,
    form: CommandLineForm,
) -> Result<Hex48, MeasureError> {
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
    let options = match form {
        CommandLineForm::InitrdLast => format!("{command_line} {INITRD_OPTION}\0"),
        CommandLineForm::InitrdFirst => format!("{INITRD_OPTION} {command_line}\0"),
    };
    let wide: Vec<u8> = options.bytes().flat_map(|letter| [letter, 0]).collect();
    Ok(sha384(&wide))
}

pub fn initramfs_digest(initramfs: &[u8]) -> Result<Hex48, MeasureError> {
    if !(1..=MAX_INITRAMFS_BYTES).contains(&initramfs.len()) {
        return Err(MeasureError::KernelLength { what: "initramfs", length: initramfs.len() });
    }
    Ok(sha384(initramfs))
}
