//! One transfer: chunks of a big-endian u32 length and bytes, a chunk of length zero as explicit end, a trailer frame.

use serde::{Deserialize, Serialize};

use crate::frame::{self, FrameError};

/// Longest chunk, bytes.
pub const CHUNK_LIMIT: usize = 1 << 20;
/// Longest chunk out of a guest. The receiver answers each with one [`RECEIVED`] byte and the sender keeps at most
/// [`OUTGOING_WINDOW`] unanswered: `vhost-device-vsock` 0.3 tells a guest of free space in its 64 KiB buffer only
/// along with other traffic, so that a transfer without answers stands still for ever.
pub const OUTGOING_CHUNK: usize = 16 << 10;
/// Chunks out of a guest that may be without answer.
pub const OUTGOING_WINDOW: usize = 3;
/// The receiver's answer to one chunk.
pub const RECEIVED: u8 = 1;
/// Longest trailer, bytes of JSON.
pub const TRAILER_LIMIT: usize = 4 << 10;

/// How the sender saw the transfer end. The receiver believes none of it without its own check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", deny_unknown_fields)]
pub enum Trailer {
    /// Offset behind the last byte.
    Complete {
        length: u64,
    },
    Failed {
        code: String,
    },
}

/// What comes next out of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamItem {
    Bytes(Vec<u8>),
    End(Trailer),
}

/// Header of a chunk; zero is the end.
pub fn chunk_header(length: usize) -> Result<[u8; 4], FrameError> {
    let refused = FrameError::TooLong { length, limit: CHUNK_LIMIT };
    if length > CHUNK_LIMIT {
        return Err(refused);
    }
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| refused)
}

/// The bytes that end a transfer.
pub fn encode_end(trailer: &Trailer) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    bytes.extend(frame::encode(trailer, TRAILER_LIMIT)?);
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expecting {
    Chunk,
    Trailer,
    Nothing,
}

/// Cuts a byte stream into chunks and trailer.
#[derive(Debug)]
pub struct StreamDecoder {
    expecting: Expecting,
    buffer: Vec<u8>,
}

impl Default for StreamDecoder {
    fn default() -> Self {
        Self { expecting: Expecting::Chunk, buffer: Vec::new() }
    }
}

impl StreamDecoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub fn next_item(&mut self) -> Result<Option<StreamItem>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<4>().copied() else {
            return Ok(None);
        };
        match self.expecting {
            Expecting::Nothing => Err(FrameError::TooLong { length: self.buffer.len(), limit: 0 }),
            Expecting::Chunk => {
                let length = frame::body_length(header, CHUNK_LIMIT)?;
                if length == 0 {
                    self.buffer.drain(..4);
                    self.expecting = Expecting::Trailer;
                    return self.next_item();
                }
                Ok(self.take(length).map(StreamItem::Bytes))
            }
            Expecting::Trailer => {
                let length = frame::body_length(header, TRAILER_LIMIT)?;
                let Some(body) = self.take(length) else {
                    return Ok(None);
                };
                self.expecting = Expecting::Nothing;
                Ok(Some(StreamItem::End(frame::decode(&body)?)))
            }
        }
    }

    /// Whether the trailer has been read: anything else at the end of a connection is a cut.
    pub fn is_complete(&self) -> bool {
        self.expecting == Expecting::Nothing
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.buffer.len() < 4 + length {
            return None;
        }
        let rest = self.buffer.split_off(4 + length);
        let mut whole = std::mem::replace(&mut self.buffer, rest);
        Some(whole.split_off(4))
    }
}

/// Fuzz entry: pieces do not matter, and no input panics.
pub fn fuzz_stream(data: &[u8]) {
    let collect = |piece: usize| {
        let mut decoder = StreamDecoder::default();
        let mut items = Vec::new();
        for part in data.chunks(piece.max(1)) {
            decoder.push(part);
            loop {
                match decoder.next_item() {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(_) => return items,
                }
            }
        }
        items
    };
    assert_eq!(collect(data.len()), collect(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_and_trailer_come_back() {
        let mut bytes = Vec::new();
        for part in [&b"one"[..], b"two!"] {
            bytes.extend(chunk_header(part.len()).expect("short"));
            bytes.extend(part);
        }
        bytes.extend(encode_end(&Trailer::Complete { length: 7 }).expect("small"));
        let mut decoder = StreamDecoder::default();
        let mut items = Vec::new();
        for byte in bytes {
            assert!(!decoder.is_complete());
            decoder.push(&[byte]);
            items.extend(decoder.next_item().expect("well formed"));
        }
        let expected = [
            StreamItem::Bytes(b"one".to_vec()),
            StreamItem::Bytes(b"two!".to_vec()),
            StreamItem::End(Trailer::Complete { length: 7 }),
        ];
        assert_eq!(items, expected);
        assert!(decoder.is_complete());
    }

    #[test]
    fn nothing_may_follow_the_trailer() {
        let mut decoder = StreamDecoder::default();
        decoder.push(&encode_end(&Trailer::Complete { length: 0 }).expect("small"));
        decoder.push(b"more");
        assert!(matches!(decoder.next_item(), Ok(Some(StreamItem::End(_)))));
        assert!(decoder.next_item().is_err());
    }
}
