//! Keccak-256 over the only two input sizes a 0G tree has: 256-byte leaves and 64-byte nodes.
//!
//! Fixed sizes make the sponge a handful of lines over the bare permutation, and whole
//! rows of the tree are handed in at once so that a wide kernel can take many messages.

use tiny_keccak::keccakf;

pub(crate) type Hash = [u8; 32];

pub(crate) const LEAF: usize = 256;
const RATE_LANES: usize = 17;

/// Appends the hash of each whole 256-byte leaf of `data`.
pub(crate) fn append_leaves(data: &[u8], out: &mut Vec<Hash>) {
    let (leaves, rest) = data.as_chunks::<LEAF>();
    debug_assert!(rest.is_empty(), "callers pad the last leaf");
    out.extend(leaves.iter().map(leaf));
}

/// Replaces a row of nodes by the row above it; an odd last node moves up unchanged.
pub(crate) fn fold_row(row: &mut Vec<Hash>) {
    let above = row.len().div_ceil(2);
    for i in 0..row.len() / 2 {
        row[i] = node(&row[2 * i], &row[2 * i + 1]);
    }
    if row.len() % 2 == 1 {
        row[above - 1] = row[row.len() - 1];
    }
    row.truncate(above);
}

pub(crate) fn leaf(bytes: &[u8; LEAF]) -> Hash {
    let (lanes, _) = bytes.as_chunks::<8>();
    let mut state = [0_u64; 25];
    absorb(&mut state, &lanes[..RATE_LANES]);
    keccakf(&mut state);
    let rest = &lanes[RATE_LANES..];
    absorb(&mut state, rest);
    close(&mut state, rest.len())
}

pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    let mut state = [0_u64; 25];
    let (left, _) = left.as_chunks::<8>();
    let (right, _) = right.as_chunks::<8>();
    absorb(&mut state, left);
    absorb(&mut state[4..], right);
    close(&mut state, 8)
}

fn absorb(state: &mut [u64], lanes: &[[u8; 8]]) {
    for (word, lane) in state.iter_mut().zip(lanes) {
        *word ^= u64::from_le_bytes(*lane);
    }
}

/// Original Keccak padding (0x01 … 0x80), not SHA-3's.
fn close(state: &mut [u64; 25], used_lanes: usize) -> Hash {
    state[used_lanes] ^= 1;
    state[RATE_LANES - 1] ^= 1 << 63;
    keccakf(state);
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(8).zip(&*state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tiny_keccak::{Hasher, Keccak};

    fn reference(parts: &[&[u8]]) -> Hash {
        let mut keccak = Keccak::v256();
        for part in parts {
            keccak.update(part);
        }
        let mut hash = [0; 32];
        keccak.finalize(&mut hash);
        hash
    }

    proptest! {
        #[test]
        fn equals_another_implementation(
            data in proptest::collection::vec(any::<u8>(), 256 * 21),
            leaves in 0..=21_usize,
        ) {
            let mut row = Vec::new();
            append_leaves(&data[..leaves * LEAF], &mut row);
            let mut expected: Vec<Hash> =
                data[..leaves * LEAF].chunks(LEAF).map(|leaf| reference(&[leaf])).collect();
            prop_assert_eq!(&row, &expected);
            while expected.len() > 1 {
                expected = expected
                    .chunks(2)
                    .map(|pair| match pair {
                        [left, right] => reference(&[left, right]),
                        [odd] => *odd,
                        _ => unreachable!(),
                    })
                    .collect();
                fold_row(&mut row);
                prop_assert_eq!(&row, &expected);
            }
        }
    }
}
