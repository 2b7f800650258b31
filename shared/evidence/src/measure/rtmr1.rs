//! RTMR1: the kernel, as the firmware gets it from QEMU.
//!
//! Sources: Linux x86 boot protocol (setup header at 0x1f1), QEMU's `x86_load_linux`. Up to version 10.1 QEMU fills in a
//! boot loader's fields of the setup header before the firmware hashes the kernel; where the initramfs is put depends on
//! its size and on the VM's memory. From 10.2 on QEMU leaves the kernel of a confidential VM as it is.

use super::{
    authenticode::{MAX_KERNEL_BYTES, authenticode},
    error::MeasureError,
    field::{put, u16_at, u32_at},
    hob::{SPLIT_AT, SPLIT_FROM},
    recipe::KernelForm,
};
use crate::fixed_hex::Hex48;

const OLDEST_PROTOCOL: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const CAN_USE_HEAP: u8 = 0x80;
const ABOVE_4G: u16 = 1 << 1;
const LOADER_QEMU: u8 = 0xb0;
const REAL_MODE: u32 = 0x1_0000;
const COMMAND_LINE: u32 = 0x2_0000;
/// QEMU keeps the end of low memory free for ACPI tables.
const ACPI_RESERVE: u64 = 0x2_8000;
const PAGE_MASK: u64 = !0xfff;

/// The digest of a kernel's event, for a VM with so many bytes of memory.
pub fn kernel_digest(
    kernel: &[u8],
    initramfs_length: usize,
    memory: u64,
    form: KernelForm,
) -> Result<Hex48, MeasureError> {
    match form {
        KernelForm::AsIs => authenticode(kernel),
        KernelForm::Patched => authenticode(&patched(kernel, initramfs_length, memory)?),
    }
}

/// The kernel with the fields that QEMU up to 10.1 writes into its setup header.
pub fn patched(
    kernel: &[u8],
    initramfs_length: usize,
    memory: u64,
) -> Result<Vec<u8>, MeasureError> {
    if !(1..=MAX_KERNEL_BYTES).contains(&kernel.len()) {
        return Err(MeasureError::KernelLength { what: "kernel", length: kernel.len() });
    }
    let refused = MeasureError::KernelHeader;
    let short = || refused("it is cut short");
    if kernel.get(0x202..0x206) != Some(b"HdrS") {
        return Err(refused("it has no signature"));
    }
    if u16_at(kernel, 0x206).ok_or_else(short)? < OLDEST_PROTOCOL {
        return Err(refused("its protocol is older than 2.12"));
    }
    let flags = kernel.get(0x211).copied().ok_or_else(short)?;
    if flags & LOADED_HIGH == 0 {
        return Err(refused("it is not loaded high"));
    }
    let limit = initramfs_limit(kernel, memory).ok_or_else(short)?;
    let fields = initramfs_fields(initramfs_length, limit)?;
    let mut kernel = kernel.to_vec();
    let written = put(&mut kernel, 0x210, &[LOADER_QEMU, flags | CAN_USE_HEAP])
        && put(&mut kernel, 0x218, &fields)
        && put(&mut kernel, 0x224, &(COMMAND_LINE - REAL_MODE - 0x200).to_le_bytes())
        && put(&mut kernel, 0x228, &COMMAND_LINE.to_le_bytes());
    if written { Ok(kernel) } else { Err(short()) }
}

/// The highest address that an initramfs may end at.
fn initramfs_limit(kernel: &[u8], memory: u64) -> Option<u64> {
    let wanted = if u16_at(kernel, 0x236)? & ABOVE_4G != 0 {
        u64::from(u32::MAX)
    } else {
        u64::from(u32_at(kernel, 0x22c)?)
    };
    let low_memory = if memory < SPLIT_FROM { memory } else { SPLIT_AT };
    let available = low_memory.checked_sub(ACPI_RESERVE)?;
    Some(if wanted >= available { available.checked_sub(1)? } else { wanted })
}

/// Address and length of the initramfs; a VM without one keeps both as they are in the kernel file, and that is zero.
fn initramfs_fields(length: usize, limit: u64) -> Result<[u8; 8], MeasureError> {
    let misfit = || MeasureError::KernelFit { initramfs: length, limit };
    let size = u32::try_from(length).map_err(|_| misfit())?;
    if size == 0 {
        return Err(MeasureError::KernelLength { what: "initramfs", length });
    }
    let address = limit.checked_sub(u64::from(size)).ok_or_else(misfit)? & PAGE_MASK;
    let address = u32::try_from(address).map_err(|_| misfit())?;
    let mut fields = [0; 8];
    put(&mut fields, 0, &address.to_le_bytes());
    put(&mut fields, 4, &size.to_le_bytes());
    Ok(fields)
}
