//! The chunk map: the roots of a file's segments.
//!
//! Only segments with data are listed. Those of padding are known zeros; leaving them
//! out means a map cannot claim anything else about them.

use super::tree::{SEGMENT_HEIGHT, fold, segment_root, zero_subtree};
use super::{CHUNK_BYTES, Geometry, MerkleError, Root, SegmentProof, Verified};
use crate::id::ContentId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRoots {
    geometry: Geometry,
    /// All `geometry.segments()` of them, padding included: the leaves of the upper tree.
    roots: Vec<Root>,
    root: Root,
}

impl SegmentRoots {
    /// Size of the encoded map of a file of `length` bytes.
    pub fn encoded_size(length: u64) -> Result<u64, MerkleError> {
        Ok(Geometry::of(length)?.data_segments() * 32)
    }

    /// Decodes concatenated 32-byte roots. Nothing is trusted yet: see [`Self::verify_against`].
    pub fn from_bytes(bytes: &[u8], length: u64) -> Result<Self, MerkleError> {
        let geometry = Geometry::of(length)?;
        let expected = geometry.data_segments() * 32;
        let found = bytes.len() as u64;
        if found != expected {
            return Err(MerkleError::MapSize { expected, found });
        }
        let (roots, _) = bytes.as_chunks::<32>();
        Self::from_data_segments(roots.to_vec(), geometry)
    }

    pub(super) fn from_data_segments(
        mut roots: Vec<Root>,
        geometry: Geometry,
    ) -> Result<Self, MerkleError> {
        let data_segments = geometry.data_segments();
        let found = roots.len() as u64;
        if found != data_segments {
            return Err(MerkleError::MapSize { expected: data_segments * 32, found: found * 32 });
        }
        // At most an eighth more than what the caller already holds.
        roots.resize(geometry.segments() as usize, zero_subtree(SEGMENT_HEIGHT));
        let root = fold(roots.clone()).ok_or(MerkleError::Empty)?;
        Ok(Self { geometry, roots, root })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.data_roots().as_flattened().to_vec()
    }

    pub fn length(&self) -> u64 {
        self.geometry.length()
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What the map folds to.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The id that these roots and this length stand for.
    pub fn content_id(&self) -> ContentId {
        ContentId::Zg { root: self.root, length: self.geometry.length() }
    }

    /// Roots of the segments that hold data.
    pub fn data_roots(&self) -> &[Root] {
        self.roots.split_at(self.geometry.data_segments() as usize).0
    }

    /// Roots of all segments of the tree.
    pub fn all_roots(&self) -> &[Root] {
        &self.roots
    }

    pub fn verify_against(self, root: &Root, length: u64) -> Result<Verified<Self>, MerkleError> {
        if self.length() != length {
            let expected = Self::encoded_size(length)?;
            return Err(MerkleError::MapSize { expected, found: self.to_bytes().len() as u64 });
        }
        if self.root != *root {
            return Err(MerkleError::MapRoot);
        }
        Ok(Verified::vouch(self))
    }

    /// The proof that a storage node would send with this segment.
    pub fn prove(&self, segment: u64) -> Result<SegmentProof, MerkleError> {
        SegmentProof::create(&self.roots, segment)
    }
}

impl Verified<SegmentRoots> {
    /// Checks one segment's exact bytes; segments may come in any order.
    pub fn check_segment<'a>(
        &self,
        index: u64,
        bytes: &'a [u8],
    ) -> Result<AcceptedSegment<'a>, MerkleError> {
        let geometry = self.geometry();
        let accepted = AcceptedSegment::claim(geometry, index, bytes)?;
        let root = segment_root(bytes, geometry.leaves_of(index))?;
        let promised = usize::try_from(index).ok().and_then(|i| self.data_roots().get(i));
        if promised != Some(&root) {
            return Err(MerkleError::SegmentRoot { index });
        }
        Ok(accepted)
    }
}

/// The bytes of one segment, checked against the root of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedSegment<'a> {
    index: u64,
    offset: u64,
    bytes: &'a [u8],
}

impl<'a> AcceptedSegment<'a> {
    /// Checks index and size; the caller checks the content before it lets go of the value.
    pub(super) fn claim(
        geometry: Geometry,
        index: u64,
        bytes: &'a [u8],
    ) -> Result<Self, MerkleError> {
        let range = geometry.byte_range(index)?;
        let expected = range.end - range.start;
        let found = bytes.len() as u64;
        if found != expected {
            return Err(MerkleError::SegmentSize { index, expected, found });
        }
        Ok(Self { index, offset: range.start, bytes })
    }

    /// For bytes that were checked under another borrow.
    pub(crate) fn vouched(index: u64, offset: u64, bytes: &'a [u8]) -> Self {
        Self { index, offset, bytes }
    }

    /// As [`Self::claim`], for bytes as storage nodes send them: the file's last chunk
    /// filled up with zeros. The fill is checked and dropped.
    pub(super) fn claim_filled(
        geometry: Geometry,
        index: u64,
        bytes: &'a [u8],
    ) -> Result<Self, MerkleError> {
        let range = geometry.byte_range(index)?;
        let exact = range.end - range.start;
        let found = bytes.len() as u64;
        let filled = exact.next_multiple_of(CHUNK_BYTES);
        if found == filled
            && let Some((data, fill)) = bytes.split_at_checked(exact as usize)
            && fill.iter().all(|byte| *byte == 0)
        {
            return Self::claim(geometry, index, data);
        }
        Self::claim(geometry, index, bytes)
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where in the file the bytes stand.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// First 8 bytes: length, little-endian; the rest: the map.
pub fn fuzz_segment_roots(data: &[u8]) {
    let Some((length, map)) = data.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length);
    let Ok(roots) = SegmentRoots::from_bytes(map, length) else { return };
    assert_eq!(roots.to_bytes(), map);
    assert_eq!(roots.length(), length);
    let root = *roots.root();
    let last = roots.geometry().data_segments() - 1;
    let proof = roots.prove(last);
    assert!(proof.is_ok());
    assert!(roots.clone().verify_against(&[0; 32], length).is_err() || root == [0; 32]);
    assert!(roots.verify_against(&root, length).is_ok());
}
