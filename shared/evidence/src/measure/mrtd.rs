//! MRTD: the digest of everything that is in a VM's memory before its first instruction.
//!
//! Source: Intel TDX Module Base Architecture Specification, sections on TDH.MEM.PAGE.ADD and TDH.MR.EXTEND. Every page
//! that is added, and every 256 bytes that are measured, is a record of 128 bytes; the latter is followed by its bytes.

use ring::digest::{Context, SHA384};
use serde::{Deserialize, Serialize};

use super::{
    error::MeasureError,
    field::put,
    tdvf::{PAGE, Section, Tdvf},
};
use crate::fixed_hex::{FixedHex, Hex48};

const RECORD: usize = 128;
const ADDRESS: usize = 16;
const CHUNK: usize = 256;

/// In which order a host adds and measures the pages of a section: it differs between kernels and classes of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageOrder {
    /// Each page is measured right after it is added (QEMU 9 and later).
    SinglePass,
    /// All pages of a section are added, then all are measured (QEMU 8).
    TwoPass,
}

impl PageOrder {
    pub const ALL: [Self; 2] = [Self::SinglePass, Self::TwoPass];
}

pub fn mrtd(firmware: &[u8], tdvf: &Tdvf, order: PageOrder) -> Result<Hex48, MeasureError> {
    let mut context = Context::new(&SHA384);
    for (index, section) in tdvf.sections().iter().enumerate() {
        measure_section(&mut context, firmware, section, order).ok_or(
            MeasureError::FirmwareSection { index, reason: "its data lie outside of the file" },
        )?;
    }
    let mut value = [0; 48];
    value.copy_from_slice(context.finish().as_ref());
    Ok(FixedHex(value))
}

fn measure_section(
    context: &mut Context,
    firmware: &[u8],
    section: &Section,
    order: PageOrder,
) -> Option<()> {
    let data = firmware.get(section.data_offset..)?.get(..section.data_length)?;
    let pages = usize::try_from(section.memory_length).ok()? / PAGE;
    for page in 0..pages {
        if !section.added_later {
            context.update(&record(b"MEM.PAGE.ADD", section.address, page * PAGE));
        }
        if order == PageOrder::SinglePass {
            extend_page(context, section, data, page)?;
        }
    }
    if order == PageOrder::TwoPass {
        for page in 0..pages {
            extend_page(context, section, data, page)?;
        }
    }
    Some(())
}

fn extend_page(context: &mut Context, section: &Section, data: &[u8], page: usize) -> Option<()> {
    if !section.extended {
        return Some(());
    }
    let bytes = data.get(page * PAGE..)?.get(..PAGE)?;
    for (chunk, bytes) in bytes.chunks_exact(CHUNK).enumerate() {
        context.update(&record(b"MR.EXTEND", section.address, page * PAGE + chunk * CHUNK));
        context.update(bytes);
    }
    Some(())
}

fn record(operation: &[u8], base: u64, offset: usize) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    // Both are shorter than their places.
    put(&mut record, 0, operation);
    put(&mut record, ADDRESS, &base.wrapping_add(offset as u64).to_le_bytes());
    record
}
