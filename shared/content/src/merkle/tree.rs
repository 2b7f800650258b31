//! Roots of segments and of rows of nodes.

use super::{MerkleError, Root, SEGMENT_BYTES, SEGMENT_CHUNKS};
use crate::keccak256::{self, Hash, LEAF};

/// Height of a full segment's root above its chunks.
pub(super) const SEGMENT_HEIGHT: usize = 10;

const MAX_HEIGHT: usize = 64;

/// Root of `2^height` zero chunks.
pub fn zero_subtree(height: usize) -> Root {
    let mut root = keccak256::leaf(&[0; LEAF]);
    for _ in 0..height.min(MAX_HEIGHT) {
        root = keccak256::node(&root, &root);
    }
    root
}

/// The tree over a row of nodes; `None` of an empty row, which has no root.
pub fn fold(mut row: Vec<Root>) -> Option<Root> {
    while row.len() > 1 {
        keccak256::fold_row(&mut row);
    }
    row.pop()
}

/// Root of one segment: its data bytes, filled up with zeros to `leaves` chunks.
pub fn segment_root(data: &[u8], leaves: u64) -> Result<Root, MerkleError> {
    let found = data.len() as u64;
    let expected = leaves.min(SEGMENT_CHUNKS) * LEAF as u64;
    if data.is_empty() {
        return Err(MerkleError::Empty);
    }
    if found > expected.min(SEGMENT_BYTES) {
        return Err(MerkleError::SegmentSize { index: 0, expected, found });
    }
    let mut row = Vec::with_capacity(SEGMENT_CHUNKS as usize);
    append_chunks(data, &mut row);
    Ok(close_segment(row, leaves))
}

/// Hashes data whose last chunk may be short; a short chunk ends in zeros.
pub(super) fn append_chunks(data: &[u8], row: &mut Vec<Hash>) {
    let (whole, short) = data.split_at(data.len() - data.len() % LEAF);
    keccak256::append_leaves(whole, row);
    if !short.is_empty() {
        let mut last = [0; LEAF];
        last[..short.len()].copy_from_slice(short);
        row.push(keccak256::leaf(&last));
    }
}

/// Root of a non-empty row of at most 1024 leaves, filled up with zero chunks.
pub(super) fn close_segment(mut row: Vec<Hash>, leaves: u64) -> Root {
    let leaves = leaves.min(SEGMENT_CHUNKS) as usize;
    if row.len() < leaves {
        row.resize(leaves, zero_subtree(0));
    }
    fold(row).unwrap_or_default()
}
