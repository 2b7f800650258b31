use proptest::prelude::*;
use tiny_keccak::{Hasher, Keccak};

use super::*;
use crate::hash::HashError;

fn keccak(parts: &[&[u8]]) -> Root {
    let mut keccak = Keccak::v256();
    parts.iter().for_each(|part| keccak.update(part));
    let mut root = Root::default();
    keccak.finalize(&mut root);
    root
}

/// The tree as it is defined, recursion and all, sharing no code with the crate.
fn defined_root(bytes: &[u8]) -> Root {
    fn tree(leaves: &[Root]) -> Root {
        match leaves {
            [only] => *only,
            _ => {
                let mut split = 1;
                while split * 2 < leaves.len() {
                    split *= 2;
                }
                keccak(&[&tree(&leaves[..split]), &tree(&leaves[split..])])
            }
        }
    }
    let mut leaves: Vec<Root> = bytes
        .chunks(256)
        .map(|chunk| {
            let mut full = [0; 256];
            full[..chunk.len()].copy_from_slice(chunk);
            keccak(&[&full])
        })
        .collect();
    let mut power = 1;
    while power < leaves.len() {
        power *= 2;
    }
    let unit = if power == leaves.len() || power < 16 { 1 } else { power / 16 };
    while !leaves.len().is_multiple_of(unit) {
        leaves.push(keccak(&[&[0; 256]]));
    }
    tree(&leaves)
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn roots_of(bytes: &[u8]) -> SegmentRoots {
    let mut hasher = ZgHasher::new();
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn verified(bytes: &[u8]) -> Verified<SegmentRoots> {
    let roots = roots_of(bytes);
    let root = *roots.root();
    roots.verify_against(&root, bytes.len() as u64).unwrap()
}

#[test]
fn the_root_is_the_defined_root_around_every_boundary() {
    for base in [1, 256, 4096, 16 * 256 * 17, 262_144, 2 * 262_144, 3 * 262_144 + 65_536] {
        for length in [base - 1, base, base + 1, base + 255, base + 257] {
            let bytes = sample(length);
            match length {
                0 => assert_eq!(ZgHasher::new().finish(), Err(MerkleError::Empty)),
                _ => assert_eq!(*roots_of(&bytes).root(), defined_root(&bytes), "{length}"),
            }
        }
    }
}

#[test]
fn geometry_of_known_sizes() {
    for (chunks, padded) in [
        (1, 1),
        (16, 16),
        (17, 18),
        (33, 36),
        (65, 72),
        (129, 144),
        (257, 288),
        (1025, 1152),
        (2049, 2304),
        (40_961, 45_056),
        (390_625, 393_216),
    ] {
        assert_eq!(Geometry::of(chunks * 256).unwrap().padded_chunks(), padded);
    }
    let huge = Geometry::of(u64::MAX).unwrap();
    assert_eq!(huge.padded_chunks(), 1 << 56);
    assert_eq!(huge.byte_range(huge.data_segments() - 1).unwrap().end, u64::MAX);
}

#[test]
fn a_map_must_have_the_right_size_root_and_length() {
    let bytes = sample(3 * 262_144 + 1);
    let roots = roots_of(&bytes);
    let map = roots.to_bytes();
    assert_eq!(map.len(), 4 * 32);
    for (size, length) in [(96, 786_433), (128, 786_432), (128, 1_048_577), (127, 786_433)] {
        let decoded = SegmentRoots::from_bytes(&map[..size], length);
        assert!(matches!(decoded, Err(MerkleError::MapSize { .. })), "{size} {length}");
    }
    // A hostile length costs nothing.
    assert!(SegmentRoots::from_bytes(&map, u64::MAX).is_err());

    let mut wrong = map.clone();
    wrong[40] ^= 1;
    let wrong = SegmentRoots::from_bytes(&wrong, 786_433).unwrap();
    assert_eq!(wrong.verify_against(roots.root(), 786_433), Err(MerkleError::MapRoot));
    let root = *roots.root();
    assert!(matches!(
        roots.clone().verify_against(&root, 786_434),
        Err(MerkleError::MapSize { .. })
    ));
    assert!(roots.verify_against(&root, 786_433).is_ok());
}

#[test]
fn only_the_right_bytes_at_the_right_place_pass() {
    let bytes = sample(2 * 262_144 + 1000);
    let map = verified(&bytes);
    let (first, rest) = bytes.split_at(262_144);
    let (second, last) = rest.split_at(262_144);
    assert_eq!(map.check_segment(2, last).unwrap().offset(), 2 * 262_144);
    assert_eq!(map.check_segment(0, first).unwrap().bytes(), first);
    assert_eq!(map.check_segment(0, second), Err(MerkleError::SegmentRoot { index: 0 }));
    assert!(matches!(
        map.check_segment(2, &last[1..]),
        Err(MerkleError::SegmentSize { index: 2, expected: 1000, found: 999 })
    ));
    assert!(matches!(map.check_segment(3, last), Err(MerkleError::SegmentIndex { .. })));
    let mut changed = second.to_vec();
    changed[131_072] ^= 0x80;
    assert_eq!(map.check_segment(1, &changed), Err(MerkleError::SegmentRoot { index: 1 }));
}

#[test]
fn forged_proofs_are_refused() {
    let bytes = sample(16 * 262_144 + 77);
    let length = bytes.len() as u64;
    let roots = roots_of(&bytes);
    let root = *roots.root();
    let geometry = roots.geometry();
    let forged = vec![0x55; 262_144];
    let forged_root = segment_root(&forged, 1024).unwrap();

    // The SDKs accept this one: an empty path with one lemma.
    let empty_path = SegmentProof::new(vec![forged_root], vec![]).unwrap();
    assert_eq!(
        empty_path.verify(&root, length, 0, &forged),
        Err(MerkleError::ProofPath { index: 0 })
    );
    // The same where an empty path is right: the root is still compared.
    let small = sample(5000);
    let small_roots = roots_of(&small);
    let lie = segment_root(&vec![9; 5000], small_roots.geometry().leaves_of(0)).unwrap();
    let one = SegmentProof::new(vec![lie], vec![]).unwrap();
    assert_eq!(
        one.verify(small_roots.root(), 5000, 0, &vec![9; 5000]),
        Err(MerkleError::ProofRoot { index: 0 })
    );
    // A proof for another place.
    let proof = roots.prove(3).unwrap();
    let third = &bytes[3 * 262_144..4 * 262_144];
    assert!(proof.verify(&root, length, 3, third).is_ok());
    assert!(proof.verify(&root, length, 2, third).is_err());
    // One bit anywhere.
    for position in 0..proof.lemma().len() {
        let mut lemma = proof.lemma().to_vec();
        lemma[position][7] ^= 1;
        let bent = SegmentProof::new(lemma, proof.path().to_vec()).unwrap();
        assert!(bent.verify(&root, length, 3, third).is_err(), "lemma {position}");
    }
    for position in 0..proof.path().len() {
        let mut path = proof.path().to_vec();
        path[position] = !path[position];
        let bent = SegmentProof::new(proof.lemma().to_vec(), path).unwrap();
        assert_eq!(
            bent.verify(&root, length, 3, third),
            Err(MerkleError::ProofPath { index: 3 }),
            "path {position}"
        );
    }
    // A fill that is not zero.
    let last = &bytes[16 * 262_144..];
    let proof = roots.prove(16).unwrap();
    let mut filled = last.to_vec();
    filled.resize(256, 0);
    assert_eq!(proof.verify(&root, length, 16, &filled).unwrap().bytes(), last);
    filled[200] = 1;
    assert!(proof.verify(&root, length, 16, &filled).is_err());
    // Padding has a root and a proof, and no bytes.
    assert_eq!((geometry.data_segments(), geometry.segments()), (17, 18));
    let padding = roots.prove(17).unwrap();
    assert!(padding.verify_root(&root, geometry, 17, &zero_subtree(10)).is_ok());
    assert!(padding.verify(&root, length, 17, &[0; 256]).is_err());
}

#[test]
fn proof_json_is_bounded() {
    let many = vec![format!("0x{}", "00".repeat(32)); 67];
    let json = serde_json::json!({ "lemma": many, "path": [] }).to_string();
    assert_eq!(SegmentProof::from_json(json.as_bytes()), Err(MerkleError::ProofFormat));
    for bad in ["{}", r#"{"lemma":["0x00"],"path":[]}"#, r#"{"lemma":[],"path":[]}"#, "[", ""] {
        assert_eq!(SegmentProof::from_json(bad.as_bytes()), Err(MerkleError::ProofFormat));
    }
    let newer = format!(r#"{{"lemma":["0x{}"],"path":[],"extra":1}}"#, "Ab".repeat(32));
    assert!(SegmentProof::from_json(newer.as_bytes()).is_ok());
}

#[test]
fn a_failing_reader_fails_the_root() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            let count = self.0.min(buffer.len());
            self.0 -= count;
            Ok(count)
        }
    }
    for threads in [1, 3] {
        let error = zg_root_parallel(Failing(5_000_000), threads).unwrap_err();
        assert!(matches!(error, HashError::Read(_)));
    }
    let empty = zg_root_parallel(std::io::empty(), 2).unwrap_err();
    assert!(matches!(empty, HashError::Merkle(MerkleError::Empty)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_size_has_the_defined_root(length in 1..900_000_usize) {
        let bytes = sample(length);
        let root = defined_root(&bytes);
        prop_assert_eq!(*roots_of(&bytes).root(), root);
        prop_assert_eq!(*zg_root_parallel(bytes.as_slice(), 2).unwrap().root(), root);
    }

    #[test]
    fn slicing_does_not_matter(
        length in 1..700_000_usize,
        slices in proptest::collection::vec(0..40_000_usize, 1..40),
    ) {
        let bytes = sample(length);
        let mut hasher = ZgHasher::new();
        let mut rest = bytes.as_slice();
        for size in slices.iter().cycle().take(2000) {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            hasher.update(now);
            rest = later;
        }
        hasher.update(rest);
        prop_assert_eq!(hasher.finish().unwrap(), roots_of(&bytes));
    }

    #[test]
    fn every_segment_can_be_proven(segments in 1..60_u64, extra in 0..262_144_u64, pick: u64) {
        let length = (segments - 1) * SEGMENT_BYTES + extra + 1;
        let map: Vec<u8> = (0..segments).flat_map(|i| keccak(&[&i.to_le_bytes()])).collect();
        let roots = SegmentRoots::from_bytes(&map, length).unwrap();
        let index = pick % roots.geometry().segments();
        let proof = roots.prove(index).unwrap();
        let segment = roots.all_roots()[index as usize];
        let json = serde_json::to_vec(&proof).unwrap();
        prop_assert!(json.len() <= MAX_PROOF_JSON);
        let proof = SegmentProof::from_json(&json).unwrap();
        prop_assert_eq!(proof.verify_root(roots.root(), roots.geometry(), index, &segment), Ok(()));
        for other in 0..roots.geometry().segments() {
            let moved = proof.verify_root(roots.root(), roots.geometry(), other, &segment);
            let same_place = proof == roots.prove(other).unwrap();
            prop_assert_eq!(moved.is_ok(), same_place);
        }
        fuzz_segment_proof(&json);
        let mut encoded = length.to_le_bytes().to_vec();
        encoded.extend_from_slice(&map);
        fuzz_segment_roots(&encoded);
    }

    #[test]
    fn hostile_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz_segment_roots(&data);
        fuzz_segment_proof(&data);
    }
}
