//! TDX metadata of a firmware image: which parts of it the host puts into a VM's memory before launch, and how.
//!
//! Source: Intel TDX Virtual Firmware Design Guide, revision 344991-005, section 11; the table of identified entries is
//! EDK II's (`OvmfPkg/ResetVector`). The table ends 32 bytes before the file does and is read backwards; each entry is
//! `data ‖ u16 length of the entry ‖ GUID`. Integers are little-endian.

use super::{
    error::MeasureError,
    field::{array, size_at, u16_at, u32_at, u64_at},
};

pub const MAX_FIRMWARE_BYTES: usize = 16 << 20;
/// Real firmware has six.
pub const MAX_SECTIONS: usize = 32;
/// More than any firmware puts into memory; bounds what is hashed.
const MAX_MEMORY_BYTES: u64 = 64 << 20;

pub(super) const PAGE: usize = 4096;
const RESET_VECTOR: usize = 32;
const ENTRY_END: usize = 18;
const DESCRIPTOR: usize = 16;
const SECTION: usize = 32;

/// 96b582de-1fb2-45f7-baea-a366c55a082d
const FOOTER: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
/// e47a6535-984a-4798-865e-4685a7bf8ec2
const TDX_METADATA: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];

const EXTEND: u32 = 1;
const PAGE_AUG: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// Code: boot firmware volume.
    Bfv,
    /// Variables: configuration firmware volume.
    Cfv,
    /// Where the host puts the list of what memory there is.
    TdHob,
    /// Stack and heap before memory is accepted.
    TempMem,
    /// Memory that the firmware accepts itself.
    PermMem,
    /// A kernel or its parameters inside of the firmware.
    Payload,
    PayloadParam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    pub data_offset: usize,
    pub data_length: usize,
    pub address: u64,
    pub memory_length: u64,
    /// Its contents are part of MRTD.
    pub extended: bool,
    /// Its pages are added after launch, so they are no part of MRTD.
    pub added_later: bool,
}

impl Section {
    fn end(&self) -> Option<u64> {
        self.address.checked_add(self.memory_length)
    }
}

/// The metadata of one firmware image, checked against its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tdvf {
    sections: Vec<Section>,
}

impl Tdvf {
    pub fn parse(firmware: &[u8]) -> Result<Self, MeasureError> {
        if !(1..=MAX_FIRMWARE_BYTES).contains(&firmware.len()) {
            return Err(MeasureError::FirmwareLength(firmware.len()));
        }
        let descriptor = descriptor(firmware)?;
        let tdvf = Self { sections: sections(descriptor)? };
        tdvf.check(firmware)?;
        Ok(tdvf)
    }

    /// In the order of the metadata, which is the order of measuring.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub fn of_kind(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// The variable store as the firmware measures it.
    pub fn configuration_volume<'a>(&self, firmware: &'a [u8]) -> Option<&'a [u8]> {
        let section = self.of_kind(SectionKind::Cfv).next()?;
        firmware.get(section.data_offset..section.data_offset.checked_add(section.data_length)?)
    }

    fn check(&self, firmware: &[u8]) -> Result<(), MeasureError> {
        let mut memory = 0_u64;
        for (index, section) in self.sections.iter().enumerate() {
            let refused = |reason| Err(MeasureError::FirmwareSection { index, reason });
            if section.address % PAGE as u64 != 0 || section.memory_length % PAGE as u64 != 0 {
                return refused("address and length in memory are whole pages");
            }
            let Some(end) = section.end() else { return refused("it ends above all addresses") };
            if section.memory_length == 0 {
                return refused("it is empty");
            }
            if section.memory_length < section.data_length as u64 {
                return refused("it has more data than memory");
            }
            let file_end = section.data_offset.checked_add(section.data_length);
            if file_end.is_none_or(|end| end > firmware.len()) {
                return refused("its data lie outside of the file");
            }
            // What stands behind shorter data differs between hosts: then there is no one MRTD.
            if section.extended && section.memory_length != section.data_length as u64 {
                return refused("it is measured and its memory is longer than its data");
            }
            if section.extended && section.added_later {
                return refused("it is measured and added later");
            }
            memory = memory.saturating_add(section.memory_length);
            let others = self.sections.iter().take(index);
            if others
                .filter_map(|other| Some((other.address, other.end()?)))
                .any(|(other_start, other_end)| section.address < other_end && other_start < end)
            {
                return refused("it overlaps another one");
            }
        }
        let index = self.sections.len();
        let refused = |reason| Err(MeasureError::FirmwareSection { index, reason });
        if memory > MAX_MEMORY_BYTES {
            return refused("all sections together are longer than 64 MiB");
        }
        if self.of_kind(SectionKind::TdHob).count() != 1 {
            return refused("there is not exactly one place for the list of memory");
        }
        if self.of_kind(SectionKind::Cfv).count() > 1 {
            return refused("there is more than one variable store");
        }
        if !self.of_kind(SectionKind::Bfv).any(|section| section.extended) {
            return refused("no code is measured");
        }
        Ok(())
    }
}

/// The descriptor and its sections, found through the table at the end of the file.
fn descriptor(firmware: &[u8]) -> Result<&[u8], MeasureError> {
    let malformed = MeasureError::FirmwareTable;
    let short = || malformed("it is cut short");
    let end = firmware.len().checked_sub(RESET_VECTOR).ok_or_else(short)?;
    let footer = end.checked_sub(ENTRY_END).ok_or_else(short)?;
    if array(firmware, footer + 2) != Some(FOOTER) {
        return Err(malformed("there is none"));
    }
    let length = u16_at(firmware, footer).map(usize::from).ok_or_else(short)?;
    let start = end.checked_sub(length).ok_or_else(short)?;
    let mut table = firmware.get(start..footer).ok_or_else(short)?;
    let mut found = None;
    while !table.is_empty() {
        let trailer = table.len().checked_sub(ENTRY_END).ok_or_else(short)?;
        let length = u16_at(table, trailer).map(usize::from).ok_or_else(short)?;
        let entry = table.len().checked_sub(length).ok_or_else(short)?;
        // An entry is at least its own end; shorter ones would never finish.
        let data = table.get(entry..trailer).ok_or_else(short)?;
        if array(table, trailer + 2) == Some(TDX_METADATA) && found.replace(data).is_some() {
            return Err(malformed("it names TDX metadata twice"));
        }
        table = table.get(..entry).ok_or_else(short)?;
    }
    let data = found.ok_or(MeasureError::FirmwareNotTdx)?;
    let distance = data.len().checked_sub(4).and_then(|at| size_at(data, at)).ok_or_else(short)?;
    let at = firmware.len().checked_sub(distance);
    at.and_then(|at| firmware.get(at..))
        .ok_or(MeasureError::FirmwareMetadata("it lies outside of the file"))
}

fn sections(descriptor: &[u8]) -> Result<Vec<Section>, MeasureError> {
    let malformed = MeasureError::FirmwareMetadata;
    let short = || malformed("it is cut short");
    if !descriptor.starts_with(b"TDVF") {
        return Err(malformed("it lacks its signature"));
    }
    if u32_at(descriptor, 8).ok_or_else(short)? != 1 {
        return Err(malformed("its version is not 1"));
    }
    let length = size_at(descriptor, 4).ok_or_else(short)?;
    let count = size_at(descriptor, 12).ok_or_else(short)?;
    if count > MAX_SECTIONS {
        return Err(malformed("it has more than 32 sections"));
    }
    if length != DESCRIPTOR + count * SECTION {
        return Err(malformed("its length is not that of its sections"));
    }
    let bytes = descriptor.get(DESCRIPTOR..length).ok_or_else(short)?;
    bytes.chunks_exact(SECTION).map(|bytes| section(bytes).ok_or_else(short)?).collect()
}

fn section(bytes: &[u8]) -> Option<Result<Section, MeasureError>> {
    let kind = match u32_at(bytes, 24)? {
        0 => SectionKind::Bfv,
        1 => SectionKind::Cfv,
        2 => SectionKind::TdHob,
        3 => SectionKind::TempMem,
        4 => SectionKind::PermMem,
        5 => SectionKind::Payload,
        6 => SectionKind::PayloadParam,
        _ => return Some(Err(MeasureError::FirmwareMetadata("a section is of an unknown kind"))),
    };
    let attributes = u32_at(bytes, 28)?;
    if attributes & !(EXTEND | PAGE_AUG) != 0 {
        return Some(Err(MeasureError::FirmwareMetadata("a section has an unknown attribute")));
    }
    Some(Ok(Section {
        kind,
        data_offset: size_at(bytes, 0)?,
        data_length: size_at(bytes, 4)?,
        address: u64_at(bytes, 8)?,
        memory_length: u64_at(bytes, 16)?,
        extended: attributes & EXTEND != 0,
        added_later: attributes & PAGE_AUG != 0,
    }))
}

/// Fuzz entry: metadata that parse stay within the file and within bounds, and give one MRTD for each order.
pub fn fuzz_tdvf(data: &[u8]) {
    let Ok(tdvf) = Tdvf::parse(data) else { return };
    assert!(tdvf.sections.len() <= MAX_SECTIONS);
    for section in &tdvf.sections {
        assert!(section.data_offset + section.data_length <= data.len());
        assert!(section.memory_length <= MAX_MEMORY_BYTES);
    }
    let _ = tdvf.configuration_volume(data);
    // Hashing megabytes finds nothing that small inputs do not.
    if tdvf.sections.iter().map(|section| section.memory_length).sum::<u64>() < 1 << 20 {
        for order in super::PageOrder::ALL {
            assert!(super::mrtd(data, &tdvf, order).is_ok());
        }
    }
    let _ = super::AcceptedMemory::of(&tdvf).map(|memory| memory.digest(2 << 30));
}
