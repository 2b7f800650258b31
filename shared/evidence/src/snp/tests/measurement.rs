//! Launch digests: figures of another program for made-up firmware, and a real machine's.

use crate::{
    FixedHex, Hex32, Hex48,
    snp::{
        CpuSignature, Firmware, KernelHashes, LaunchShape,
        codes::Code,
        ovmf::{MAX_FIRMWARE_BYTES, PAGE, Section, SectionKind},
    },
};

const LINE: &str = "console=ttyS0 panic=-1";
const LIST_FROM_END: usize = 1024;
const RESET_BLOCK: u128 = 0x00f771de_1a7e_4fcb_890e_68c77e2fb44e;
const HASHES_TABLE: u128 = 0x7255371f_3a3b_4b04_927b_1da6efa8d454;
const SEV_METADATA: u128 = 0xdc886566_984a_4798_a75e_5585a7bf67cc;
const TABLE: u128 = 0x96b582de_1fb2_45f7_baea_a366c55a082d;

/// Made-up firmware of some pages: noise, a list of sections, and the table at its end.
pub(super) fn synthetic(pages: usize, hash_page: bool) -> Vec<u8> {
    let mut file: Vec<u8> = (0..pages * PAGE).map(|at| ((at * 31 + 7) % 251) as u8).collect();
    let mut sections = vec![
        (0x80_0000_u32, 0x9000_u32, 1_u32),
        (0x80_a000, 0x3000, 1),
        (0x80_d000, 0x1000, 2),
        (0x80_e000, 0x1000, 3),
        (0x80_f000, 0x1000, 4),
        (0x81_1000, 0xf000, 1),
    ];
    if hash_page {
        sections.insert(5, (0x81_0000, 0x1000, 0x10));
    }
    let count = sections.len() as u32;
    let mut list = b"ASEV".to_vec();
    for number in [16 + 12 * count, 1, count] {
        list.extend(number.to_le_bytes());
    }
    for (address, length, kind) in sections {
        for number in [address, length, kind] {
            list.extend(number.to_le_bytes());
        }
    }
    let start = file.len() - LIST_FROM_END;
    file[start..start + list.len()].copy_from_slice(&list);
    let table = [
        entry(&0x80_b004_u32.to_le_bytes(), RESET_BLOCK),
        entry(&[0, 0x0c, 0x81, 0, 0, 4, 0, 0], HASHES_TABLE),
        entry(&(LIST_FROM_END as u32).to_le_bytes(), SEV_METADATA),
    ]
    .concat();
    let footer = [&(table.len() as u16 + 18).to_le_bytes()[..], &in_memory(TABLE)].concat();
    let table = [table, footer].concat();
    let end = file.len() - 32;
    file[end - table.len()..end].copy_from_slice(&table);
    file
}

fn entry(data: &[u8], guid: u128) -> Vec<u8> {
    [data, &(data.len() as u16 + 18).to_le_bytes(), &in_memory(guid)].concat()
}

/// A GUID in memory: three little-endian fields, then eight bytes in reading order.
fn in_memory(guid: u128) -> Vec<u8> {
    let bytes = guid.to_be_bytes();
    let mut fields = bytes.to_vec();
    fields[0..4].reverse();
    fields[4..6].reverse();
    fields[6..8].reverse();
    fields
}

fn digest(text: &str) -> Hex48 {
    text.parse().expect("48 bytes of hex")
}

fn sha256(text: &str) -> Hex32 {
    text.parse().expect("32 bytes of hex")
}

/// Figures of `sev-snp-measure` 0.0.13 for the same file, kernel, initramfs and line.
#[test]
fn made_up_firmware_measures_as_another_program_says() {
    let firmware = Firmware::parse(&synthetic(2, true)).expect("firmware");
    assert_eq!(
        firmware.pages,
        digest(
            "38e46192a14b937827940de5cf879e222b574a7ed349c24aef78c08cac44ab69ddf16a429beaffbe56bff55f26f6eb87"
        )
    );
    let hashes = KernelHashes::of(b"kernel bytes", b"initramfs bytes", LINE);
    for (vcpus, model, guest_features, kernel, expected) in [
        (
            1,
            "EPYC-v4",
            1,
            Some(&hashes),
            "238bc2d061288863f45641893481c4b7b972cc165662873bcdd8e7f413e218e0a39d57d3b53c5d0a54cb6772e1210867",
        ),
        (
            4,
            "EPYC-Milan",
            1,
            Some(&hashes),
            "b7362121c8757fafed0dbf84908f790d35fec98566519a0df74feb0262c45b4197f33ecbff460c1815e91a946108d159",
        ),
        (
            2,
            "EPYC-Genoa",
            0x21,
            Some(&hashes),
            "1e9839fdff6a59e7d089e05b566442514544257c5bac95cd062abbeb4bfa580f7f1e3542892dacff8e5956a5ec280371",
        ),
        (
            64,
            "EPYC-Rome",
            1,
            Some(&hashes),
            "3967b84c5a0e7aa28d515f8f464d9623c4238b270d3c8b3b4f32ea53ff5f0f7c68526b070040215e347e3a707e98df27",
        ),
        (
            1,
            "EPYC-v4",
            1,
            None,
            "79c83f190661da9ae26c064f79a991814988156ab495f7107af9683262a6de71019e098bd016768af94a0dc5190e62c8",
        ),
        (
            1,
            "EPYC-v4",
            1,
            Some(&KernelHashes::of(b"kernel bytes", b"", "")),
            "27b9d3c6057634c286c97bd2ad86741741011449590628bd2ccd92cef658578c9abbc3ddb20120921a3674ae4e191e7a",
        ),
    ] {
        let cpu = CpuSignature::of_qemu_model(model).expect("a known model");
        let shape = LaunchShape { vcpus, cpu, guest_features };
        assert_eq!(firmware.launch_digest(&shape, kernel), Ok(digest(expected)), "{vcpus} {model}");
    }
    let without = Firmware::parse(&synthetic(3, false)).expect("firmware");
    let cpu = CpuSignature::of_qemu_model("EPYC-Turin").expect("a known model");
    let expected = "cc438784c64a83ca84570f7efb1993dcbb7c3ab763caed4de7ff7c14db93aada23169fa07839f39fad761cfdd10b35e2";
    let shape = LaunchShape { vcpus: 2, cpu, guest_features: 1 };
    assert_eq!(without.launch_digest(&shape, None), Ok(digest(expected)));
}

/// A VM that ran on a Milan machine: what its maker published about it leads to what its processor measured.
#[test]
fn a_real_machines_measurement() {
    let memory = |address, length| Section { address, length, kind: SectionKind::Memory };
    let page = |address, kind| Section { address, length: 0x1000, kind };
    let firmware = Firmware {
        pages: digest(
            "ffb57e393469a497c0e3b07bd1c97d8611e555f464d14491837665893ac642b263a71f9507ff100a847897fe0c3f8c6f",
        ),
        sections: vec![
            memory(0x80_0000, 0x9000),
            memory(0x80_a000, 0x3000),
            page(0x80_d000, SectionKind::Secrets),
            page(0x80_e000, SectionKind::CpuId),
            page(0x80_f000, SectionKind::SvsmCallingArea),
            memory(0x81_1000, 0xf000),
            page(0x81_0000, SectionKind::KernelHashes),
        ],
        hashes_table: Some(0x81_0c00),
        reset_vector: Some(0x80_b004),
    };
    let hashes = KernelHashes {
        kernel: sha256("dd9ea274ce9a07090b22e8284b0c841b65c021c2d15ca57d0f16731089dd226c"),
        initramfs: sha256("5f844c4a2ca5a3d0711b3db38293b21ba929bb8e0b3c5bc1a779a57f69221c19"),
        command_line: sha256("02c866eb3b7308a4ca10156867bc67e43a9f074da6779a79d43831f3df1d4856"),
    };
    let cpu = CpuSignature::of_qemu_model("EPYC-v4").expect("a known model");
    let shape = LaunchShape { vcpus: 2, cpu, guest_features: 1 };
    let measured = "7f51e17f72a04d5422cb2c00998166536019a217376f3aa45a630e59c805a599847ff250dbffcd07e1ba639771d6f05d";
    assert_eq!(firmware.launch_digest(&shape, Some(&hashes)), Ok(digest(measured)));
    let other = LaunchShape { vcpus: 3, ..shape };
    assert_ne!(firmware.launch_digest(&other, Some(&hashes)), Ok(digest(measured)));
    let kept: Firmware =
        serde_json::from_str(&serde_json::to_string(&firmware).expect("JSON")).expect("reads");
    assert_eq!(kept, firmware);
}

#[test]
fn every_byte_of_firmware_counts_and_damaged_tables_are_refused() {
    let good = synthetic(2, true);
    let shape = LaunchShape { vcpus: 2, cpu: CpuSignature(0x00a0_0f11), guest_features: 1 };
    let measure = |file: &[u8]| Firmware::parse(file).ok()?.launch_digest(&shape, None).ok();
    let expected = measure(&good);
    assert!(expected.is_some());
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_ne!(measure(&flipped), expected, "byte {at}");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Firmware::parse(&file).expect_err("damaged").entry()
    };
    let list = good.len() - LIST_FROM_END;
    let footer = good.len() - 32 - 18;
    for (at, bytes, code) in [
        (footer + 2, &[0; 16][..], Code::FirmwareTable),
        (footer, &[17, 0], Code::FirmwareTable),
        (footer, &[0xff, 0xff], Code::FirmwareTable),
        (footer - 18, &[0xff, 0xff], Code::FirmwareTable),
        (footer - 18, &[3, 0], Code::FirmwareTable),
        (footer - 22, &[0xff, 0xff, 0xff, 0xff], Code::FirmwareSections),
        (footer - 22, &[4, 0, 0, 0], Code::FirmwareSections),
        (list, b"ASEW", Code::FirmwareSections),
        (list + 4, &[0], Code::FirmwareSections),
        (list + 8, &[2], Code::FirmwareSections),
        (list + 12, &[0xff, 0xff, 0xff, 0xff], Code::FirmwareSections),
        (list + 16, &[1], Code::FirmwareSections),
        (list + 20, &[0, 0, 0, 0], Code::FirmwareSections),
        (list + 20, &[0, 0, 0, 0xff], Code::FirmwareSections),
        (list + 24, &[9], Code::FirmwareSections),
        (list + 24, &[3], Code::FirmwareSections),
        (list + 48, &[0x10], Code::FirmwareSections),
    ] {
        assert_eq!(changed(at, bytes), code, "{at:#x} {bytes:?}");
    }
    let wrong_sizes =
        [vec![], vec![0; PAGE - 1], vec![0; PAGE + 1], vec![0; MAX_FIRMWARE_BYTES + PAGE]];
    for file in wrong_sizes {
        assert_eq!(Firmware::parse(&file).expect_err("size").entry(), Code::FirmwareSize);
    }
    assert_eq!(Firmware::parse(&[0; PAGE]).expect_err("no table").entry(), Code::FirmwareTable);
}

#[test]
fn an_entry_twice_is_read_by_nobody() {
    let mut file = synthetic(2, true);
    // The reset block's GUID made equal to that of the hashes' table.
    let end = file.len() - 32 - 18;
    let (hashes, reset) = (end - 22 - 16, end - 22 - 26 - 16);
    file.copy_within(hashes..hashes + 16, reset);
    assert_eq!(Firmware::parse(&file).expect_err("twice").entry(), Code::FirmwareTable);
}

#[test]
fn shapes_have_limits() {
    let mut firmware = Firmware::parse(&synthetic(2, true)).expect("firmware");
    let shape = |vcpus| LaunchShape { vcpus, cpu: CpuSignature(0), guest_features: 1 };
    for vcpus in [0, 1025, u32::MAX] {
        let error = firmware.launch_digest(&shape(vcpus), None).expect_err("out of limits");
        assert_eq!(error.entry(), Code::ShapeField);
    }
    firmware.reset_vector = None;
    assert!(firmware.launch_digest(&shape(1), None).is_ok());
    let error = firmware.launch_digest(&shape(2), None).expect_err("no reset vector");
    assert_eq!(error.entry(), Code::FirmwareResetVector);
    // The table of hashes must lie within the page that the firmware checks.
    let hashes = KernelHashes {
        kernel: FixedHex::ZERO,
        initramfs: FixedHex::ZERO,
        command_line: FixedHex::ZERO,
    };
    for table in [None, Some(0x80_0000), Some(0x81_0f51), Some(0x81_1000)] {
        firmware.hashes_table = table;
        let error = firmware.launch_digest(&shape(1), Some(&hashes)).expect_err("no room");
        assert_eq!(error.entry(), Code::FirmwareKernelHashes, "{table:x?}");
    }
    firmware.sections[0].length = 0x1001;
    let error = firmware.launch_digest(&shape(1), None).expect_err("half a page");
    assert_eq!(error.entry(), Code::FirmwareSections);
}

#[test]
fn signatures_of_processors() {
    for (family, model, stepping, name) in [
        (23, 1, 2, "EPYC"),
        (23, 49, 0, "EPYC-Rome-v4"),
        (25, 1, 1, "EPYC-Milan-v2"),
        (25, 17, 0, "EPYC-Genoa"),
        (26, 0, 0, "EPYC-Turin"),
    ] {
        let made = CpuSignature::new(family, model, stepping).expect("in limits");
        assert_eq!(Some(made), CpuSignature::of_qemu_model(name), "{name}");
    }
    for (family, model, stepping) in [(6, 1, 1), (25, 256, 0), (25, 1, 16), (300, 0, 0)] {
        assert!(CpuSignature::new(family, model, stepping).is_err());
    }
    assert_eq!(CpuSignature::of_qemu_model("host"), None);
}
