//! Frames: a big-endian u32 length and that many bytes of JSON.

use serde::{Serialize, de::DeserializeOwned};

/// Longest control frame, bytes of JSON.
pub const CONTROL_LIMIT: usize = 1 << 20;
/// Longest hello, bytes of JSON: read before anything about the peer is known.
pub const HELLO_LIMIT: usize = 4 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("read a frame of {length} bytes, the limit is {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("read a frame: the connection ended inside it")]
    Truncated,
    #[error("understand a message: {0}")]
    Message(#[source] serde_json::Error),
    #[error("write a message: {0}")]
    Encode(#[source] serde_json::Error),
}

impl FrameError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ST-WIRE-01",
            Self::Truncated => "ST-WIRE-02",
            Self::Message(_) => "ST-WIRE-03",
            Self::Encode(_) => "ST-WIRE-04",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Message(_) => {
                "run supervisor and guest image of the same release; otherwise treat the peer as hostile"
            }
            Self::Truncated => "nothing: the connection is made again",
            Self::Encode(_) => "report this as a bug",
        }
    }
}

/// One message as a frame, length included.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(FrameError::Encode)?;
    if body.len() > limit {
        return Err(FrameError::TooLong { length: body.len(), limit });
    }
    let length =
        u32::try_from(body.len()).map_err(|_| FrameError::TooLong { length: body.len(), limit })?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Length of the frame body that a header announces, within `limit`.
pub fn body_length(header: [u8; 4], limit: usize) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(length) }
}

/// One message from a frame's body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Message)
}

/// Cuts a byte stream into frame bodies. Holds at most one frame and never allocates more than has arrived.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    buffer: Vec<u8>,
}

impl FrameDecoder {
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame body, if it has arrived.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = body_length(*header, self.limit)?;
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(4 + length);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(frame.split_off(4)))
    }

    /// Says whether the stream may end here.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// Fuzz entry: hostile bytes in hostile pieces give the same frames as in one piece, and never panic.
pub fn fuzz_frames(data: &[u8]) {
    let collect = |piece: usize| {
        let mut decoder = FrameDecoder::new(HELLO_LIMIT);
        let mut bodies = Vec::new();
        for part in data.chunks(piece.max(1)) {
            decoder.push(part);
            loop {
                match decoder.next_body() {
                    Ok(Some(body)) => {
                        let _ = decode::<crate::v1::ToSupervisor>(&body);
                        let _ = decode::<crate::v1::ToAgent>(&body);
                        let _ = decode::<crate::hello::SupervisorHello>(&body);
                        let _ = decode::<crate::hello::AgentHello>(&body);
                        bodies.push(body);
                    }
                    Ok(None) => break,
                    Err(_) => return bodies,
                }
            }
        }
        bodies
    };
    assert_eq!(collect(data.len()), collect(3));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_arrives() {
        let mut decoder = FrameDecoder::new(CONTROL_LIMIT);
        decoder.push(&u32::MAX.to_be_bytes());
        assert_eq!(decoder.next_body().expect_err("too long").code(), "ST-WIRE-01");
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let mut decoder = FrameDecoder::new(CONTROL_LIMIT);
        decoder.push(&[0, 0, 0, 2, b'{']);
        assert!(decoder.next_body().expect("no error yet").is_none());
        assert_eq!(decoder.finish().expect_err("truncated").code(), "ST-WIRE-02");
    }

    #[test]
    fn unknown_fields_and_types_are_refused() {
        for text in [
            r#"{"type":"reply","id":1,"outcome":{"ok":{"answer":"done"}},"extra":1}"#,
            r#"{"type":"surprise"}"#,
            r#"{"type":"event","sequence":-1,"event":{"event":"done","job":"00"}}"#,
        ] {
            let error = decode::<crate::v1::ToSupervisor>(text.as_bytes()).expect_err(text);
            assert_eq!(error.code(), "ST-WIRE-03");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_frames(&data);
            crate::stream::fuzz_stream(&data);
        }
    }
}
