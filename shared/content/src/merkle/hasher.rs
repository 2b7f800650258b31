//! Streaming root: any slice sizes in, 32 bytes kept per finished segment.

use super::tree::{append_chunks, close_segment};
use super::{Geometry, MerkleError, SEGMENT_CHUNKS, SegmentRoots};
use crate::keccak256::{self, Hash, LEAF};

/// Chunks gathered before hashing when the caller's slices are small, so that a wide
/// kernel still gets whole batches.
const BATCH_BYTES: usize = 8 * LEAF;

#[derive(Debug, Clone, Default)]
pub struct ZgHasher {
    length: u64,
    finished: Vec<Hash>,
    /// Leaves of the segment in progress.
    leaves: Vec<Hash>,
    /// Bytes of the batch in progress, fewer than `BATCH_BYTES`.
    batch: Vec<u8>,
}

impl ZgHasher {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if !self.batch.is_empty() {
            let missing = BATCH_BYTES - self.batch.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.batch.extend_from_slice(now);
            bytes = later;
            if self.batch.len() < BATCH_BYTES {
                return;
            }
            let batch = std::mem::take(&mut self.batch);
            self.take_batches(&batch);
            self.batch = batch;
            self.batch.clear();
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BATCH_BYTES);
        self.take_batches(whole);
        self.batch.extend_from_slice(rest);
    }

    /// A segment is a whole number of batches, so none crosses its end.
    fn take_batches(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (SEGMENT_CHUNKS as usize - self.leaves.len()) * LEAF;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            keccak256::append_leaves(now, &mut self.leaves);
            bytes = later;
            if self.leaves.len() == SEGMENT_CHUNKS as usize {
                let next = Vec::with_capacity(SEGMENT_CHUNKS as usize);
                let leaves = std::mem::replace(&mut self.leaves, next);
                self.finished.push(close_segment(leaves, SEGMENT_CHUNKS));
            }
        }
    }

    /// The segment roots, and through them the root, of what was taken.
    pub fn finish(mut self) -> Result<SegmentRoots, MerkleError> {
        let geometry = Geometry::of(self.length)?;
        append_chunks(&self.batch, &mut self.leaves);
        if !self.leaves.is_empty() {
            let leaves = geometry.leaves_of(self.finished.len() as u64);
            self.finished.push(close_segment(self.leaves, leaves));
        }
        SegmentRoots::from_data_segments(self.finished, geometry)
    }
}
