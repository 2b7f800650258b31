use zeroize::Zeroize;

use super::{AEAD_TAG, HEADER_LENGTH, Header, ObjectCipher, ObjectKind, StreamError};
use crate::Secret;

/// How far around the expected chunk a refused one is looked for, to say what happened. Bounds the work that a hostile
/// source can cause with one bad chunk.
const SEARCHED_CHUNKS: u32 = 16;

/// Decrypts one object while it arrives, and gives out nothing that is not authenticated in its place.
///
/// ```text
/// Header -> Chunks -> Complete          a refused chunk: MustResume, until resume()
/// ```
/// One chunk is always held back: only [`Opener::finish`] knows that it is the last.
pub struct Opener {
    key: Secret<[u8; 32]>,
    kind: ObjectKind,
    context: Vec<u8>,
    cipher: Option<ObjectCipher>,
    /// Ciphertext that was taken and not opened yet: a part of the header, or at most one chunk.
    pending: Vec<u8>,
    /// The next chunk; nothing after number 2^32 - 1.
    chunk: Option<u32>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Running,
    Refused,
    Complete,
}

impl Opener {
    pub fn new(key: &Secret<[u8; 32]>, kind: ObjectKind, context: &[u8]) -> Self {
        Self {
            key: key.duplicate(),
            kind,
            context: context.to_vec(),
            cipher: None,
            pending: Vec::new(),
            chunk: Some(0),
            standing: Standing::Running,
        }
    }

    /// Takes the next bytes of the object, cut anywhere, and appends to `out` the plaintext that they complete.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.running()?;
        let pushed = self.take(input, out);
        self.note(pushed)
    }

    /// Declares the end of the object: opens the last chunk, or says what is wrong with the end.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.running()?;
        let finished = self.open_last(out);
        self.note(finished)?;
        self.standing = Standing::Complete;
        Ok(())
    }

    /// How many bytes of the object are consumed for good. A new transfer starts there, after [`Opener::resume`].
    pub fn resume_offset(&self) -> u64 {
        let Some(cipher) = &self.cipher else { return 0 };
        let chunks = self.chunk.map_or(1 << 32, u64::from);
        HEADER_LENGTH as u64 + chunks * cipher.chunk_size.sealed() as u64
    }

    /// Forgets the bytes behind [`Opener::resume_offset`], which it returns: the next [`Opener::push`] starts there.
    pub fn resume(&mut self) -> Result<u64, StreamError> {
        if self.standing == Standing::Complete {
            return Err(StreamError::Complete);
        }
        self.pending.clear();
        self.standing = Standing::Running;
        Ok(self.resume_offset())
    }

    fn running(&self) -> Result<(), StreamError> {
        match self.standing {
            Standing::Running => Ok(()),
            Standing::Refused => Err(StreamError::MustResume),
            Standing::Complete => Err(StreamError::Complete),
        }
    }

    fn note(&mut self, result: Result<(), StreamError>) -> Result<(), StreamError> {
        if result.is_err() {
            self.pending.clear();
            self.standing = Standing::Refused;
        }
        result
    }

    fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        if self.cipher.is_none() {
            input = self.take_header(input)?;
        }
        let Some(size) = self.cipher.as_ref().map(|cipher| cipher.chunk_size.sealed()) else {
            return Ok(());
        };
        // A chunk is known not to be the last once a byte follows it.
        while self.pending.len() + input.len() > size {
            let missing = size.saturating_sub(self.pending.len());
            let (now, rest) = input.split_at(missing);
            input = rest;
            if self.pending.is_empty() {
                self.open_chunk(now, false, out)?;
            } else {
                self.pending.extend_from_slice(now);
                let sealed = std::mem::take(&mut self.pending);
                self.open_chunk(&sealed, false, out)?;
                self.pending = sealed;
                self.pending.clear();
            }
        }
        self.pending.extend_from_slice(input);
        Ok(())
    }

    /// Collects the header; returns what comes after it.
    fn take_header<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], StreamError> {
        let missing = HEADER_LENGTH.saturating_sub(self.pending.len()).min(input.len());
        let (now, rest) = input.split_at(missing);
        self.pending.extend_from_slice(now);
        if let Ok(bytes) = <&[u8; HEADER_LENGTH]>::try_from(self.pending.as_slice()) {
            let header = Header::parse(bytes, self.kind)?;
            self.cipher = Some(ObjectCipher::new(&self.key, &header, &self.context)?);
            self.pending.clear();
        }
        Ok(rest)
    }

    fn open_last(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let sealed = std::mem::take(&mut self.pending);
        let Some(chunk) = self.chunk else {
            return Err(StreamError::TooManyChunks);
        };
        if self.cipher.is_none() || sealed.len() < AEAD_TAG {
            return Err(StreamError::Truncated { chunk });
        }
        if chunk > 0 && sealed.len() == AEAD_TAG {
            return Err(StreamError::EmptyLastChunk { chunk });
        }
        self.open_chunk(&sealed, true, out)
    }

    fn open_chunk(
        &mut self,
        sealed: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let Some(cipher) = &self.cipher else { return Err(StreamError::Cipher) };
        let Some(chunk) = self.chunk else { return Err(StreamError::TooManyChunks) };
        let start = out.len();
        out.extend_from_slice(sealed);
        if authenticates(cipher, chunk, last, out.get_mut(start..).unwrap_or_default()) {
            out.truncate(start + sealed.len() - AEAD_TAG);
            self.chunk = chunk.checked_add(1);
            return Ok(());
        }
        // What failed to authenticate must not be found in the caller's buffer either.
        out.get_mut(start..).unwrap_or_default().zeroize();
        out.truncate(start);
        Err(diagnose(cipher, chunk, last, sealed))
    }
}

/// Decrypts in place; true if this is chunk number `chunk` with the flag `last`.
fn authenticates(cipher: &ObjectCipher, chunk: u32, last: bool, buffer: &mut [u8]) -> bool {
    cipher.key.open_in_place(cipher.nonce(chunk, last), cipher.aad(), buffer).is_ok()
}

/// Says what a refused chunk is, as far as it can be known: the chunk itself tells, if it is ours at all.
fn diagnose(cipher: &ObjectCipher, chunk: u32, last: bool, sealed: &[u8]) -> StreamError {
    let mut buffer = Vec::with_capacity(sealed.len());
    let mut is = |number, flag| {
        buffer.clear();
        buffer.extend_from_slice(sealed);
        let found = authenticates(cipher, number, flag, &mut buffer);
        buffer.as_mut_slice().zeroize();
        found
    };
    if is(chunk, !last) {
        return if last {
            StreamError::Truncated { chunk }
        } else {
            StreamError::Extended { last: chunk }
        };
    }
    for distance in 1..=SEARCHED_CHUNKS {
        if let Some(found) = chunk.checked_add(distance)
            && (is(found, false) || is(found, true))
        {
            return StreamError::Skipped { expected: chunk, found };
        }
        if let Some(found) = chunk.checked_sub(distance)
            && (is(found, false) || is(found, true))
        {
            return StreamError::Repeated { expected: chunk, found };
        }
    }
    if last && sealed.len() < cipher.chunk_size.sealed() {
        StreamError::LastChunkRefused { chunk }
    } else {
        StreamError::Damaged { chunk }
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("kind", &self.kind)
            .field("chunk", &self.chunk)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// Fuzz entry: a header that parses is the one encoding of its fields.
pub fn fuzz_stream_header(data: &[u8]) {
    let Ok(bytes) = <&[u8; HEADER_LENGTH]>::try_from(data) else { return };
    for kind in ObjectKind::ALL {
        if let Ok(header) = Header::parse(bytes, kind) {
            assert_eq!(&header.to_bytes(), bytes);
        }
    }
}

/// Fuzz entry: bytes that were never sealed give no plaintext, however they are cut.
pub fn fuzz_stream_opener(data: &[u8]) {
    let key = Secret::new([7; 32]);
    let mut opener = Opener::new(&key, ObjectKind::Dataset, b"fuzz");
    let mut out = Vec::new();
    let cut = data.first().map_or(1, |byte| usize::from(*byte) + 1);
    for piece in data.chunks(cut) {
        if opener.push(piece, &mut out).is_err() {
            let offset = opener.resume().unwrap_or(u64::MAX);
            assert!(offset <= HEADER_LENGTH as u64);
        }
    }
    assert!(opener.finish(&mut out).is_err());
    assert!(out.is_empty());
}
