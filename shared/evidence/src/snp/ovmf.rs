//! What an OVMF firmware file says to whoever launches it under SEV-SNP: which pages are measured how, where the hashes of
//! the kernel go, where further processors start.
//!
//! Source: EDK II, OvmfPkg/ResetVector (`OvmfSevMetadata.asm`, `Ia16/ResetVectorVtf0.asm`): a table of GUIDed entries that
//! ends 32 bytes before the end of the file and is read backwards; one entry leads to the list of SEV sections.

use serde::{Deserialize, Serialize};

use super::{codes::Code, launch_digest::GuestContext};
use crate::fixed_hex::Hex48;

pub const MAX_FIRMWARE_BYTES: usize = 16 * 1024 * 1024;
pub const PAGE: usize = 4096;
const MAX_SECTIONS: usize = 64;
/// 64 MiB; real lists have some dozens of pages.
const MAX_SECTION_PAGES: u32 = 16 * 1024;
const FOUR_GIB: u64 = 1 << 32;
const AFTER_TABLE: usize = 32;
/// Length and GUID of an entry, which follow its data.
const ENTRY_END: usize = 18;
const HASHES_TABLE_ROOM: u32 = 176;

// GUIDs as they stand in memory: the first three fields are little-endian.
/// 96b582de-1fb2-45f7-baea-a366c55a082d
const TABLE: [u8; 16] = guid(0x96b582de_1fb2_45f7_baea_a366c55a082d);
/// 7255371f-3a3b-4b04-927b-1da6efa8d454
const HASHES_TABLE: [u8; 16] = guid(0x7255371f_3a3b_4b04_927b_1da6efa8d454);
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e
const RESET_BLOCK: [u8; 16] = guid(0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);
/// dc886566-984a-4798-a75e-5585a7bf67cc
const SEV_METADATA: [u8; 16] = guid(0xdc886566_984a_4798_a75e_5585a7bf67cc);

/// What a firmware file contributes to launch digests. It can be kept instead of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The launch digest after the firmware's own pages.
    pub pages: Hex48,
    /// In the order in which they are measured.
    pub sections: Vec<Section>,
    /// Guest address of the table of the kernel's hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes_table: Option<u32>,
    /// Where processors other than the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_vector: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Guest address.
    pub address: u32,
    pub length: u32,
    pub kind: SectionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SectionKind {
    /// Zeros that the firmware uses early.
    Memory,
    Secrets,
    CpuId,
    /// Calling area of an SVSM, zeros.
    SvsmCallingArea,
    KernelHashes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    #[error("read the firmware: {0} bytes, expected whole pages and at most 16 MiB")]
    Size(usize),
    #[error("read the firmware's table: {0}")]
    Table(&'static str),
    #[error("read the firmware's SEV sections: {0}")]
    Sections(&'static str),
}

impl FirmwareError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Size(_) => Code::FirmwareSize,
            Self::Table(_) => Code::FirmwareTable,
            Self::Sections(_) => Code::FirmwareSections,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Firmware {
    pub fn parse(file: &[u8]) -> Result<Self, FirmwareError> {
        if file.is_empty() || file.len() > MAX_FIRMWARE_BYTES || !file.len().is_multiple_of(PAGE) {
            return Err(FirmwareError::Size(file.len()));
        }
        let table = Table::find(file)?;
        let address = |guid| -> Result<Option<u32>, FirmwareError> {
            let Some(data) = table.entry(guid)? else { return Ok(None) };
            data.first_chunk()
                .map(|bytes| Some(u32::from_le_bytes(*bytes)).filter(|address| *address != 0))
                .ok_or(FirmwareError::Table("an entry is too short"))
        };
        let firmware = Self {
            pages: pages_digest(file)?,
            sections: read_sections(file, address(&SEV_METADATA)?)?,
            hashes_table: address(&HASHES_TABLE)?,
            reset_vector: address(&RESET_BLOCK)?,
        };
        firmware.check()?;
        Ok(firmware)
    }

    /// Limits that hold for what was read from a file and for what was kept.
    pub fn check(&self) -> Result<(), FirmwareError> {
        let refuse = |reason| Err(FirmwareError::Sections(reason));
        let page = PAGE as u32;
        if self.sections.is_empty() || self.sections.len() > MAX_SECTIONS {
            return refuse("none, or more than 64");
        }
        let mut pages = 0_u32;
        for section in &self.sections {
            let Section { address, length, kind } = *section;
            if length == 0 || !length.is_multiple_of(page) || !address.is_multiple_of(page) {
                return refuse("not made of whole pages");
            }
            if address.checked_add(length).is_none() {
                return refuse("beyond 4 GiB");
            }
            pages = pages.saturating_add(length / page);
            let one_page = match kind {
                SectionKind::Secrets | SectionKind::CpuId | SectionKind::KernelHashes => true,
                SectionKind::Memory | SectionKind::SvsmCallingArea => false,
            };
            if one_page && length != page {
                return refuse("a single page has another length");
            }
        }
        if pages > MAX_SECTION_PAGES {
            return refuse("more than 64 MiB");
        }
        let hash_pages = self.sections.iter().filter(|s| s.kind == SectionKind::KernelHashes);
        if hash_pages.count() > 1 {
            return refuse("two pages for hashes");
        }
        Ok(())
    }

    /// Where in its page the table of the kernel's hashes begins, if this firmware checks it.
    pub(super) fn hashes_offset(&self) -> Option<usize> {
        let table = self.hashes_table?;
        let section = self.sections.iter().find(|s| s.kind == SectionKind::KernelHashes)?;
        let offset = table.checked_sub(section.address)?;
        let end = offset.checked_add(HASHES_TABLE_ROOM)?;
        (end <= section.length).then_some(offset as usize)
    }
}

/// The file is mapped so that it ends at 4 GiB.
fn pages_digest(file: &[u8]) -> Result<Hex48, FirmwareError> {
    let start = u64::try_from(file.len())
        .ok()
        .and_then(|length| FOUR_GIB.checked_sub(length))
        .ok_or(FirmwareError::Size(file.len()))?;
    let mut context = GuestContext::default();
    context.measure_pages(start, file);
    Ok(context.digest())
}

/// The table's entries, without its footer.
struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    fn find(file: &'a [u8]) -> Result<Self, FirmwareError> {
        let missing = || FirmwareError::Table("there is none");
        let end = file.len().checked_sub(AFTER_TABLE).ok_or_else(missing)?;
        let (before, length, guid) =
            split_entry_end(file.get(..end).unwrap_or_default()).ok_or_else(missing)?;
        if guid != TABLE {
            return Err(missing());
        }
        length
            .checked_sub(ENTRY_END)
            .and_then(|entries| before.len().checked_sub(entries))
            .and_then(|start| before.get(start..))
            .map(Self)
            .ok_or(FirmwareError::Table("its length"))
    }

    /// The data of one entry. Two of a kind would be read differently by different launchers.
    fn entry(&self, wanted: &[u8; 16]) -> Result<Option<&'a [u8]>, FirmwareError> {
        let mut found = None;
        let mut rest = self.0;
        while !rest.is_empty() {
            let damaged = || FirmwareError::Table("an entry's length");
            let (before, length, guid) = split_entry_end(rest).ok_or_else(damaged)?;
            let start = length
                .checked_sub(ENTRY_END)
                .and_then(|data| before.len().checked_sub(data))
                .ok_or_else(damaged)?;
            let (others, data) = before.split_at_checked(start).ok_or_else(damaged)?;
            if guid == *wanted && found.replace(data).is_some() {
                return Err(FirmwareError::Table("an entry twice"));
            }
            rest = others;
        }
        Ok(found)
    }
}

/// What comes before an entry's end, the length that it states, and its GUID.
fn split_entry_end(bytes: &[u8]) -> Option<(&[u8], usize, [u8; 16])> {
    let (before, guid) = bytes.split_last_chunk::<16>()?;
    let (before, length) = before.split_last_chunk::<2>()?;
    Some((before, usize::from(u16::from_le_bytes(*length)), *guid))
}

fn read_sections(file: &[u8], from_end: Option<u32>) -> Result<Vec<Section>, FirmwareError> {
    let damaged = |reason| FirmwareError::Sections(reason);
    let from_end = from_end.ok_or(damaged("there is no list"))?;
    let start = usize::try_from(from_end)
        .ok()
        .and_then(|distance| file.len().checked_sub(distance))
        .ok_or(damaged("the list is outside of the file"))?;
    let list = file.get(start..).unwrap_or_default();
    let (signature, rest) = list.split_first_chunk::<4>().ok_or(damaged("too short"))?;
    let ([length, version, count], rest) = numbers(rest).ok_or(damaged("too short"))?;
    if signature != b"ASEV" || version != 1 {
        return Err(damaged("another signature or version"));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_SECTIONS);
    let count = count.ok_or(damaged("more than 64"))?;
    if usize::try_from(length).ok() != Some(16 + 12 * count) {
        return Err(damaged("the list's length"));
    }
    let mut sections = Vec::with_capacity(count);
    let mut rest = rest;
    for _ in 0..count {
        let ([address, length, kind], after) = numbers(rest).ok_or(damaged("too short"))?;
        let kind = SectionKind::of(kind).ok_or(damaged("one of unknown kind"))?;
        sections.push(Section { address, length, kind });
        rest = after;
    }
    Ok(sections)
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<([u32; N], &[u8])> {
    let mut rest = bytes;
    let mut values = [0; N];
    for value in &mut values {
        let (number, after) = rest.split_first_chunk()?;
        *value = u32::from_le_bytes(*number);
        rest = after;
    }
    Some((values, rest))
}

impl SectionKind {
    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Memory),
            2 => Some(Self::Secrets),
            3 => Some(Self::CpuId),
            4 => Some(Self::SvsmCallingArea),
            0x10 => Some(Self::KernelHashes),
            _ => None,
        }
    }
}

/// A GUID's bytes in memory, from its digits in reading order.
pub(super) const fn guid(digits: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = digits.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// Fuzz entry: what is read is within its limits and gives the same digest every time.
pub fn fuzz_snp_ovmf(data: &[u8]) {
    use super::launch_digest::{CpuSignature, KernelHashes, LaunchShape};
    let Ok(firmware) = Firmware::parse(data) else { return };
    assert_eq!(firmware.check(), Ok(()));
    let shape = LaunchShape { vcpus: 2, cpu: CpuSignature(0), guest_features: 1 };
    let hashes = KernelHashes::of(b"kernel", b"initramfs", "line");
    let digest = firmware.launch_digest(&shape, Some(&hashes));
    assert_eq!(digest, firmware.launch_digest(&shape, Some(&hashes)));
    if let (Ok(with), Ok(without)) = (digest, firmware.launch_digest(&shape, None)) {
        assert_ne!(with, without, "the hashes are measured");
    }
}
