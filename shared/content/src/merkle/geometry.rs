//! How many chunks and segments a file of some length has, padding included.

use std::ops::Range;

use super::MerkleError;

pub const CHUNK_BYTES: u64 = 256;
pub const SEGMENT_CHUNKS: u64 = 1024;
pub const SEGMENT_BYTES: u64 = CHUNK_BYTES * SEGMENT_CHUNKS;

/// The shape of the tree of a file, a function of its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    length: u64,
}

impl Geometry {
    pub fn of(length: u64) -> Result<Self, MerkleError> {
        if length == 0 { Err(MerkleError::Empty) } else { Ok(Self { length }) }
    }

    pub fn length(self) -> u64 {
        self.length
    }

    /// Chunks that hold data.
    pub fn chunks(self) -> u64 {
        self.length.div_ceil(CHUNK_BYTES)
    }

    /// Chunks of the tree: data and zero chunks.
    pub fn padded_chunks(self) -> u64 {
        let chunks = self.chunks();
        let power = chunks.next_power_of_two();
        if power == chunks {
            return chunks;
        }
        chunks.next_multiple_of((power / 16).max(1))
    }

    /// Segments that hold data.
    pub fn data_segments(self) -> u64 {
        self.length.div_ceil(SEGMENT_BYTES)
    }

    /// Segments of the tree: those with data, then those of zeros only.
    pub fn segments(self) -> u64 {
        self.padded_chunks().div_ceil(SEGMENT_CHUNKS)
    }

    /// Leaves of a segment, zero chunks included.
    pub fn leaves_of(self, segment: u64) -> u64 {
        self.padded_chunks()
            .saturating_sub(segment.saturating_mul(SEGMENT_CHUNKS))
            .min(SEGMENT_CHUNKS)
    }

    /// The bytes of the file that a data segment holds.
    pub fn byte_range(self, segment: u64) -> Result<Range<u64>, MerkleError> {
        let segments = self.data_segments();
        if segment >= segments {
            return Err(MerkleError::SegmentIndex { index: segment, segments });
        }
        let start = segment * SEGMENT_BYTES;
        Ok(start..start.saturating_add(SEGMENT_BYTES).min(self.length))
    }
}
