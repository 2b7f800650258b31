//! The three ACPI blobs that QEMU hands to the firmware and RTMR0 holds: tables, RSDP and the loader's script.
//!
//! Source: ACPI 6.5 (headers of tables), QEMU's `bios-linker-loader` (128-byte commands). Only the tables depend on more
//! than their own layout; RSDP and script follow from where each table begins, so a recording of the tables is enough where
//! they are the usual seven.

use super::{
    error::MeasureError,
    field::{array, size_at},
};
use crate::{fixed_hex::Hex48, logs::payload::sha384};

pub const MAX_TABLES_BYTES: usize = 2 << 20;

const TABLES_FILE: &[u8] = b"etc/acpi/tables";
const RSDP_FILE: &[u8] = b"etc/acpi/rsdp";
const COMMAND: usize = 128;
const SCRIPT: usize = 4096;
const NAME: usize = 56;
const HEADER: usize = 36;
const CHECKSUM: u32 = 9;

/// QEMU's tables in QEMU's order, for a q35 machine without HPET.
const ORDER: [(&[u8; 4], Length); 7] = [
    (b"FACS", Length::Always(64)),
    (b"DSDT", Length::Any),
    (b"FACP", Length::Always(244)),
    (b"APIC", Length::Any),
    (b"MCFG", Length::Always(60)),
    (b"WAET", Length::Always(40)),
    (b"RSDT", Length::Always(52)),
];

#[derive(Debug, Clone, Copy)]
enum Length {
    Always(usize),
    Any,
}

impl Length {
    fn admits(self, length: usize) -> bool {
        match self {
            Self::Always(only) => length == only,
            Self::Any => length >= HEADER,
        }
    }
}

/// Where each table begins and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiTables {
    layout: [(u32, u32); ORDER.len()],
}

impl AcpiTables {
    /// Reads the layout of an `etc/acpi/tables` blob; behind the last table only zero bytes may follow.
    pub fn parse(tables: &[u8]) -> Result<Self, MeasureError> {
        if tables.len() > MAX_TABLES_BYTES {
            return Err(MeasureError::AcpiTables("they are longer than 2 MiB"));
        }
        let mut layout = [(0, 0); ORDER.len()];
        let mut at = 0;
        for (place, (signature, admitted)) in layout.iter_mut().zip(ORDER) {
            if array(tables, at).as_ref() != Some(signature) {
                return Err(MeasureError::AcpiTables("they are not the usual seven, in order"));
            }
            let length = size_at(tables, at + 4).filter(|length| admitted.admits(*length));
            let end = length.and_then(|length| at.checked_add(length));
            let Some(end) = end.filter(|end| *end <= tables.len()) else {
                return Err(MeasureError::AcpiTables(
                    "a table has another length than it can have",
                ));
            };
            let (Ok(start), Ok(length)) = (u32::try_from(at), u32::try_from(end - at)) else {
                return Err(MeasureError::AcpiTables("they are longer than 2 MiB"));
            };
            *place = (start, length);
            at = end;
        }
        let rest = tables.get(at..).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            return Err(MeasureError::AcpiTables("bytes follow the last table"));
        }
        Ok(Self { layout })
    }

    /// The `etc/acpi/rsdp` blob as it is measured: before checksums are filled in.
    pub fn rsdp(&self) -> Vec<u8> {
        let [.., (rsdt, _)] = self.layout;
        [&b"RSD PTR \0BOCHS \0"[..], &rsdt.to_le_bytes()].concat()
    }

    /// The `etc/table-loader` blob.
    pub fn loader(&self) -> Vec<u8> {
        let [_, dsdt, facp, apic, mcfg, waet, rsdt] = self.layout;
        let checksum = |(start, length): (u32, u32)| {
            add_checksum(TABLES_FILE, start + CHECKSUM, start, length)
        };
        let pointer = |table: (u32, u32), offset, size| {
            add_pointer(TABLES_FILE, TABLES_FILE, table.0 + offset, size)
        };
        let commands = [
            allocate(RSDP_FILE, 16, 2),
            allocate(TABLES_FILE, 64, 1),
            checksum(dsdt),
            pointer(facp, 36, 4),
            pointer(facp, 40, 4),
            pointer(facp, 140, 8),
            checksum(facp),
            checksum(apic),
            checksum(mcfg),
            checksum(waet),
            pointer(rsdt, 36, 4),
            pointer(rsdt, 40, 4),
            pointer(rsdt, 44, 4),
            pointer(rsdt, 48, 4),
            checksum(rsdt),
            add_pointer(RSDP_FILE, TABLES_FILE, 16, 4),
            add_checksum(RSDP_FILE, 8, 0, 20),
        ];
        let mut script = commands.concat();
        script.resize(SCRIPT, 0);
        script
    }

    pub fn rsdp_digest(&self) -> Hex48 {
        sha384(&self.rsdp())
    }

    pub fn loader_digest(&self) -> Hex48 {
        sha384(&self.loader())
    }
}

fn name(file: &[u8]) -> Vec<u8> {
    let mut name = file.to_vec();
    name.resize(NAME, 0);
    name
}

fn command(number: u32, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [&number.to_le_bytes()[..], &fields.concat()].concat();
    bytes.resize(COMMAND, 0);
    bytes
}

fn allocate(file: &[u8], align: u32, zone: u8) -> Vec<u8> {
    command(1, &[&name(file), &align.to_le_bytes(), &[zone]])
}

fn add_pointer(destination: &[u8], source: &[u8], offset: u32, size: u8) -> Vec<u8> {
    command(2, &[&name(destination), &name(source), &offset.to_le_bytes(), &[size]])
}

fn add_checksum(file: &[u8], result: u32, start: u32, length: u32) -> Vec<u8> {
    let fields = [&result.to_le_bytes()[..], &start.to_le_bytes(), &length.to_le_bytes()];
    command(3, &[&name(file), &fields.concat()])
}

/// Fuzz entry: tables that parse give a script of its one length, and lie within their bytes.
pub fn fuzz_acpi_tables(data: &[u8]) {
    let Ok(tables) = AcpiTables::parse(data) else { return };
    assert_eq!((tables.loader().len(), tables.rsdp().len()), (SCRIPT, 20));
    let ends = tables.layout.iter().map(|(start, length)| start + length);
    assert!(ends.clone().all(|end| (end as usize) <= data.len()));
    assert!(ends.is_sorted());
}
