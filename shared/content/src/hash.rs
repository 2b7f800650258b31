//! Content ids of byte streams, for both schemes.

use std::io::{self, Read};

use ring::digest;

use crate::id::{ContentId, Scheme};
use crate::merkle::{MerkleError, ZgHasher};

const READ_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("content could not be read")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    #[error("a hashing thread died")]
    ThreadDied,
}

impl HashError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "ST-CONTENT-20",
            Self::Merkle(inner) => inner.code(),
            Self::ThreadDied => "ST-CONTENT-21",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Read(_) => "see that the file can be read to its end, then repeat",
            Self::Merkle(inner) => inner.fix(),
            Self::ThreadDied => "this is a bug in sealtune: report it",
        }
    }
}

/// Hashes a stream given in slices of any size.
#[derive(Clone)]
pub struct ContentHasher(State);

#[derive(Clone)]
enum State {
    Sha256 { context: digest::Context, length: u64 },
    Zg(ZgHasher),
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentHasher").field("length", &self.length()).finish_non_exhaustive()
    }
}

impl ContentHasher {
    pub fn new(scheme: Scheme) -> Self {
        Self(match scheme {
            Scheme::Sha256 => {
                State::Sha256 { context: digest::Context::new(&digest::SHA256), length: 0 }
            }
            Scheme::Zg => State::Zg(ZgHasher::new()),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256 { context, length } => {
                context.update(bytes);
                *length = length.saturating_add(bytes.len() as u64);
            }
            State::Zg(hasher) => hasher.update(bytes),
        }
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        match &self.0 {
            State::Sha256 { length, .. } => *length,
            State::Zg(hasher) => hasher.length(),
        }
    }

    /// Fails only for empty content under the 0G scheme.
    pub fn finish(self) -> Result<ContentId, MerkleError> {
        match self.0 {
            State::Sha256 { context, length } => {
                let mut sha256 = [0; 32];
                sha256.copy_from_slice(context.finish().as_ref());
                Ok(ContentId::Sha256 { digest: sha256, length })
            }
            State::Zg(hasher) => Ok(hasher.finish()?.content_id()),
        }
    }
}

/// The id of everything a reader gives.
pub fn identify<R: Read>(mut reader: R, scheme: Scheme) -> Result<ContentId, HashError> {
    let mut hasher = ContentHasher::new(scheme);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()?),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
