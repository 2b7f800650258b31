//! What measuring a launch costs: MRTD of a firmware of today's size, and a kernel of today's size.
//!
//! `cargo bench -p sealtune-evidence --bench measure`
#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to report")]

use divan::{Bencher, black_box, counter::BytesCount};
use sealtune_evidence::measure::{
    KernelForm, PageOrder, Tdvf, authenticode::authenticode, mrtd, rtmr1::kernel_digest,
};

fn main() {
    divan::main();
}

const STORE: usize = 0x84000;
const FIRMWARE: usize = 4 << 20;
const KERNEL: usize = 14 << 20;
const SETUP: usize = 0x1000;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.get_mut(at..at + value.len()).expect("in the file").copy_from_slice(value);
}

fn put32(bytes: &mut [u8], at: usize, value: usize) {
    put(bytes, at, &u32::try_from(value).expect("small").to_le_bytes());
}

/// Code, a variable store and a place for the list of memory.
fn firmware() -> Vec<u8> {
    let mut bytes = vec![0x5a; FIRMWARE];
    let code = FIRMWARE - STORE;
    let base = (1_u64 << 32) - FIRMWARE as u64;
    let sections: [(usize, usize, u64, usize, usize, usize); 3] = [
        (STORE, code, base + STORE as u64, code, 0, 1),
        (0, STORE, base, STORE, 1, 0),
        (0, 0, 0x80_9000, 0x2000, 2, 0),
    ];
    let descriptor = FIRMWARE - 4096;
    put(&mut bytes, descriptor, b"TDVF");
    for (word, value) in [16 + 32 * sections.len(), 1, sections.len()].into_iter().enumerate() {
        put32(&mut bytes, descriptor + 4 + 4 * word, value);
    }
    for (index, (offset, length, address, memory, kind, attributes)) in
        sections.into_iter().enumerate()
    {
        let at = descriptor + 16 + 32 * index;
        put32(&mut bytes, at, offset);
        put32(&mut bytes, at + 4, length);
        put(&mut bytes, at + 8, &address.to_le_bytes());
        put(&mut bytes, at + 16, &(memory as u64).to_le_bytes());
        put32(&mut bytes, at + 24, kind);
        put32(&mut bytes, at + 28, attributes);
    }
    let mut table = 4096_u32.to_le_bytes().to_vec();
    table.extend([22, 0]);
    table.extend(*b"\x35\x65\x7a\xe4\x4a\x98\x98\x47\x86\x5e\x46\x85\xa7\xbf\x8e\xc2");
    table.extend([40, 0]);
    table.extend(*b"\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d");
    put(&mut bytes, FIRMWARE - 32 - table.len(), &table);
    bytes
}

/// One section behind headers with an EFI and a Linux header.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; SETUP];
    bytes.resize(KERNEL, 0x5a);
    put(&mut bytes, 0, b"MZ");
    put32(&mut bytes, 0x3c, 0x40);
    put(&mut bytes, 0x40, b"PE\0\0\x64\x86\x01\0");
    put(&mut bytes, 0x54, &[160, 0]);
    put(&mut bytes, 0x58, &[0x0b, 0x02]);
    put32(&mut bytes, 0x58 + 60, SETUP);
    put32(&mut bytes, 0x58 + 108, 6);
    put32(&mut bytes, 0xf8 + 16, KERNEL - SETUP);
    put32(&mut bytes, 0xf8 + 20, SETUP);
    put(&mut bytes, 0x202, b"HdrS\x0f\x02");
    put(&mut bytes, 0x211, &[1]);
    put32(&mut bytes, 0x22c, 0x7fff_ffff);
    put(&mut bytes, 0x236, &[0x7f, 0]);
    bytes
}

#[divan::bench(args = PageOrder::ALL)]
fn mrtd_of_4_mib(bencher: Bencher<'_, '_>, order: PageOrder) {
    let bytes = firmware();
    bencher.counter(BytesCount::new(FIRMWARE)).bench_local(|| {
        let tdvf = Tdvf::parse(black_box(&bytes)).expect("parses");
        mrtd(&bytes, &tdvf, order).expect("measures")
    });
}

#[divan::bench]
fn kernel_of_14_mib_as_it_is(bencher: Bencher<'_, '_>) {
    let bytes = kernel();
    bencher
        .counter(BytesCount::new(KERNEL))
        .bench_local(|| authenticode(black_box(&bytes)).expect("measures"));
}

#[divan::bench]
fn kernel_of_14_mib_patched(bencher: Bencher<'_, '_>) {
    let bytes = kernel();
    bencher.counter(BytesCount::new(KERNEL)).bench_local(|| {
        kernel_digest(black_box(&bytes), 5 << 20, 2 << 30, KernelForm::Patched).expect("measures")
    });
}
