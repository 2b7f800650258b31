//! The SHA-384 by which firmware measures an EFI program: everything but its checksum, its signature and where that is.
//!
//! Source: Windows Authenticode Portable Executable Signature Format 1.0, "Calculating the PE image hash", as EDK II's
//! measurement library does it. Where implementations differ (data that hash only when padded, sections that overlap or
//! overrun the file) the program is refused, so that there is one answer.

use ring::digest::{Context, SHA384};

use super::{
    error::MeasureError,
    field::{size_at, u16_at, u32_at},
};
use crate::fixed_hex::{FixedHex, Hex48};

pub const MAX_KERNEL_BYTES: usize = 256 << 20;
const MAX_SECTIONS: usize = 96;

const PE_POINTER: usize = 0x3c;
const FILE_HEADER: usize = 24;
const SECTION_HEADER: usize = 40;
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
const CHECKSUM: usize = 64;
const SIZE_OF_HEADERS: usize = 60;
const DIRECTORY: usize = 8;
/// The fifth data directory: where signatures are.
const SECURITY: usize = 4;
/// Signed programs are padded to this, others hash differently with and without padding.
const ALIGNMENT: usize = 8;

/// Parts of a program that its digest leaves out.
struct Layout {
    checksum: usize,
    /// Where the security directory's entry is, if the header has one.
    entry: Option<usize>,
    headers_end: usize,
    sections: Vec<(usize, usize)>,
    signature_length: usize,
}

pub fn authenticode(program: &[u8]) -> Result<Hex48, MeasureError> {
    if !(1..=MAX_KERNEL_BYTES).contains(&program.len()) {
        return Err(MeasureError::KernelLength { what: "kernel", length: program.len() });
    }
    if !program.len().is_multiple_of(ALIGNMENT) {
        return Err(MeasureError::KernelPe("its length is not a multiple of 8"));
    }
    let layout = layout(program)?;
    let short = || MeasureError::KernelPe("it is cut short");
    let mut context = Context::new(&SHA384);
    let mut update = |from: usize, to: usize| {
        program.get(from..to).map(|bytes| context.update(bytes)).ok_or_else(short)
    };
    update(0, layout.checksum)?;
    match layout.entry {
        Some(entry) => {
            update(layout.checksum + 4, entry)?;
            update(entry + DIRECTORY, layout.headers_end)?;
        }
        None => update(layout.checksum + 4, layout.headers_end)?,
    }
    let mut end = layout.headers_end;
    for (start, length) in layout.sections {
        if start != end {
            return Err(MeasureError::KernelPe("its sections leave gaps or overlap"));
        }
        end = start + length;
        update(start, end)?;
    }
    let signature = program.len().checked_sub(layout.signature_length).ok_or_else(short)?;
    if end > signature {
        return Err(MeasureError::KernelPe("its signature overlaps its sections"));
    }
    update(end, signature)?;
    let mut value = [0; 48];
    value.copy_from_slice(context.finish().as_ref());
    Ok(FixedHex(value))
}

fn layout(program: &[u8]) -> Result<Layout, MeasureError> {
    let refused = MeasureError::KernelPe;
    let short = || refused("it is cut short");
    let pe = size_at(program, PE_POINTER).ok_or_else(short)?;
    if !program.starts_with(b"MZ") || u32_at(program, pe) != Some(u32::from_le_bytes(*b"PE\0\0")) {
        return Err(refused("it has no PE header"));
    }
    let count = u16_at(program, pe + 6).map(usize::from).ok_or_else(short)?;
    let optional_length = u16_at(program, pe + 20).map(usize::from).ok_or_else(short)?;
    let optional = pe + FILE_HEADER;
    let directories = match u16_at(program, optional) {
        Some(PE32) => optional + 96,
        Some(PE32_PLUS) => optional + 112,
        _ => return Err(refused("it is neither PE32 nor PE32+")),
    };
    let headers_end = size_at(program, optional + SIZE_OF_HEADERS).ok_or_else(short)?;
    let entries = size_at(program, directories - 4).ok_or_else(short)?;
    let entry = (entries > SECURITY).then_some(directories + SECURITY * DIRECTORY);
    let (signature, signature_length) = match entry {
        Some(at) => {
            (size_at(program, at).ok_or_else(short)?, size_at(program, at + 4).ok_or_else(short)?)
        }
        None => (0, 0),
    };
    let unsigned = (signature, signature_length) == (0, 0);
    if !unsigned && signature.checked_add(signature_length) != Some(program.len()) {
        return Err(refused("its signature is not at its end"));
    }
    if count > MAX_SECTIONS {
        return Err(refused("it has more than 96 sections"));
    }
    let table = optional + optional_length;
    let table_end = table + count * SECTION_HEADER;
    if headers_end < table_end || entry.is_some_and(|at| at + DIRECTORY > headers_end) {
        return Err(refused("its headers are longer than they say"));
    }
    let mut sections = Vec::new();
    for index in 0..count {
        let header = table + index * SECTION_HEADER;
        let length = size_at(program, header + 16).ok_or_else(short)?;
        let start = size_at(program, header + 20).ok_or_else(short)?;
        if start.checked_add(length).is_none_or(|end| end > program.len()) {
            return Err(refused("a section lies outside of the file"));
        }
        if length > 0 {
            sections.push((start, length));
        }
    }
    sections.sort_unstable();
    let checksum = optional + CHECKSUM;
    Ok(Layout { checksum, entry, headers_end, sections, signature_length })
}

/// Fuzz entry: a program that has a digest keeps it when its checksum changes, and loses it with any other header byte.
pub fn fuzz_authenticode(data: &[u8]) {
    if data.len() > 1 << 20 {
        return;
    }
    let Ok(digest) = authenticode(data) else { return };
    let Ok(layout) = layout(data) else { return };
    let mut other = data.to_vec();
    if let Some(byte) = other.get_mut(layout.checksum) {
        *byte ^= 1;
    }
    assert_eq!(authenticode(&other), Ok(digest));
    if let Some(byte) = other.get_mut(2) {
        *byte ^= 1;
    }
    assert_ne!(authenticode(&other), Ok(digest));
}
