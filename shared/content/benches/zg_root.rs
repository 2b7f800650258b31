//! Root of 64 MiB in memory: this crate with one and two threads, and the same tree over
//! tiny-keccak, in one run. `cargo bench -p sealtune-content`

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use sealtune_content::merkle::Root;
use sealtune_content::{Scheme, identify, zg_root_parallel};
use tiny_keccak::{Hasher, Keccak};

const BYTES: usize = 64 << 20;

fn main() {
    divan::main();
}

fn content() -> Vec<u8> {
    (0..BYTES / 8)
        .flat_map(|i| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect()
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn zg_root(bencher: Bencher<'_, '_>, threads: usize) {
    let content = content();
    bencher
        .counter(BytesCount::new(BYTES))
        .bench(|| zg_root_parallel(black_box(content.as_slice()), threads).map(|map| *map.root()));
}

#[divan::bench(sample_count = 10)]
fn streaming_hasher(bencher: Bencher<'_, '_>) {
    let content = content();
    bencher
        .counter(BytesCount::new(BYTES))
        .bench(|| identify(black_box(content.as_slice()), Scheme::Zg).map(|id| *id.hash()));
}

#[divan::bench(sample_count = 10)]
fn sha256(bencher: Bencher<'_, '_>) {
    let content = content();
    bencher
        .counter(BytesCount::new(BYTES))
        .bench(|| identify(black_box(content.as_slice()), Scheme::Sha256).map(|id| *id.hash()));
}

#[divan::bench(sample_count = 10)]
fn tiny_keccak_one_thread(bencher: Bencher<'_, '_>) {
    let content = content();
    bencher.counter(BytesCount::new(BYTES)).bench(|| tiny_keccak_root(black_box(&content)));
}

/// 64 MiB is a power of two of chunks: no padding, and every row pairs up.
fn tiny_keccak_root(content: &[u8]) -> Root {
    fn keccak(bytes: &[u8]) -> Root {
        let mut keccak = Keccak::v256();
        keccak.update(bytes);
        let mut root = Root::default();
        keccak.finalize(&mut root);
        root
    }
    let mut row: Vec<Root> = content.chunks(256).map(keccak).collect();
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| keccak(pair.as_flattened())).collect();
    }
    row[0]
}
