//! What sealing costs: streams by throughput, HPKE, signatures and frames by the piece.
//!
//! `cargo bench -p sealtune-seal`
#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to report")]

use divan::{Bencher, black_box, counter::BytesCount};
use sealtune_seal::{
    OwnerKey, RecipientKeyPair, Secret, Suite,
    frames::{FrameKind, FrameSealer, MAX_FRAME_DATA},
    hpke, owner,
    stream::{ChunkSize, ObjectKind, Opener, Sealer},
};

fn main() {
    divan::main();
}

const OBJECT: usize = 64 << 20;
/// Data arrives in pieces of about this size from a socket.
const PIECE: usize = 256 << 10;
const CHUNK_SIZES: [u32; 3] = [4096, 65_536, 1 << 20];

fn seal_object(key: &Secret<[u8; 32]>, size: ChunkSize, plain: &[u8], out: &mut Vec<u8>) {
    let (mut sealer, header) =
        Sealer::with_chunk_size(key, ObjectKind::Dataset, b"bench", size).expect("sealer");
    out.extend_from_slice(&header);
    for piece in plain.chunks(PIECE) {
        sealer.push(piece, out).expect("push");
    }
    sealer.finish(out).expect("finish");
}

#[divan::bench(args = CHUNK_SIZES, sample_count = 10)]
fn stream_seal(bencher: Bencher<'_, '_>, chunk: u32) {
    let (key, plain) = (Secret::new([1; 32]), vec![7; OBJECT]);
    let size = ChunkSize::new(chunk).expect("allowed");
    let mut out = Vec::with_capacity(OBJECT + OBJECT / 64);
    bencher.counter(BytesCount::new(OBJECT)).bench_local(|| {
        out.clear();
        seal_object(&key, size, black_box(&plain), &mut out);
    });
}

#[divan::bench(args = CHUNK_SIZES, sample_count = 10)]
fn stream_open(bencher: Bencher<'_, '_>, chunk: u32) {
    let key = Secret::new([1; 32]);
    let mut sealed = Vec::new();
    seal_object(&key, ChunkSize::new(chunk).expect("allowed"), &vec![7; OBJECT], &mut sealed);
    let mut out = Vec::with_capacity(OBJECT + OBJECT / 64);
    bencher.counter(BytesCount::new(OBJECT)).bench_local(|| {
        out.clear();
        let mut opener = Opener::new(&key, ObjectKind::Dataset, b"bench");
        for piece in black_box(&sealed).chunks(PIECE) {
            opener.push(piece, &mut out).expect("push");
        }
        opener.finish(&mut out).expect("finish");
    });
}

#[divan::bench(args = Suite::ALL)]
fn hpke_generate(suite: Suite) -> RecipientKeyPair {
    RecipientKeyPair::generate(suite).expect("generate")
}

#[divan::bench(args = Suite::ALL)]
fn hpke_seal(bencher: Bencher<'_, '_>, suite: Suite) {
    let pair = RecipientKeyPair::generate(suite).expect("generate");
    let public = pair.public().as_bytes();
    bencher.bench(|| hpke::seal(suite, public, b"info", b"", black_box(&[1; 32])).expect("seal"));
}

#[divan::bench(args = Suite::ALL)]
fn hpke_open(bencher: Bencher<'_, '_>, suite: Suite) {
    let pair = RecipientKeyPair::generate(suite).expect("generate");
    let sealed = hpke::seal(suite, pair.public().as_bytes(), b"info", b"", &[1; 32]).expect("seal");
    bencher.bench_local(|| pair.open(black_box(&sealed), b"info", b"").expect("open"));
}

#[divan::bench]
fn owner_sign(bencher: Bencher<'_, '_>) {
    let key = OwnerKey::generate(Suite::X25519).expect("generate");
    bencher.bench_local(|| key.sign(black_box(&[3; 32])).expect("sign"));
}

#[divan::bench]
fn owner_verify(bencher: Bencher<'_, '_>) {
    let key = OwnerKey::generate(Suite::X25519).expect("generate");
    let (public, signature) = (key.signing_public(), key.sign(&[3; 32]).expect("sign"));
    bencher.bench(|| owner::verify(&public, black_box(&[3; 32]), &signature).expect("verify"));
}

#[divan::bench]
fn frame_seal(bencher: Bencher<'_, '_>) {
    let mut sealer =
        FrameSealer::new(&Secret::new([1; 32]), FrameKind::Log, &[2; 32]).expect("sealer");
    bencher
        .counter(BytesCount::new(MAX_FRAME_DATA))
        .bench_local(|| sealer.seal(black_box(&[b'x'; MAX_FRAME_DATA])).expect("seal"));
}
