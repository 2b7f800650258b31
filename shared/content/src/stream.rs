//! Verification while bytes arrive.
//!
//! ```text
//! by segments (0G id with a verified chunk map)     whole file (everything else)
//!
//!   fill -> 256 KiB full -> root right: accepted      hash -> ... -> finish: the id, verified
//!             |                                       nothing is accepted before: the caller
//!             +--> root wrong: dropped; next_offset   spools under a throw-away key
//!                  stands at the segment's start
//! ```
//!
//! Too many bytes are refused as soon as they arrive, too few at `finish`.

use crate::hash::ContentHasher;
use crate::id::ContentId;
use crate::merkle::{AcceptedSegment, MerkleError, SEGMENT_BYTES, SegmentRoots};
use crate::verified::Verified;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Each segment is handed over as soon as it is verified.
    Segments,
    /// Nothing can be trusted before the last byte.
    WholeFile,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("segment {index} does not have the bytes its root promises")]
    BadSegment { index: u64 },
    #[error("content goes on after its {length} bytes")]
    TooLong { length: u64 },
    #[error("content ended after {found} of its {length} bytes")]
    TooShort { found: u64, length: u64 },
    #[error("content does not have the id it was asked for")]
    WrongContent,
    #[error("chunk map belongs to other content")]
    ForeignMap,
    #[error(transparent)]
    Merkle(#[from] MerkleError),
}

impl StreamError {
    /// One for each code of this module, for the catalogue.
    pub const ALL: [Self; 4] = [
        Self::TooLong { length: 0 },
        Self::TooShort { found: 0, length: 0 },
        Self::WrongContent,
        Self::ForeignMap,
    ];

    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSegment { index } => MerkleError::SegmentRoot { index: *index }.code(),
            Self::TooLong { .. } => "ST-CONTENT-30",
            Self::TooShort { .. } => "ST-CONTENT-31",
            Self::WrongContent => "ST-CONTENT-32",
            Self::ForeignMap => "ST-CONTENT-33",
            Self::Merkle(inner) => inner.code(),
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::BadSegment { index } => MerkleError::SegmentRoot { index: *index }.fix(),
            Self::TooLong { .. } => "check the length in the content id, or take another source",
            Self::TooShort { .. } => "resume at the next offset, or take another source",
            Self::WrongContent => "check the content id, or take another source",
            Self::ForeignMap => "use the chunk map of the same content id",
            Self::Merkle(inner) => inner.fix(),
        }
    }
}

/// What a push led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A verified segment; push the rest of the input again.
    Accepted(AcceptedSegment<'a>),
    /// All input was taken.
    NeedMore,
}

#[derive(Debug)]
pub struct StreamingVerifier {
    id: ContentId,
    state: State,
}

#[derive(Debug)]
enum State {
    Segments {
        map: Verified<SegmentRoots>,
        next_segment: u64,
        /// The beginning of the next segment, where slices do not hold it whole.
        pending: Vec<u8>,
        /// `pending` holds a segment that was handed out and is to be dropped.
        handed_out: bool,
    },
    WholeFile(ContentHasher),
}

impl StreamingVerifier {
    /// With a chunk map, the content is verified segment by segment, else as a whole.
    pub fn new(id: ContentId, map: Option<Verified<SegmentRoots>>) -> Result<Self, StreamError> {
        let state = match map {
            Some(map) if map.content_id() == id => {
                State::Segments { map, next_segment: 0, pending: Vec::new(), handed_out: false }
            }
            Some(_) => return Err(StreamError::ForeignMap),
            None => State::WholeFile(ContentHasher::new(id.scheme())),
        };
        Ok(Self { id, state })
    }

    pub fn mode(&self) -> VerifyMode {
        match self.state {
            State::Segments { .. } => VerifyMode::Segments,
            State::WholeFile(_) => VerifyMode::WholeFile,
        }
    }

    /// The offset of the next byte to push, on this connection or a new one.
    pub fn next_offset(&self) -> u64 {
        match &self.state {
            State::Segments { next_segment, pending, handed_out, .. } => {
                let held = if *handed_out { 0 } else { pending.len() as u64 };
                next_segment.saturating_mul(SEGMENT_BYTES).min(self.id.length()) + held
            }
            State::WholeFile(hasher) => hasher.length(),
        }
    }

    /// How much was handed over as verified. For a new connection use [`Self::next_offset`].
    pub fn accepted_until(&self) -> u64 {
        match &self.state {
            State::Segments { next_segment, .. } => {
                next_segment.saturating_mul(SEGMENT_BYTES).min(self.id.length())
            }
            State::WholeFile(_) => 0,
        }
    }

    /// Takes bytes from the front of `input`.
    ///
    /// After [`StreamError::BadSegment`] the segment's bytes are gone from `input`, and
    /// `next_offset` is the segment's start: fetch and push that segment alone, then go
    /// on with what is left of `input`.
    pub fn push<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Step<'a>, StreamError> {
        let length = self.id.length();
        let offset = self.next_offset();
        match &mut self.state {
            State::WholeFile(hasher) => {
                if input.len() as u64 > length - offset {
                    return Err(StreamError::TooLong { length });
                }
                hasher.update(input);
                *input = &[];
                Ok(Step::NeedMore)
            }
            State::Segments { map, next_segment, pending, handed_out } => {
                if std::mem::take(handed_out) {
                    pending.clear();
                }
                if input.is_empty() {
                    return Ok(Step::NeedMore);
                }
                if *next_segment == map.geometry().data_segments() {
                    return Err(StreamError::TooLong { length });
                }
                let index = *next_segment;
                let range = map.geometry().byte_range(index)?;
                let missing = (range.end - range.start) as usize - pending.len();
                let (now, later) = input.split_at(missing.min(input.len()));
                *input = later;
                let is_whole_in_input = pending.is_empty() && now.len() == missing;
                if !is_whole_in_input {
                    pending.extend_from_slice(now);
                    if now.len() < missing {
                        return Ok(Step::NeedMore);
                    }
                }
                let segment: &[u8] = if is_whole_in_input { now } else { pending };
                match map.check_segment(index, segment) {
                    Ok(_) => {
                        *next_segment += 1;
                        *handed_out = !is_whole_in_input;
                    }
                    Err(error) => {
                        pending.clear();
                        return Err(match error {
                            MerkleError::SegmentRoot { index } => StreamError::BadSegment { index },
                            other => other.into(),
                        });
                    }
                }
                let segment: &'a [u8] = if is_whole_in_input { now } else { pending };
                Ok(Step::Accepted(AcceptedSegment::vouched(index, range.start, segment)))
            }
        }
    }

    /// Proves that exactly the content of the id was pushed (and, by segments, accepted).
    pub fn finish(self) -> Result<Verified<ContentId>, StreamError> {
        let (found, length) = (self.next_offset(), self.id.length());
        if found < length {
            return Err(StreamError::TooShort { found, length });
        }
        match self.state {
            State::Segments { .. } => Ok(Verified::vouch(self.id)),
            State::WholeFile(hasher) => {
                if hasher.finish()? == self.id {
                    Ok(Verified::vouch(self.id))
                } else {
                    Err(StreamError::WrongContent)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Scheme;
    use proptest::prelude::*;

    const SEGMENT: usize = SEGMENT_BYTES as usize;

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 + i / 253) as u8).collect()
    }

    fn id_of(bytes: &[u8], scheme: Scheme) -> ContentId {
        let mut hasher = ContentHasher::new(scheme);
        hasher.update(bytes);
        hasher.finish().unwrap()
    }

    fn map_of(bytes: &[u8]) -> Verified<SegmentRoots> {
        let mut hasher = crate::ZgHasher::new();
        hasher.update(bytes);
        let roots = hasher.finish().unwrap();
        let root = *roots.root();
        roots.verify_against(&root, bytes.len() as u64).unwrap()
    }

    fn by_segments(bytes: &[u8]) -> StreamingVerifier {
        StreamingVerifier::new(id_of(bytes, Scheme::Zg), Some(map_of(bytes))).unwrap()
    }

    /// Pushes all of `input` and appends what is accepted.
    fn feed(
        verifier: &mut StreamingVerifier,
        mut input: &[u8],
        accepted: &mut Vec<u8>,
    ) -> Result<(), (StreamError, usize)> {
        loop {
            match verifier.push(&mut input) {
                Ok(Step::Accepted(segment)) => {
                    assert_eq!(segment.offset(), accepted.len() as u64);
                    accepted.extend_from_slice(segment.bytes());
                }
                Ok(Step::NeedMore) => return Ok(()),
                Err(error) => return Err((error, input.len())),
            }
        }
    }

    #[test]
    fn a_wrong_byte_names_its_segment_and_only_that_is_fetched_again() {
        let bytes = sample(4 * SEGMENT + 5000);
        let mut received = bytes.clone();
        received[2 * SEGMENT + 77] ^= 4;
        for slice_size in [SEGMENT * 5, 100_000, SEGMENT, 999] {
            let mut verifier = by_segments(&bytes);
            let mut accepted = Vec::new();
            let mut bad = Vec::new();
            for slice in received.chunks(slice_size) {
                let mut slice = slice;
                while let Err((error, left)) = feed(&mut verifier, slice, &mut accepted) {
                    assert_eq!(error, StreamError::BadSegment { index: 2 });
                    assert_eq!(verifier.next_offset(), 2 * SEGMENT_BYTES);
                    assert_eq!(accepted, bytes[..2 * SEGMENT]);
                    bad.push(error);
                    let again = &bytes[2 * SEGMENT..3 * SEGMENT];
                    feed(&mut verifier, again, &mut accepted).unwrap();
                    slice = &slice[slice.len() - left..];
                }
            }
            assert_eq!(bad.len(), 1);
            assert_eq!(accepted, bytes);
            assert_eq!(*verifier.finish().unwrap(), id_of(&bytes, Scheme::Zg));
        }
    }

    #[test]
    fn nothing_of_a_bad_segment_is_released() {
        let bytes = sample(SEGMENT + 10);
        let mut verifier = by_segments(&bytes);
        let mut accepted = Vec::new();
        let mut wrong = bytes.clone();
        wrong[SEGMENT - 1] ^= 1;
        feed(&mut verifier, &wrong[..SEGMENT - 1], &mut accepted).unwrap();
        assert_eq!(verifier.next_offset(), SEGMENT_BYTES - 1);
        assert_eq!(verifier.accepted_until(), 0);
        let (error, _) = feed(&mut verifier, &wrong[SEGMENT - 1..], &mut accepted).unwrap_err();
        assert_eq!(error, StreamError::BadSegment { index: 0 });
        assert!(accepted.is_empty());
        assert_eq!(verifier.next_offset(), 0);
    }

    #[test]
    fn lengths_cannot_lie() {
        let bytes = sample(SEGMENT + 4096);
        for scheme in [Scheme::Sha256, Scheme::Zg] {
            let id = id_of(&bytes, scheme);
            let maps = match scheme {
                Scheme::Zg => vec![None, Some(map_of(&bytes))],
                Scheme::Sha256 => vec![None],
            };
            for map in maps {
                let mut verifier = StreamingVerifier::new(id, map.clone()).unwrap();
                let mut accepted = Vec::new();
                feed(&mut verifier, &bytes[..bytes.len() - 1], &mut accepted).unwrap();
                let (found, length) = (bytes.len() as u64 - 1, bytes.len() as u64);
                assert_eq!(verifier.finish(), Err(StreamError::TooShort { found, length }));

                accepted.clear();
                let mut verifier = StreamingVerifier::new(id, map).unwrap();
                feed(&mut verifier, &bytes, &mut accepted).unwrap();
                let (error, _) = feed(&mut verifier, &[0], &mut accepted).unwrap_err();
                assert_eq!(error, StreamError::TooLong { length });
            }
        }
    }

    #[test]
    fn zeros_appended_under_the_same_root_are_another_content() {
        // Both lengths pad to the same chunks, so a 0G root alone cannot tell them apart.
        let short = sample(1000);
        let mut long = short.clone();
        long.resize(1024, 0);
        let id = id_of(&short, Scheme::Zg);
        assert_eq!(id.hash(), id_of(&long, Scheme::Zg).hash());
        let mut verifier = StreamingVerifier::new(id, None).unwrap();
        let pushed = verifier.push(&mut long.as_slice());
        assert_eq!(pushed, Err(StreamError::TooLong { length: 1000 }));
        let other = StreamingVerifier::new(id, Some(map_of(&long)));
        assert_eq!(other.unwrap_err(), StreamError::ForeignMap);
    }

    #[test]
    fn whole_files_release_nothing_and_prove_at_the_end() {
        let bytes = sample(600_000);
        for scheme in [Scheme::Sha256, Scheme::Zg] {
            let id = id_of(&bytes, scheme);
            let mut verifier = StreamingVerifier::new(id, None).unwrap();
            assert_eq!(verifier.mode(), VerifyMode::WholeFile);
            for slice in bytes.chunks(77_777) {
                assert_eq!(verifier.push(&mut &*slice), Ok(Step::NeedMore));
            }
            assert_eq!(*verifier.finish().unwrap(), id);

            let mut wrong = bytes.clone();
            wrong[300_000] ^= 1;
            let mut verifier = StreamingVerifier::new(id, None).unwrap();
            verifier.push(&mut wrong.as_slice()).unwrap();
            assert_eq!(verifier.finish(), Err(StreamError::WrongContent));
        }
        let empty = id_of(&[], Scheme::Sha256);
        assert!(StreamingVerifier::new(empty, None).unwrap().finish().is_ok());
    }

    #[test]
    fn a_cut_transfer_goes_on_at_the_next_offset() {
        let bytes = sample(3 * SEGMENT);
        let mut verifier = by_segments(&bytes);
        let mut accepted = Vec::new();
        feed(&mut verifier, &bytes[..SEGMENT + 9], &mut accepted).unwrap();
        assert_eq!(verifier.accepted_until(), SEGMENT_BYTES);
        // What was buffered of the next segment stays: the new connection starts after it.
        let from = verifier.next_offset();
        assert_eq!(from, SEGMENT_BYTES + 9);
        feed(&mut verifier, &bytes[from as usize..], &mut accepted).unwrap();
        assert_eq!(accepted, bytes);
        assert!(verifier.finish().is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_slicing_accepts_exactly_the_content(
            length in 1..(5 * SEGMENT),
            slices in proptest::collection::vec(1..400_000_usize, 1..20),
        ) {
            let bytes = sample(length);
            let mut verifier = by_segments(&bytes);
            let mut accepted = Vec::new();
            let mut rest = bytes.as_slice();
            for size in slices.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                prop_assert_eq!(verifier.next_offset(), (length - rest.len()) as u64);
                let (now, later) = rest.split_at((*size).min(rest.len()));
                feed(&mut verifier, now, &mut accepted).unwrap();
                rest = later;
            }
            prop_assert_eq!(&accepted, &bytes);
            prop_assert!(verifier.finish().is_ok());
        }

        #[test]
        fn ids_do_not_depend_on_slices(
            bytes in proptest::collection::vec(any::<u8>(), 1..5000),
            at: prop::sample::Index,
        ) {
            for scheme in [Scheme::Sha256, Scheme::Zg] {
                let (first, second) = bytes.split_at(at.index(bytes.len()));
                let mut hasher = ContentHasher::new(scheme);
                hasher.update(first);
                hasher.update(second);
                prop_assert_eq!(hasher.finish().unwrap(), crate::identify(bytes.as_slice(), scheme).unwrap());
            }
        }
    }
}
