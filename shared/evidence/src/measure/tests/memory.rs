//! The list of memory, variables and ACPI blobs, against digests of real VMs.

use crate::measure::{
    AcceptedMemory, AcpiTables, Code, MemoryRange,
    acpi::fuzz_acpi_tables,
    rtmr0::{GLOBAL_VARIABLE, SECURE_BOOT_VARIABLES, separator_digest, variable_digest},
};

pub(super) fn memory() -> AcceptedMemory {
    let range = |address, length| MemoryRange { address, length };
    AcceptedMemory {
        hob_address: 0x80_9000,
        ranges: vec![
            range(0x80_0000, 0x6000),
            range(0x80_9000, 0x2000),
            range(0x80_b000, 0x2000),
            range(0x81_0000, 0x1_0000),
        ],
    }
}

const GIB: u64 = 1 << 30;

/// The digests are those in the logs of real VMs with so much memory.
#[test]
fn lists_of_memory_hash_as_in_real_vms() {
    for (size, length, expected) in [
        (
            2 * GIB,
            440,
            "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749",
        ),
        (
            64 * GIB,
            488,
            "8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d",
        ),
        (
            200 * GIB,
            488,
            "7f7ecc2f6171698c27412af4940ae787994886c5641825b6c5417d88d207aaa7e2b5262c9d9624b1959c2b3b55a57cbc",
        ),
    ] {
        assert_eq!(memory().hob_list(size).expect("a list").len(), length);
        assert_eq!(memory().digest(size).expect("a digest").to_string(), expected, "{size}");
    }
}

#[test]
fn memory_splits_at_two_gibibytes_from_its_limit_on() {
    let length = |size| memory().hob_list(size).expect("a list").len();
    assert_eq!(length(0xb000_0000 - 4096), 440);
    assert_eq!(length(0xb000_0000), 488);
}

#[test]
fn memory_that_cannot_be_laid_out_is_refused() {
    let code = |memory: AcceptedMemory, size| memory.digest(size).expect_err("refused").entry();
    for size in [0, 1 << 20, 0x82_0000, (16 << 20) - 1, (64 << 40) + 1, u64::MAX] {
        assert_eq!(code(memory(), size), Code::Memory, "{size:#x}");
    }
    let changed = |change: fn(&mut AcceptedMemory)| {
        let mut memory = memory();
        change(&mut memory);
        code(memory, 2 * GIB)
    };
    assert_eq!(changed(|memory| memory.ranges.clear()), Code::RecipeField);
    assert_eq!(changed(|memory| memory.ranges.swap(0, 1)), Code::RecipeField);
    assert_eq!(changed(|memory| memory.ranges[1].address -= 0x4000), Code::RecipeField);
    assert_eq!(changed(|memory| memory.ranges[0].length = 0), Code::RecipeField);
    assert_eq!(changed(|memory| memory.ranges[3].length = u64::MAX), Code::RecipeField);
    assert_eq!(changed(|memory| memory.hob_address = 0), Code::RecipeField);
    let mut above = memory();
    above.ranges[3].address = 0x7000_0000;
    assert_eq!(code(above, 1 << 30), Code::Memory);
}

#[test]
fn variables_that_are_not_set_hash_as_in_real_vms() {
    let expected = [
        "9dc3a1f80bcec915",
        "6f2e3cbc14f9def8",
        "d607c0efb41c0d75",
        "08a74f8963b337ac",
        "18cc6e01f0c6ea99",
    ];
    for ((vendor, name), expected) in SECURE_BOOT_VARIABLES.iter().zip(expected) {
        let digest = variable_digest(vendor, name, &[]).to_string();
        assert!(digest.starts_with(expected), "{name}: {digest}");
    }
    let set = variable_digest(&GLOBAL_VARIABLE, "SecureBoot", &[1]);
    assert_ne!(set, variable_digest(&GLOBAL_VARIABLE, "SecureBoot", &[]));
    assert!(separator_digest().to_string().starts_with("394341b7182cd227"));
}

/// Tables of these lengths, with nothing in them: only their places count.
fn tables(dsdt: usize, apic: usize) -> Vec<u8> {
    let lengths: [(&[u8], usize); 7] = [
        (b"FACS", 64),
        (b"DSDT", dsdt),
        (b"FACP", 244),
        (b"APIC", apic),
        (b"MCFG", 60),
        (b"WAET", 40),
        (b"RSDT", 52),
    ];
    let mut blob = Vec::new();
    for (signature, length) in lengths {
        let start = blob.len();
        blob.extend(signature);
        blob.extend(u32::try_from(length).expect("small").to_le_bytes());
        blob.resize(start + length, 0x5a);
    }
    blob.resize(blob.len() + 500, 0);
    blob
}

/// RSDP and script follow from the tables' places: the digests are those in the logs of real VMs, which have these places.
#[test]
fn rsdp_and_script_hash_as_in_real_vms() {
    for (dsdt, apic, loader, rsdp) in [
        (
            9098,
            240,
            "2065dd48d647e4377db277ba203526901a17845e93e0df4c2dfc3ce136e0910324ead1e1c86b8d90c2acdf9c85ffac53",
            "772b0169c66b52e4453fff9e3c6257635ea950ebcc8edd7ef2e2f8241cf6a155f39df01a7c7a194b6bc0abe5de11861d",
        ),
        (
            9012,
            342,
            "0065ea2eac897134bc8c1ac7ae660a8245c0f0f28866839a72ef13ab9614a8362bf9128be707fca27e5b5821b09690f2",
            "602ae20e6b8bd02b77422eae95e4a234164c9c368be2d9e85ed8a5433e0840509b3e0c028bdb807ba3fe85aa265eb423",
        ),
        // What QEMU 7.2 gave to an emulated boot of Debian's firmware.
        (
            8190,
            128,
            "d9053af337d1d14794836d2b5e97ab9e7a70fa57c457e3f61eab07809ea49a0544023fd866323b591a3358af1a86903e",
            "319cc96c1b2659c0d3165287d5b13e908e969563cd8cdd4bce8a95e80accf2302a1ac5addd6f8e120b8f1f03565aad3b",
        ),
    ] {
        let layout = AcpiTables::parse(&tables(dsdt, apic)).expect("the usual seven");
        assert_eq!(layout.loader_digest().to_string(), loader);
        assert_eq!(layout.rsdp_digest().to_string(), rsdp);
    }
}

#[test]
fn other_tables_are_refused_and_damage_never_panics() {
    let good = tables(200, 128);
    let code = |bytes: &[u8]| AcpiTables::parse(bytes).expect_err("refused").entry();
    for at in (0..64 + 200 + 244 + 128 + 60 + 40 + 52).filter(|at| good[*at] != 0x5a) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        assert_eq!(code(&flipped), Code::AcpiTables, "byte {at}");
    }
    let end = good.len() - 500;
    for length in 0..end {
        assert_eq!(code(&good[..length]), Code::AcpiTables, "{length} bytes");
    }
    let mut longer = good.clone();
    longer[end + 3] = 1;
    assert_eq!(code(&longer), Code::AcpiTables);
    assert_eq!(code(&vec![0; (2 << 20) + 1]), Code::AcpiTables);
    let mut lying = good.clone();
    lying[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(code(&lying), Code::AcpiTables);
    lying[68..72].copy_from_slice(&35_u32.to_le_bytes());
    assert_eq!(code(&lying), Code::AcpiTables);
    for at in 0..end {
        let mut flipped = good.clone();
        flipped[at] ^= 0xff;
        fuzz_acpi_tables(&flipped);
    }
}
