//! Segment proofs as 0G storage nodes send them: `{"lemma":["0x…"],"path":[true]}`.
//!
//! `lemma` is the segment root, the siblings from the bottom up, and the file's root;
//! `path[j]` says that the running node is the left child. The path carries no
//! information beyond the segment's position, so it must equal the position's own path:
//! a check that follows the sender's path, or skips the root when the path is empty,
//! accepts forged segments.

use serde::{Deserialize, Serialize};

use super::tree::segment_root;
use super::{AcceptedSegment, Geometry, MerkleError, Root};
use crate::keccak256;

/// The longest path is 46 steps (2^46 segments); 48 lemmas of 69 bytes fit easily.
pub const MAX_PROOF_JSON: usize = 8 * 1024;

const MAX_PATH: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "ProofJson", try_from = "ProofJson")]
pub struct SegmentProof {
    lemma: Vec<Root>,
    path: Vec<bool>,
}

/// A foreign format: unknown fields are tolerated.
#[derive(Clone, Serialize, Deserialize)]
struct ProofJson {
    lemma: Vec<String>,
    path: Vec<bool>,
}

impl From<SegmentProof> for ProofJson {
    fn from(proof: SegmentProof) -> Self {
        let lemma = proof.lemma.iter().map(|root| format!("0x{}", hex::encode(root))).collect();
        Self { lemma, path: proof.path }
    }
}

impl TryFrom<ProofJson> for SegmentProof {
    type Error = MerkleError;

    fn try_from(json: ProofJson) -> Result<Self, MerkleError> {
        let lemma = json
            .lemma
            .iter()
            .map(|text| {
                let mut root = Root::default();
                let digits = text.strip_prefix("0x").unwrap_or(text);
                hex::decode_to_slice(digits, &mut root).map_err(|_| MerkleError::ProofFormat)?;
                Ok(root)
            })
            .collect::<Result<_, MerkleError>>()?;
        Self::new(lemma, json.path)
    }
}

impl SegmentProof {
    pub fn new(lemma: Vec<Root>, path: Vec<bool>) -> Result<Self, MerkleError> {
        if lemma.is_empty() || lemma.len() > MAX_PATH + 2 || path.len() > MAX_PATH {
            return Err(MerkleError::ProofFormat);
        }
        Ok(Self { lemma, path })
    }

    pub fn from_json(json: &[u8]) -> Result<Self, MerkleError> {
        if json.len() > MAX_PROOF_JSON {
            return Err(MerkleError::ProofFormat);
        }
        serde_json::from_slice(json).map_err(|_| MerkleError::ProofFormat)
    }

    pub fn lemma(&self) -> &[Root] {
        &self.lemma
    }

    pub fn path(&self) -> &[bool] {
        &self.path
    }

    pub(super) fn create(segment_roots: &[Root], index: u64) -> Result<Self, MerkleError> {
        let segments = segment_roots.len() as u64;
        let position = usize::try_from(index).ok().filter(|i| *i < segment_roots.len());
        let Some(mut position) = position else {
            return Err(MerkleError::SegmentIndex { index, segments });
        };
        let mut row = segment_roots.to_vec();
        let mut lemma = vec![row[position]];
        let mut path = Vec::new();
        while row.len() > 1 {
            // An odd last node has no sibling and moves up without a step.
            if let Some(sibling) = row.get(position ^ 1) {
                lemma.push(*sibling);
                path.push(position.is_multiple_of(2));
            }
            keccak256::fold_row(&mut row);
            position /= 2;
        }
        if !path.is_empty() {
            lemma.push(row[0]);
        }
        Self::new(lemma, path)
    }

    /// Checks a segment as a node sent it (exact bytes, or the file's last chunk filled
    /// with zeros) against the root of a file of known length.
    pub fn verify<'a>(
        &self,
        root: &Root,
        length: u64,
        index: u64,
        bytes: &'a [u8],
    ) -> Result<AcceptedSegment<'a>, MerkleError> {
        let geometry = Geometry::of(length)?;
        let accepted = AcceptedSegment::claim_filled(geometry, index, bytes)?;
        let segment = segment_root(accepted.bytes(), geometry.leaves_of(index))?;
        self.verify_root(root, geometry, index, &segment)?;
        Ok(accepted)
    }

    /// Checks that `segment` is the root of segment `index` of the file.
    pub fn verify_root(
        &self,
        root: &Root,
        geometry: Geometry,
        index: u64,
        segment: &Root,
    ) -> Result<(), MerkleError> {
        let expected_path = path_of(index, geometry.segments())?;
        let lemmas = if expected_path.is_empty() { 1 } else { expected_path.len() + 2 };
        if self.path != expected_path || self.lemma.len() != lemmas {
            return Err(MerkleError::ProofPath { index });
        }
        if self.lemma.first() != Some(segment) {
            return Err(MerkleError::SegmentRoot { index });
        }
        let siblings = self.lemma.iter().skip(1);
        let folded = siblings.zip(&self.path).fold(*segment, |running, (sibling, is_left)| {
            if *is_left {
                keccak256::node(&running, sibling)
            } else {
                keccak256::node(sibling, &running)
            }
        });
        // The root is compared in every case, a path without steps included.
        if folded != *root || self.lemma.last() != Some(root) {
            return Err(MerkleError::ProofRoot { index });
        }
        Ok(())
    }
}

/// Steps from leaf `index` up to the root of a tree of `leaves` leaves.
fn path_of(index: u64, leaves: u64) -> Result<Vec<bool>, MerkleError> {
    if index >= leaves {
        return Err(MerkleError::SegmentIndex { index, segments: leaves });
    }
    let (mut index, mut leaves) = (index, leaves);
    let mut path = Vec::new();
    while leaves > 1 {
        let left = leaves.next_power_of_two() / 2;
        let is_left = index < left;
        path.push(is_left);
        if is_left {
            leaves = left;
        } else {
            index -= left;
            leaves -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// A proof that parses survives its own JSON, and proves nothing under a foreign root.
pub fn fuzz_segment_proof(data: &[u8]) {
    let Ok(proof) = SegmentProof::from_json(data) else { return };
    let json = serde_json::to_vec(&proof).unwrap_or_default();
    assert_eq!(SegmentProof::from_json(&json), Ok(proof.clone()));
    let foreign = [0xA5; 32];
    for (index, length) in [(0, 1), (0, 300_000), (1, 300_000), (43, 10_485_763)] {
        let Ok(range) = Geometry::of(length).and_then(|geometry| geometry.byte_range(index)) else {
            continue;
        };
        let zeros = vec![0; (range.end - range.start) as usize];
        assert!(proof.verify(&foreign, length, index, &zeros).is_err());
    }
}
