//! The 0G storage tree (storage SDKs of 2025 and 2026): 256-byte chunks hashed with
//! Keccak-256, chunk count padded with zero chunks, neighbours paired level by level, an
//! odd last node carried up unchanged. 1024 chunks make a segment of 256 KiB, and the
//! tree over the segment roots is the same tree, so a file is known by 32 bytes a segment.
//!
//! The root commits to the padded chunks, not to the length; every function here takes
//! the length from a content id.

mod geometry;
mod hasher;
mod parallel;
mod proof;
mod segment_roots;
mod tree;

pub use geometry::{CHUNK_BYTES, Geometry, SEGMENT_BYTES, SEGMENT_CHUNKS};
pub use hasher::ZgHasher;
pub use parallel::zg_root_parallel;
pub use proof::{MAX_PROOF_JSON, SegmentProof, fuzz_segment_proof};
pub use segment_roots::{AcceptedSegment, SegmentRoots, fuzz_segment_roots};
pub use tree::{fold, segment_root, zero_subtree};

use crate::id::IdError;
use crate::verified::Verified;

/// A Keccak-256 node of the tree.
pub type Root = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    #[error("0G has no root for empty content")]
    Empty,
    #[error("chunk map has {found} bytes, a file of this length has {expected}")]
    MapSize { expected: u64, found: u64 },
    #[error("chunk map does not fold to the root of the content id")]
    MapRoot,
    #[error("segment index {index} is outside the file's {segments} segments")]
    SegmentIndex { index: u64, segments: u64 },
    #[error("segment {index} has {found} bytes instead of {expected}")]
    SegmentSize { index: u64, expected: u64, found: u64 },
    #[error("segment {index} does not have the bytes its root promises")]
    SegmentRoot { index: u64 },
    #[error("proof of segment {index} has another path than the segment's position")]
    ProofPath { index: u64 },
    #[error("proof of segment {index} does not lead to the file's root")]
    ProofRoot { index: u64 },
    #[error("segment proof is not valid JSON of bounded size")]
    ProofFormat,
}

impl MerkleError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => IdError::EmptyZg.code(),
            Self::MapSize { .. } => "ST-CONTENT-10",
            Self::MapRoot => "ST-CONTENT-11",
            Self::SegmentIndex { .. } => "ST-CONTENT-12",
            Self::SegmentSize { .. } => "ST-CONTENT-13",
            Self::SegmentRoot { .. } => "ST-CONTENT-14",
            Self::ProofPath { .. } => "ST-CONTENT-15",
            Self::ProofRoot { .. } => "ST-CONTENT-16",
            Self::ProofFormat => "ST-CONTENT-17",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Empty => IdError::EmptyZg.fix(),
            Self::MapSize { .. } => "fetch the chunk map again, or check the length in the id",
            Self::MapRoot => "the source's chunk map is wrong: take another source",
            Self::SegmentIndex { .. } => "ask for a segment inside the file",
            Self::SegmentSize { .. } | Self::SegmentRoot { .. } => {
                "fetch this segment again, from another source if it stays wrong"
            }
            Self::ProofPath { .. } | Self::ProofRoot { .. } => {
                "the node's proof is wrong: take another node"
            }
            Self::ProofFormat => "the node's answer is not a segment proof: take another node",
        }
    }

    /// One for each code of this module, for the catalogue.
    pub const ALL: [Self; 8] = [
        Self::MapSize { expected: 0, found: 0 },
        Self::MapRoot,
        Self::SegmentIndex { index: 0, segments: 0 },
        Self::SegmentSize { index: 0, expected: 0, found: 0 },
        Self::SegmentRoot { index: 0 },
        Self::ProofPath { index: 0 },
        Self::ProofRoot { index: 0 },
        Self::ProofFormat,
    ];
}

#[cfg(test)]
mod tests;
