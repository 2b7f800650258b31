//! Kernels that are made here, hashed by an independent program, and QEMU's edits as QEMU made them.

use proptest::prelude::*;

use crate::{
    logs::payload::sha384,
    measure::{
        Code, KernelForm,
        authenticode::{authenticode, fuzz_authenticode},
        rtmr1::{kernel_digest, patched},
        rtmr2::{CommandLineForm, command_line_digest, initramfs_digest},
    },
};

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Yes,
    No,
}

/// A bzImage as far as measuring sees it: two sections out of order, a setup header, perhaps room for a signature.
pub(super) fn kernel(signed: Signed, magic: u16) -> Vec<u8> {
    let length = if signed == Signed::Yes { 0x3200 } else { 0x3000 };
    let mut kernel: Vec<u8> =
        (0..length).map(|at| u8::try_from(at % 253).expect("a byte")).collect();
    kernel[..0x400].fill(0);
    put(&mut kernel, 0, b"MZ");
    put32(&mut kernel, 0x3c, 0x40);
    put(&mut kernel, 0x40, b"PE\0\0");
    let directories = if magic == 0x20b { 112 } else { 96 };
    let optional = directories + 6 * 8;
    put(&mut kernel, 0x44, &[0x64, 0x86, 2, 0]);
    put(&mut kernel, 0x54, &u16::try_from(optional).expect("short").to_le_bytes());
    put(&mut kernel, 0x56, &[0x06, 0x02]);
    put(&mut kernel, 0x58, &magic.to_le_bytes());
    put32(&mut kernel, 0x58 + 60, 0x400);
    put32(&mut kernel, 0x58 + 64, 0xdead_beef);
    put32(&mut kernel, 0x58 + directories - 4, 6);
    if signed == Signed::Yes {
        put32(&mut kernel, 0x58 + directories + 32, 0x3000);
        put32(&mut kernel, 0x58 + directories + 36, 0x200);
    }
    let sections: [(&[u8], [u32; 4]); 2] =
        [(b".data", [0x1000, 0x3000, 0xc00, 0x2400]), (b".text", [0x2000, 0x1000, 0x2000, 0x400])];
    for (index, (name, fields)) in sections.iter().enumerate() {
        let at = 0x58 + optional + index * 40;
        put(&mut kernel, at, name);
        for (field, value) in fields.iter().enumerate() {
            put32(&mut kernel, at + 8 + 4 * field, *value);
        }
    }
    setup_header(&mut kernel, 0x7f, 0x7fff_ffff, 0x020f);
    kernel
}

fn setup_header(kernel: &mut [u8], xloadflags: u16, initrd_max: u32, protocol: u16) {
    put(kernel, 0x1f1, &[3]);
    put(kernel, 0x1fe, &[0x55, 0xaa]);
    put(kernel, 0x202, b"HdrS");
    put(kernel, 0x206, &protocol.to_le_bytes());
    put(kernel, 0x211, &[1]);
    put32(kernel, 0x22c, initrd_max);
    put(kernel, 0x234, &[1]);
    put(kernel, 0x236, &xloadflags.to_le_bytes());
    put32(kernel, 0x238, 2047);
}

/// Computed independently with Python's hashlib; the same program reproduces the digest in Debian's signature of its kernel.
#[test]
fn programs_hash_as_an_independent_program_says() {
    for (magic, expected) in [
        (
            0x10b,
            "449901a09bd1264a8b9fe7ad209972e4e5b033c2e0041200c603991b3bb93818b80f392e89c07007edffab53810a02c9",
        ),
        (
            0x20b,
            "3f0f4c895949d822c7ca86929ca40cf119c5f92364091d6da463d19338a42aec4d6774a71bd0bbbb7387802999605a83",
        ),
    ] {
        for signed in [Signed::No, Signed::Yes] {
            let digest = authenticode(&kernel(signed, magic)).expect("a program");
            assert_eq!(digest.to_string(), expected, "signing changes nothing");
        }
    }
}

#[test]
fn every_byte_but_checksum_and_signature_counts() {
    let good = kernel(Signed::Yes, 0x20b);
    let expected = authenticode(&good).expect("a program");
    let directory = 0x58 + 112 + 32;
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 0x02;
        let same = authenticode(&flipped) == Ok(expected);
        let left_out = (0x58 + 64..0x58 + 68).contains(&at) || at >= 0x3000;
        assert_eq!(same, left_out, "byte {at:#x}");
        if (directory..directory + 8).contains(&at) {
            assert!(authenticode(&flipped).is_err(), "byte {at:#x}");
        }
    }
    for length in 0..good.len() {
        assert_ne!(authenticode(&good[..length]), Ok(expected), "{length} bytes");
    }
}

#[test]
fn programs_that_hash_differently_elsewhere_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut kernel = kernel(Signed::No, 0x20b);
        change(&mut kernel);
        authenticode(&kernel).expect_err("refused").entry()
    };
    let section = 0x58 + 112 + 48;
    assert_eq!(refused(&|kernel| kernel.clear()), Code::KernelLength);
    assert_eq!(refused(&|kernel| kernel.push(0)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put(kernel, 0, b"ZM")), Code::KernelPe);
    assert_eq!(refused(&|kernel| put(kernel, 0x40, b"NE")), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, 0x3c, u32::MAX)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, 0x58, 0x107)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, 0x46, 97)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, 0x58 + 60, 0x100)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, section + 20, 0x2200)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, section + 20, 0x2600)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, section + 16, u32::MAX)), Code::KernelPe);
    assert_eq!(refused(&|kernel| put32(kernel, 0x58 + 112 + 36, 8)), Code::KernelPe);
}

/// What QEMU 7.2 offered the firmware through fw_cfg for kernels with these headers.
#[test]
fn edits_are_those_that_qemu_makes() {
    const MAX: u32 = 0x7fff_ffff;
    const OLD: u32 = 0x37ff_ffff;
    for (xloadflags, initrd_max, memory_mib, length, fields) in [
        (0x7f, MAX, 1024_u64, 5000, "0060fd3f88130000"),
        (0x7f, MAX, 2048, 5000, "0060fd7f88130000"),
        (0x7f, MAX, 2700, 70000, "0060bca870110100"),
        (0x7f, MAX, 2816, 70000, "0060fc7f70110100"),
        (0x7f, MAX, 8192, 70000, "0060fc7f70110100"),
        (0x40, OLD, 1024, 5000, "00e0ff3788130000"),
        (0x40, OLD, 4096, 5000, "00e0ff3788130000"),
        (0x02, OLD, 4096, 5000, "0060fd7f88130000"),
    ] {
        let mut original = kernel(Signed::No, 0x20b);
        setup_header(&mut original, xloadflags, initrd_max, 0x020f);
        let edited = patched(&original, length, memory_mib << 20).expect("fits");
        let mut expected = original.clone();
        put(&mut expected, 0x210, &[0xb0, 0x81]);
        put(&mut expected, 0x218, &hex::decode(fields).expect("hex"));
        put(&mut expected, 0x224, &[0, 0xfe, 0, 0, 0, 0, 2, 0]);
        assert_eq!(edited, expected, "{xloadflags:#x} {memory_mib} MiB");
    }
    // A report of QEMU's edits on a real image of another project: the same fields for 11100864 bytes.
    let edited = patched(&kernel(Signed::No, 0x20b), 0x00a9_62c0, 4 << 30).expect("fits");
    assert_eq!(hex::encode(&edited[0x218..0x220]), "0010547fc062a900");
}

#[test]
fn the_form_of_the_kernel_decides_its_digest() {
    let kernel = kernel(Signed::Yes, 0x20b);
    let digest = |form, memory| kernel_digest(&kernel, 5000, memory, form).expect("a digest");
    let two = digest(KernelForm::Patched, 2 << 30);
    assert_eq!(
        two.to_string(),
        "231944808bdd11d914616fbae46195c03582313508b19d0083acd785f4821d5391ec3d2dd606613af02900e9b543d003"
    );
    assert_eq!(two, digest(KernelForm::Patched, 200 << 30));
    assert_ne!(two, digest(KernelForm::Patched, 1 << 30), "low memory moves the initramfs");
    assert_eq!(digest(KernelForm::AsIs, 1), authenticode(&kernel).expect("a program"));
}

#[test]
fn kernels_that_qemu_would_treat_otherwise_are_refused() {
    let good = kernel(Signed::No, 0x20b);
    let code = |change: &dyn Fn(&mut Vec<u8>), length: usize, memory: u64| {
        let mut kernel = good.clone();
        change(&mut kernel);
        patched(&kernel, length, memory).expect_err("refused").entry()
    };
    let nothing = |_: &mut Vec<u8>| {};
    assert_eq!(code(&|kernel| kernel.clear(), 1, 1 << 30), Code::KernelLength);
    assert_eq!(code(&|kernel| put(kernel, 0x202, b"hdrs"), 1, 1 << 30), Code::KernelHeader);
    assert_eq!(code(&|kernel| put(kernel, 0x206, &[0x0b]), 1, 1 << 30), Code::KernelHeader);
    assert_eq!(code(&|kernel| put(kernel, 0x211, &[0]), 1, 1 << 30), Code::KernelHeader);
    assert_eq!(code(&|kernel| kernel.truncate(0x237), 1, 1 << 30), Code::KernelHeader);
    assert_eq!(code(&nothing, 0, 1 << 30), Code::KernelLength);
    assert_eq!(code(&nothing, 1 << 30, 1 << 30), Code::KernelFit);
    assert_eq!(code(&nothing, usize::MAX, 1 << 30), Code::KernelFit);
    assert_eq!(code(&nothing, 1, 0), Code::KernelHeader);
}

/// Computed independently with Python's hashlib.
#[test]
fn command_lines_hash_wide_and_with_the_firmwares_addition() {
    let digest = |line, form| command_line_digest(line, form).expect("a digest").to_string();
    assert_eq!(
        digest("console=ttyS0 quiet", CommandLineForm::InitrdLast),
        "84d8bb0cdce30e79de0d21467e3ded56bd08e8486e8d907178e8c8fadb3a8b08c5ddc0bab090b78b814fc71fbcc1dcc6"
    );
    // A published event of a TDX VM with Ubuntu's kernel 7.0.
    assert_eq!(
        digest("root=LABEL=cloudimg-rootfs ro console=ttyS0", CommandLineForm::InitrdFirst),
        "b8c85d40a1d555a451571e24d7d7c4c331bc15721d6e4b2a5cb5093214c44174822a0916aa4d622d4309644de99cd59c"
    );
    for refused in ["a\0b", "é", &"x".repeat(4097)] {
        for form in CommandLineForm::ALL {
            let error = command_line_digest(refused, form).expect_err("refused");
            assert_eq!(error.entry(), Code::CommandLine);
        }
    }
    assert_eq!(initramfs_digest(b"x"), Ok(sha384(b"x")));
    assert_eq!(initramfs_digest(b"").expect_err("refused").entry(), Code::KernelLength);
}

proptest! {
    #[test]
    fn random_damage_never_panics(at in 0_usize..0x260, value in any::<[u8; 4]>(), cut in 0_usize..0x3200) {
        let mut bytes = kernel(Signed::Yes, 0x20b);
        put(&mut bytes, at, &value);
        fuzz_authenticode(&bytes);
        fuzz_authenticode(&bytes[..cut]);
        let _ = patched(&bytes, cut, u64::from(u32::from_le_bytes(value)));
        let _ = patched(&bytes[..cut], cut, 1 << 31);
    }
}
