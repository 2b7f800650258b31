//! Firmware images that are made here, a real one where it is installed, and damaged ones.

use proptest::prelude::*;

use crate::measure::{AcceptedMemory, Code, PageOrder, SectionKind, Tdvf, mrtd, tdvf::fuzz_tdvf};

const FOOTER: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
const TDX: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];

/// One section: data offset, data length, address, length in memory, kind, attributes.
pub(super) type Row = (u32, u32, u64, u64, u32, u32);

/// A variable store of one page, two pages of code, and the memory that firmware accepts.
pub(super) const ROWS: [Row; 6] = [
    (0x1000, 0x2000, 0xffff_d000, 0x2000, 0, 1),
    (0, 0x1000, 0xffff_c000, 0x1000, 1, 0),
    (0, 0, 0x81_0000, 0x1_0000, 3, 0),
    (0, 0, 0x80_b000, 0x2000, 3, 0),
    (0, 0, 0x80_9000, 0x2000, 2, 0),
    (0, 0, 0x80_0000, 0x6000, 3, 0),
];

/// Three pages: the store is 0x11, code counts up by byte; metadata and table are at the end.
pub(super) fn firmware(rows: &[Row]) -> Vec<u8> {
    let mut bytes = vec![0x11; 0x1000];
    bytes.extend((0..0x2000_u32).map(|at| u8::try_from(at % 251).expect("a byte")));
    let mut metadata = b"TDVF".to_vec();
    let words = [16 + 32 * rows.len(), 1, rows.len()];
    metadata
        .extend(words.iter().flat_map(|word| u32::try_from(*word).expect("small").to_le_bytes()));
    for (offset, length, address, memory, kind, attributes) in rows {
        metadata.extend([offset.to_le_bytes(), length.to_le_bytes()].concat());
        metadata.extend([address.to_le_bytes(), memory.to_le_bytes()].concat());
        metadata.extend([kind.to_le_bytes(), attributes.to_le_bytes()].concat());
    }
    let at = 0x2800;
    let end = bytes.len();
    bytes[at..at + metadata.len()].copy_from_slice(&metadata);
    let mut table = vec![0xaa; 4];
    table.extend(22_u16.to_le_bytes());
    table.extend([0x77; 16]);
    table.extend(u32::try_from(end - at).expect("small").to_le_bytes());
    table.extend(22_u16.to_le_bytes());
    table.extend(TDX);
    let length = u16::try_from(table.len() + 18).expect("small");
    table.extend(length.to_le_bytes());
    table.extend(FOOTER);
    let start = end - 32 - table.len();
    bytes[start..end - 32].copy_from_slice(&table);
    bytes
}

pub(super) fn with(index: usize, change: impl Fn(&mut Row)) -> Vec<u8> {
    let mut rows = ROWS;
    change(&mut rows[index]);
    firmware(&rows)
}

fn refused(bytes: &[u8]) -> Code {
    Tdvf::parse(bytes).expect_err("refused").entry()
}

#[test]
fn sections_are_read_in_their_order() {
    let bytes = firmware(&ROWS);
    let tdvf = Tdvf::parse(&bytes).expect("parses");
    let kinds: Vec<_> = tdvf.sections().iter().map(|section| section.kind).collect();
    use SectionKind::{Bfv, Cfv, TdHob, TempMem};
    assert_eq!(kinds, [Bfv, Cfv, TempMem, TempMem, TdHob, TempMem]);
    assert_eq!(tdvf.configuration_volume(&bytes), Some(&[0x11; 0x1000][..]));
    let memory = AcceptedMemory::of(&tdvf).expect("memory");
    assert_eq!(memory.hob_address, 0x80_9000);
    let starts: Vec<_> = memory.ranges.iter().map(|range| range.address).collect();
    assert_eq!(starts, [0x80_0000, 0x80_9000, 0x80_b000, 0x81_0000]);
}

#[test]
fn what_metadata_may_not_say_is_refused() {
    let section = Code::FirmwareSection;
    let cases: Vec<(Vec<u8>, Code)> = vec![
        (vec![], Code::FirmwareLength),
        (vec![0; (16 << 20) + 1], Code::FirmwareLength),
        (vec![0; 4096], Code::FirmwareTable),
        (vec![0; 20], Code::FirmwareTable),
        (with(0, |row| row.2 += 1), section),
        (with(0, |row| row.3 += 1), section),
        (with(0, |row| row.3 = 0x1000), section),
        (with(0, |row| row.3 = 0x3000), section),
        (with(0, |row| row.0 = 0x2000), section),
        (with(0, |row| row.0 = u32::MAX), section),
        (with(0, |row| row.5 = 3), section),
        (with(0, |row| row.5 = 0), section),
        (with(0, |row| row.5 = 4), Code::FirmwareMetadata),
        (with(0, |row| row.4 = 7), Code::FirmwareMetadata),
        (with(1, |row| row.2 = 0xffff_e000), section),
        (with(2, |row| row.3 = 0), section),
        (with(2, |row| row.2 = u64::MAX - 0xfff), section),
        (with(2, |row| row.3 = 65 << 20), section),
        (with(2, |row| row.4 = 2), section),
        (with(4, |row| row.4 = 3), section),
        (with(2, |row| *row = (0, 0, 0x90_0000, 0x1000, 1, 0)), section),
        (firmware(&[ROWS[0]; 0]), section),
    ];
    for (index, (bytes, expected)) in cases.into_iter().enumerate() {
        assert_eq!(refused(&bytes), expected, "case {index}");
    }
}

#[test]
fn damaged_tables_are_refused() {
    let good = firmware(&ROWS);
    let end = good.len();
    let edited = |at: usize, bytes: &[u8]| {
        let mut edited = good.clone();
        edited[at..at + bytes.len()].copy_from_slice(bytes);
        edited
    };
    // From the end: reset vector 32, footer 18 (length, GUID), entry of 22, entry of 22.
    assert_eq!(refused(&edited(end - 34, &[0])), Code::FirmwareTable, "the footer's GUID");
    assert_eq!(refused(&edited(end - 50, &[0, 0])), Code::FirmwareTable, "no room for the footer");
    assert_eq!(refused(&edited(end - 50, &[0xff, 0xff])), Code::FirmwareTable, "before the file");
    assert_eq!(refused(&edited(end - 50, &[63, 0])), Code::FirmwareTable, "half an entry");
    assert_eq!(refused(&edited(end - 68, &[0, 0])), Code::FirmwareTable, "an entry of no length");
    assert_eq!(refused(&edited(end - 68, &[18, 0])), Code::FirmwareTable, "an entry without data");
    assert_eq!(refused(&edited(end - 66, &[0])), Code::FirmwareNotTdx, "another GUID");
    assert_eq!(refused(&edited(end - 88, &TDX)), Code::FirmwareTable, "named twice");
    assert_eq!(refused(&edited(end - 72, &[0xff; 4])), Code::FirmwareMetadata, "outside");
    assert_eq!(refused(&edited(end - 72, &[0; 4])), Code::FirmwareMetadata, "at the end");
    for (offset, value) in [(0, 0), (4, 1), (8, 2), (12, 33), (12, 5), (13, 1)] {
        assert_eq!(refused(&edited(0x2800 + offset, &[value])), Code::FirmwareMetadata, "{offset}");
    }
}

/// Computed independently: `python3` with hashlib over the records that the Intel specification defines.
#[test]
fn both_orders_give_the_values_of_an_independent_program() {
    let bytes = firmware(&ROWS);
    let tdvf = Tdvf::parse(&bytes).expect("parses");
    let value = |order| mrtd(&bytes, &tdvf, order).expect("measures").to_string();
    assert_eq!(
        value(PageOrder::SinglePass),
        "f2cea53a15be76bd8ffc501d4d36ad5d3bd34ad3bdfd6aa1980f828821be727a0f0071d56ed46ae233cf7e43629fdbc5"
    );
    assert_eq!(
        value(PageOrder::TwoPass),
        "5b8375c067ffb06e4898b96803c23d95f8b82e7c8a3bbe2f21a5dc183659ad650d82a69181650920c026d2aa4840166e"
    );
}

#[test]
fn every_byte_of_code_and_metadata_moves_mrtd_and_none_of_the_variables_does() {
    let good = firmware(&ROWS);
    let value = |bytes: &[u8]| {
        let tdvf = Tdvf::parse(bytes).ok()?;
        mrtd(bytes, &tdvf, PageOrder::SinglePass).ok()
    };
    let expected = value(&good);
    assert!(expected.is_some());
    for at in (0..0x1000).step_by(97) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert_eq!(value(&flipped), expected, "variable {at}");
    }
    for at in
        (0x1000..good.len()).step_by(7).chain(good.len() - 94..good.len()).chain(0x2800..0x28d0)
    {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert_ne!(value(&flipped), expected, "byte {at}");
        assert_ne!(value(&good[..at]), expected, "cut at {at}");
    }
}

/// Debian's package `ovmf-inteltdx` 2026.08+ds-2, where `SEALTUNE_OVMF_INTELTDX` or the package's own path holds it.
#[test]
fn debians_firmware_measures_as_an_independent_program_says() {
    let path = std::env::var("SEALTUNE_OVMF_INTELTDX")
        .unwrap_or_else(|_| "/usr/share/ovmf/OVMF.inteltdx.ms.fd".to_owned());
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: no firmware {path}");
        return;
    };
    let tdvf = Tdvf::parse(&bytes).expect("parses");
    let memory = AcceptedMemory::of(&tdvf).expect("memory");
    // The layout that firmware before 202505 had as well.
    let hob = memory.digest(2 << 30).expect("2 GiB").to_string();
    assert!(hob.starts_with("0b8772e5b0b41b83"), "{hob}");
    let value = |order| mrtd(&bytes, &tdvf, order).expect("measures").to_string();
    if crate::logs::payload::sha384(&bytes[0x84000..])
        .to_string()
        .starts_with("c290b7b79351bf90f13a414786d4edbc")
    {
        assert_eq!(
            value(PageOrder::SinglePass),
            "a7a1f751abc454f9cbab198ca8d2edb2821935df525c74182b5e776cb0929e8c59aefecce725b0d08a5e9d3d3183bd08"
        );
        assert_eq!(
            value(PageOrder::TwoPass),
            "b90b236113eb4c0d4df4ef590568c14e6028a3a31d7e8ac63dee9845df5008d3ebf82d4f5974e933798f65d7a279b9a9"
        );
    } else {
        println!("skipped: another version of the package");
    }
}

proptest! {
    #[test]
    fn random_damage_never_panics(at in 0_usize..0x3000, value in any::<[u8; 4]>(), cut in 0_usize..0x3000) {
        let mut bytes = firmware(&ROWS);
        let end = (at + 4).min(bytes.len());
        bytes[at..end].copy_from_slice(&value[..end - at]);
        fuzz_tdvf(&bytes);
        fuzz_tdvf(&bytes[..cut]);
        fuzz_tdvf(&bytes[cut..]);
    }

    #[test]
    fn random_sections_never_panic(
        offset in any::<u32>(), length in 0_u32..0x4000, address in any::<u64>(), memory in any::<u64>(),
        kind in 0_u32..9, attributes in 0_u32..5,
    ) {
        fuzz_tdvf(&with(2, |row| *row = (offset, length, address, memory, kind, attributes)));
        fuzz_tdvf(&with(2, |row| *row = (0, length, address & !0xfff, memory & 0xff_f000, kind, attributes)));
    }
}
