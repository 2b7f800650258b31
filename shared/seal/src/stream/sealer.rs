use zeroize::Zeroizing;

use super::{ChunkSize, HEADER_LENGTH, Header, ObjectCipher, ObjectKind, StreamError};
use crate::Secret;

/// Encrypts one object while it passes by. Holds at most one chunk.
pub struct Sealer {
    cipher: ObjectCipher,
    /// Plaintext that may still become the last chunk. Never grows beyond its first allocation.
    pending: Zeroizing<Vec<u8>>,
    chunk: Option<u32>,
}

impl Sealer {
    /// A sealer and the header that goes before everything it makes.
    pub fn new(
        key: &Secret<[u8; 32]>,
        kind: ObjectKind,
        context: &[u8],
    ) -> Result<(Self, [u8; HEADER_LENGTH]), StreamError> {
        Self::with_chunk_size(key, kind, context, ChunkSize::default())
    }

    pub fn with_chunk_size(
        key: &Secret<[u8; 32]>,
        kind: ObjectKind,
        context: &[u8],
        chunk_size: ChunkSize,
    ) -> Result<(Self, [u8; HEADER_LENGTH]), StreamError> {
        Self::from_header(key, Header::fresh(kind, chunk_size)?, context)
    }

    /// Salt and prefix must be fresh: only tests bring their own.
    pub(super) fn from_header(
        key: &Secret<[u8; 32]>,
        header: Header,
        context: &[u8],
    ) -> Result<(Self, [u8; HEADER_LENGTH]), StreamError> {
        let cipher = ObjectCipher::new(key, &header, context)?;
        let pending = Zeroizing::new(Vec::with_capacity(header.chunk_size.plain()));
        Ok((Self { cipher, pending, chunk: Some(0) }, header.to_bytes()))
    }

    #[cfg(test)]
    pub(super) fn set_next_chunk(&mut self, chunk: u32) {
        self.chunk = Some(chunk);
    }

    /// Appends to `out` the chunks that `input` completes.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let size = self.cipher.chunk_size.plain();
        while !input.is_empty() {
            // A full chunk is sealed only when more follows: until then it may be the last.
            if self.pending.len() == size {
                let full = std::mem::take(&mut self.pending);
                self.seal_chunk(&full, false, out)?;
                self.pending = full;
                self.pending.clear();
            }
            if self.pending.is_empty()
                && input.len() > size
                && let Some((full, rest)) = input.split_at_checked(size)
            {
                self.seal_chunk(full, false, out)?;
                input = rest;
                continue;
            }
            let room = (size - self.pending.len()).min(input.len());
            let (now, rest) = input.split_at(room);
            self.pending.extend_from_slice(now);
            input = rest;
        }
        Ok(())
    }

    /// Appends the last chunk.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let last = std::mem::take(&mut self.pending);
        self.seal_chunk(&last, true, out)
    }

    fn seal_chunk(
        &mut self,
        plaintext: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let chunk = self.chunk.ok_or(StreamError::TooManyChunks)?;
        let start = out.len();
        out.reserve(plaintext.len() + super::AEAD_TAG);
        out.extend_from_slice(plaintext);
        let sealed = out.get_mut(start..).unwrap_or_default();
        let nonce = self.cipher.nonce(chunk, last);
        let Ok(tag) = self.cipher.key.seal_in_place_separate_tag(nonce, self.cipher.aad(), sealed)
        else {
            out.truncate(start);
            return Err(StreamError::Cipher);
        };
        out.extend_from_slice(tag.as_ref());
        self.chunk = chunk.checked_add(1);
        Ok(())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("chunk", &self.chunk).finish_non_exhaustive()
    }
}
