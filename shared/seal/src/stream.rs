//! STREAM version 1: one object encrypted in chunks, so that it can be made and opened while it passes by.
//!
//! ```text
//! object = header ‖ chunk 0 ‖ chunk 1 ‖ .. ‖ last chunk
//! header = "STSEAL1\0" ‖ kind u8 ‖ chunk size u32be ‖ salt 32 ‖ prefix 7
//! key    = HKDF-SHA256(salt, object key, "sealtune/stream/v1" ‖ 0x00 ‖ kind)
//! nonce  = prefix ‖ chunk number u32be ‖ 1 for the last chunk, else 0
//! AAD    = "sealtune/stream/v1" ‖ 0x00 ‖ kind ‖ u32be context length ‖ context ‖ header
//! chunk  = ChaCha20-Poly1305(plaintext) ‖ tag 16
//! ```
//! Every chunk but the last is full; the last holds 1 byte to a full chunk, or nothing if the whole object is empty: an
//! object has one form for each header. The number in the nonce makes reordering, the flag truncation and extension,
//! the context (a job, a specification) the use of one object for another fail.

mod opener;
mod sealer;
#[cfg(test)]
mod tests;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf,
};

use crate::Secret;

pub use opener::{Opener, fuzz_stream_header, fuzz_stream_opener};
pub use sealer::Sealer;

const MAGIC: [u8; 8] = *b"STSEAL1\0";
const TAG: &[u8] = b"sealtune/stream/v1\0";
pub(crate) const AEAD_TAG: usize = 16;
/// Contexts are identifiers and digests.
const MAX_CONTEXT: usize = 1024;
/// Length of the header before the first chunk.
pub const HEADER_LENGTH: usize = 52;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("get random bytes from the operating system: {0}")]
    Randomness(getrandom::Error),
    #[error("derive the key of the object")]
    Cipher,
    #[error("use a chunk size of {0} bytes: 4096 to 1048576 are allowed")]
    ChunkSize(u32),
    #[error("bind an object to a context of {0} bytes, the limit is {MAX_CONTEXT}")]
    ContextTooLong(usize),
    #[error("seal more than 2^32 chunks into one object")]
    TooManyChunks,
    #[error("recognise a sealed object: it does not begin with STSEAL1")]
    NotSealed,
    #[error("open a sealed object of kind {found}, {expected:?} was expected")]
    WrongKind { expected: ObjectKind, found: u8 },
    #[error(
        "authenticate chunk {chunk}: it is damaged, or sealed under another key or for another job"
    )]
    Damaged { chunk: u32 },
    #[error(
        "take chunk {found} where chunk {expected} belongs: chunks are missing or out of order"
    )]
    Skipped { expected: u32, found: u32 },
    #[error("take chunk {found} where chunk {expected} belongs: it was there before")]
    Repeated { expected: u32, found: u32 },
    #[error("accept data after the last chunk, which is number {last}")]
    Extended { last: u32 },
    #[error(
        "reach the end of the object: it stops before or at chunk {chunk}, which is not the last"
    )]
    Truncated { chunk: u32 },
    #[error(
        "authenticate chunk {chunk} at the end of the object: it is cut inside the chunk or damaged"
    )]
    LastChunkRefused { chunk: u32 },
    #[error("accept an object whose last chunk {chunk} is empty: no program of ours makes that")]
    EmptyLastChunk { chunk: u32 },
    #[error("take more data after a refused chunk without a resume")]
    MustResume,
    #[error("take more data: the object is complete")]
    Complete,
}

impl StreamError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Randomness(_) => "ST-SEAL-50",
            Self::Cipher => "ST-SEAL-51",
            Self::ChunkSize(_) => "ST-SEAL-52",
            Self::ContextTooLong(_) => "ST-SEAL-53",
            Self::TooManyChunks => "ST-SEAL-54",
            Self::NotSealed => "ST-SEAL-55",
            Self::WrongKind { .. } => "ST-SEAL-56",
            Self::Damaged { .. } => "ST-SEAL-57",
            Self::Skipped { .. } => "ST-SEAL-58",
            Self::Repeated { .. } => "ST-SEAL-59",
            Self::Extended { .. } => "ST-SEAL-60",
            Self::Truncated { .. } => "ST-SEAL-61",
            Self::LastChunkRefused { .. } => "ST-SEAL-62",
            Self::EmptyLastChunk { .. } => "ST-SEAL-63",
            Self::MustResume => "ST-SEAL-64",
            Self::Complete => "ST-SEAL-65",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Randomness(_) => {
                "make the system's random generator available (getrandom must not be filtered)"
            }
            Self::Cipher | Self::ContextTooLong(_) | Self::MustResume | Self::Complete => {
                "report this as a bug in the program that calls"
            }
            Self::ChunkSize(_) => "use 65536, the default",
            Self::TooManyChunks => "use larger chunks or split the object",
            Self::NotSealed => "give the sealed object itself, from its first byte",
            Self::WrongKind { .. } => "give an object of the expected kind (dataset or result)",
            Self::Damaged { .. } => {
                "fetch the chunk again; if it stays so, check that key and job belong to the object"
            }
            Self::Skipped { .. } | Self::Repeated { .. } => {
                "fetch the object again from the offset to resume at, in order"
            }
            Self::Extended { .. } => "fetch the object again: its source added to it",
            Self::Truncated { .. } | Self::LastChunkRefused { .. } => {
                "fetch the rest of the object from the offset to resume at"
            }
            Self::EmptyLastChunk { .. } => "seal the object again with a current program",
        }
    }
}

/// What an object is; part of its key and of every chunk's authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// Sealed by the customer; context: the 16 bytes of the job id.
    Dataset,
    /// Sealed by the agent; context: the specification digest.
    Result,
}

impl ObjectKind {
    pub const ALL: [Self; 2] = [Self::Dataset, Self::Result];

    pub fn number(self) -> u8 {
        match self {
            Self::Dataset => 1,
            Self::Result => 2,
        }
    }
}

/// Bytes of plaintext in a full chunk: 4 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize(u32);

impl Default for ChunkSize {
    fn default() -> Self {
        Self(64 * 1024)
    }
}

impl ChunkSize {
    pub const MIN: u32 = 4 * 1024;
    pub const MAX: u32 = 1024 * 1024;

    pub fn new(bytes: u32) -> Result<Self, StreamError> {
        if (Self::MIN..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(StreamError::ChunkSize(bytes))
        }
    }

    pub fn bytes(self) -> u32 {
        self.0
    }

    fn plain(self) -> usize {
        self.0 as usize
    }

    fn sealed(self) -> usize {
        self.plain() + AEAD_TAG
    }

    /// Length of the whole object that holds `plain` bytes; nothing if there is no such object.
    pub fn sealed_length(self, plain: u64) -> Option<u64> {
        let chunks = plain.div_ceil(u64::from(self.0)).max(1);
        if chunks > 1 << 32 {
            return None;
        }
        plain.checked_add(chunks * AEAD_TAG as u64)?.checked_add(HEADER_LENGTH as u64)
    }

    /// Length of what an object of `sealed` bytes holds; nothing if no object has that length.
    pub fn opened_length(self, sealed: u64) -> Option<u64> {
        let body = sealed.checked_sub(HEADER_LENGTH as u64)?;
        let chunks = body.div_ceil(self.sealed() as u64);
        let plain = body.checked_sub(chunks.checked_mul(AEAD_TAG as u64)?)?;
        (self.sealed_length(plain) == Some(sealed)).then_some(plain)
    }
}

/// [`ChunkSize::sealed_length`] for the default chunk size.
pub fn sealed_length(plain: u64) -> Option<u64> {
    ChunkSize::default().sealed_length(plain)
}

/// [`ChunkSize::opened_length`] for the default chunk size.
pub fn opened_length(sealed: u64) -> Option<u64> {
    ChunkSize::default().opened_length(sealed)
}

/// The header's fields, decoded but not authenticated: that happens with the first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: ObjectKind,
    chunk_size: ChunkSize,
    salt: [u8; 32],
    prefix: [u8; 7],
}

impl Header {
    fn fresh(kind: ObjectKind, chunk_size: ChunkSize) -> Result<Self, StreamError> {
        let mut header = Self { kind, chunk_size, salt: [0; 32], prefix: [0; 7] };
        getrandom::fill(&mut header.salt).map_err(StreamError::Randomness)?;
        getrandom::fill(&mut header.prefix).map_err(StreamError::Randomness)?;
        Ok(header)
    }

    fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let fields = [
            &MAGIC[..],
            &[self.kind.number()],
            &self.chunk_size.0.to_be_bytes(),
            &self.salt,
            &self.prefix,
        ]
        .concat();
        bytes.copy_from_slice(&fields);
        bytes
    }

    fn parse(bytes: &[u8; HEADER_LENGTH], expected: ObjectKind) -> Result<Self, StreamError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(StreamError::NotSealed)?;
        let (&[found], rest) = rest.split_first_chunk::<1>().ok_or(StreamError::NotSealed)?;
        let (size, rest) = rest.split_first_chunk::<4>().ok_or(StreamError::NotSealed)?;
        let (salt, rest) = rest.split_first_chunk::<32>().ok_or(StreamError::NotSealed)?;
        let prefix = rest.try_into().map_err(|_| StreamError::NotSealed)?;
        if found != expected.number() {
            return Err(StreamError::WrongKind { expected, found });
        }
        let chunk_size = ChunkSize::new(u32::from_be_bytes(*size))?;
        Ok(Self { kind: expected, chunk_size, salt: *salt, prefix })
    }
}

/// Key, nonce prefix and associated data of one object.
struct ObjectCipher {
    key: LessSafeKey,
    aad: Vec<u8>,
    prefix: [u8; 7],
    chunk_size: ChunkSize,
}

impl ObjectCipher {
    fn new(key: &Secret<[u8; 32]>, header: &Header, context: &[u8]) -> Result<Self, StreamError> {
        let length = u32::try_from(context.len())
            .ok()
            .filter(|_| context.len() <= MAX_CONTEXT)
            .ok_or(StreamError::ContextTooLong(context.len()))?;
        let kind = [header.kind.number()];
        let aad = [TAG, &kind, &length.to_be_bytes(), context, &header.to_bytes()].concat();
        let key = derive_key(key, &header.salt, &[TAG, &kind]).ok_or(StreamError::Cipher)?;
        Ok(Self { key, aad, prefix: header.prefix, chunk_size: header.chunk_size })
    }

    fn nonce(&self, chunk: u32, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        let (prefix, rest) = nonce.split_at_mut(7);
        prefix.copy_from_slice(&self.prefix);
        let (number, flag) = rest.split_at_mut(4);
        number.copy_from_slice(&chunk.to_be_bytes());
        flag.copy_from_slice(&[u8::from(last)]);
        Nonce::assume_unique_for_key(nonce)
    }

    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.aad)
    }
}

/// HKDF-SHA256 to a ChaCha20-Poly1305 key that never stands in memory outside the cipher.
pub(crate) fn derive_key(
    key: &Secret<[u8; 32]>,
    salt: &[u8],
    info: &[&[u8]],
) -> Option<LessSafeKey> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.expose());
    let expanded = extracted.expand(info, &CHACHA20_POLY1305).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(expanded)))
}
