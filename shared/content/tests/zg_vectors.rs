//! Roots, proofs, fragments and zero subtrees made by the official 0G SDKs.
//!
//! Read from `SEALTUNE_VECTORS`, else `../shared/vectors` beside the workspace.

#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not helpers")]

use std::path::PathBuf;

use sealtune_content::merkle::{self, Geometry, Root, SegmentProof};
use sealtune_content::{ContentHasher, ContentId, Scheme, SegmentRoots, ZgHasher};
use sealtune_content::{identify, zg_root_parallel};
use serde_json::Value;

fn vectors() -> Option<Value> {
    let folder = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let path = folder.join("storage.json");
    match std::fs::read(&path) {
        Ok(json) => Some(serde_json::from_slice(&json).unwrap()),
        Err(error) => {
            eprintln!("skipped: no vectors at {}: {error}", path.display());
            None
        }
    }
}

fn generate(generator: &str, size: usize) -> Vec<u8> {
    match generator {
        "lin251" => {
            let cycle: Vec<u8> = (0..251_u32).map(|i| ((i * 31 + 7) % 251) as u8).collect();
            let mut bytes = cycle.repeat(size.div_ceil(251));
            bytes.truncate(size);
            bytes
        }
        "xs64" => {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            let mut bytes = Vec::with_capacity(size + 8);
            while bytes.len() < size {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.truncate(size);
            bytes
        }
        "zero" => vec![0; size],
        other => panic!("unknown generator {other}"),
    }
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("no text {key}"))
}

fn number(vector: &Value, key: &str) -> u64 {
    vector[key].as_u64().unwrap_or_else(|| panic!("no number {key}"))
}

fn root(hex_text: &str) -> Root {
    let mut root = Root::default();
    hex::decode_to_slice(hex_text.strip_prefix("0x").unwrap(), &mut root).unwrap();
    root
}

fn bytes_of(vector: &Value) -> Vec<u8> {
    generate(text(vector, "generator"), number(vector, "size") as usize)
}

#[test]
fn roots() {
    let Some(all) = vectors() else { return };
    let list = all["roots"].as_array().unwrap();
    assert!(list.len() >= 149);
    for vector in list {
        let bytes = bytes_of(vector);
        let expected = root(text(vector, "root"));
        let roots = zg_root_parallel(bytes.as_slice(), 2).unwrap();
        assert_eq!(*roots.root(), expected, "{} {}", vector["generator"], vector["size"]);

        let geometry = roots.geometry();
        assert_eq!(geometry.chunks(), number(vector, "chunks"));
        assert_eq!(geometry.padded_chunks(), number(vector, "padded_chunks"));
        assert_eq!(geometry.data_segments(), number(vector, "segments_with_data"));
        assert_eq!(geometry.segments(), number(vector, "segments_padded"));

        if bytes.len() <= 20 << 20 {
            let mut hasher = ZgHasher::new();
            // An odd slice size, so that batches and segments never line up with slices.
            bytes.chunks(70_001).for_each(|slice| hasher.update(slice));
            assert_eq!(hasher.finish().unwrap(), roots);
        }
    }
}

#[test]
fn a_hundred_megabytes_in_one_stream() {
    let Some(all) = vectors() else { return };
    let list = all["roots"].as_array().unwrap();
    let vector = list.iter().max_by_key(|vector| number(vector, "size")).unwrap();
    assert_eq!(number(vector, "size"), 104_857_600);
    let bytes = bytes_of(vector);
    let id = identify(bytes.as_slice(), Scheme::Zg).unwrap();
    let expected = ContentId::Zg { root: root(text(vector, "root")), length: 104_857_600 };
    assert_eq!(id, expected);
}

#[test]
#[ignore = "256 MiB"]
fn big_files() {
    let Some(all) = vectors() else { return };
    for vector in all["big_files"].as_array().unwrap() {
        let bytes = bytes_of(vector);
        let roots = zg_root_parallel(bytes.as_slice(), 2).unwrap();
        assert_eq!(*roots.root(), root(text(vector, "root")));
    }
}

#[test]
fn segment_proofs() {
    let Some(all) = vectors() else { return };
    let list = all["segment_proofs"].as_array().unwrap();
    assert!(list.len() >= 18);
    for vector in list {
        let bytes = bytes_of(vector);
        let (length, index) = (bytes.len() as u64, number(vector, "index"));
        let geometry = Geometry::of(length).unwrap();
        assert_eq!(geometry.segments(), number(vector, "num_segments_padded"));

        let json = serde_json::json!({ "lemma": vector["lemma"], "path": vector["path"] });
        let proof = SegmentProof::from_json(json.to_string().as_bytes()).unwrap();
        let file_root = root(text(vector, "root"));
        let segment = root(text(vector, "segment_root"));
        proof.verify_root(&file_root, geometry, index, &segment).unwrap();

        let roots = zg_root_parallel(bytes.as_slice(), 2).unwrap();
        assert_eq!(roots.all_roots()[index as usize], segment);
        assert_eq!(roots.prove(index).unwrap(), proof);

        let Ok(range) = geometry.byte_range(index) else { continue };
        let exact = &bytes[range.start as usize..range.end as usize];
        let mut sent = exact.to_vec();
        sent.resize(number(vector, "segment_data_len") as usize, 0);
        for form in [exact, &sent] {
            let accepted = proof.verify(&file_root, length, index, form).unwrap();
            assert_eq!(accepted.bytes(), exact);
            assert_eq!(accepted.offset(), range.start);
        }
    }
}

#[test]
fn fragments_are_files_of_their_own() {
    let Some(all) = vectors() else { return };
    let list = all["fragments"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    for vector in list {
        let bytes = bytes_of(vector);
        let size = number(vector, "fragment_size_effective") as usize;
        let roots: Vec<Root> =
            vector["roots"].as_array().unwrap().iter().map(|r| root(r.as_str().unwrap())).collect();
        let found: Vec<Root> = bytes
            .chunks(size)
            .map(|fragment| {
                let mut hasher = ContentHasher::new(Scheme::Zg);
                hasher.update(fragment);
                *hasher.finish().unwrap().hash()
            })
            .collect();
        assert_eq!(found, roots);
    }
}

#[test]
fn zero_subtrees() {
    let Some(all) = vectors() else { return };
    let list = all["zero_subtree_roots"].as_array().unwrap();
    assert_eq!(list.len(), 21);
    for vector in list {
        let height = number(vector, "height") as usize;
        assert_eq!(merkle::zero_subtree(height), root(text(vector, "root")));
    }
}

#[test]
fn maps_survive_their_encoding() {
    let Some(all) = vectors() else { return };
    for vector in all["roots"].as_array().unwrap().iter().filter(|v| number(v, "size") < 4 << 20) {
        let bytes = bytes_of(vector);
        let roots = zg_root_parallel(bytes.as_slice(), 1).unwrap();
        let length = bytes.len() as u64;
        let map = SegmentRoots::from_bytes(&roots.to_bytes(), length).unwrap();
        let map = map.verify_against(&root(text(vector, "root")), length).unwrap();
        assert_eq!(*map, roots);
    }
}
