//! HTTP/1.1 (RFC 9112) for one request on one connection, as far as a local service needs it: no redirects, no
//! compression, no second response. Stricter than the standard where it leaves a choice: what has two lengths has none.

use httparse::{EMPTY_HEADER, Header, Status};

/// The longest body.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The line before a chunk, with its extensions.
const MAX_CHUNK_LINE: usize = 256;
/// The most to read: head, body, and the lines between reasonable chunks.
pub const MAX_RESPONSE_BYTES: usize = MAX_BODY_BYTES + MAX_HEAD_BYTES + 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("read an HTTP response: its head {0}")]
    Head(&'static str),
    #[error("read an HTTP response: its chunks are malformed")]
    Chunk,
    #[error("read an HTTP response: it is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    #[error("read an HTTP response: the connection ended inside it")]
    Truncated,
    #[error("read an HTTP response: bytes follow its end")]
    Trailing,
}

/// Whether more bytes can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    Open,
    Reached,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// How the end of the body is known.
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// The bytes of a request with a JSON body, after whose answer the connection ends.
pub fn post(path: &str, json: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        json.len()
    );
    [head.as_bytes(), json].concat()
}

impl Response {
    /// The response at the start of a connection's bytes; `None` while it is not whole.
    pub fn read(bytes: &[u8], end: StreamEnd) -> Result<Option<Self>, HttpError> {
        if bytes.len() > MAX_RESPONSE_BYTES {
            return Err(HttpError::TooLong);
        }
        let found = Self::read_part(bytes, end)?;
        match (found, end) {
            (None, StreamEnd::Reached) => Err(HttpError::Truncated),
            (found, _) => Ok(found),
        }
    }

    fn read_part(bytes: &[u8], end: StreamEnd) -> Result<Option<Self>, HttpError> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let window = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
        let length = match head.parse(window) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if window.len() == MAX_HEAD_BYTES => {
                return Err(HttpError::Head("is longer than 16 KiB"));
            }
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(HttpError::Head("has more than 64 fields"));
            }
            Err(_) => return Err(HttpError::Head("is malformed")),
        };
        let Some(status @ 200..=599) = head.code else {
            return Err(HttpError::Head("has no final status"));
        };
        let framing = framing(head.headers, status)?;
        let rest = bytes.get(length..).unwrap_or_default();
        let body = match framing {
            Framing::Length(length) if rest.len() < length => None,
            Framing::Length(length) if rest.len() > length => return Err(HttpError::Trailing),
            Framing::Length(_) => Some(rest.to_vec()),
            Framing::Chunked => chunks(rest)?,
            Framing::UntilEnd if rest.len() > MAX_BODY_BYTES => return Err(HttpError::TooLong),
            Framing::UntilEnd => (end == StreamEnd::Reached).then(|| rest.to_vec()),
        };
        Ok(body.map(|body| Self { status, body }))
    }
}

fn framing(headers: &[Header<'_>], status: u16) -> Result<Framing, HttpError> {
    let named = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    let (mut lengths, mut codings) = (named("content-length"), named("transfer-encoding"));
    match (lengths.next(), codings.next()) {
        (None, None) if status == 204 || status == 304 => Ok(Framing::Length(0)),
        (None, None) => Ok(Framing::UntilEnd),
        (Some(length), None) if lengths.next().is_none() => {
            let digits = length.value;
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(HttpError::Head("has a length that is no number"));
            }
            // What overflows is too long as well.
            let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            match length {
                Some(length) if length <= MAX_BODY_BYTES => Ok(Framing::Length(length)),
                _ => Err(HttpError::TooLong),
            }
        }
        (None, Some(coding)) if codings.next().is_none() => {
            if coding.value.eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else {
                Err(HttpError::Head("has a transfer coding other than chunked"))
            }
        }
        _ => Err(HttpError::Head("says twice how long the body is")),
    }
}

/// The body in chunks; `None` while the last one has not come.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
    let mut body = Vec::new();
    loop {
        let line = rest.get(..MAX_CHUNK_LINE).unwrap_or(rest);
        let (start, size) = match httparse::parse_chunk_size(line) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) if line.len() < MAX_CHUNK_LINE => return Ok(None),
            _ => return Err(HttpError::Chunk),
        };
        let after = rest.get(start..).unwrap_or_default();
        // The last chunk is empty, and so are the trailers.
        let size = usize::try_from(size).map_err(|_| HttpError::TooLong)?;
        if body.len().saturating_add(size) > MAX_BODY_BYTES {
            return Err(HttpError::TooLong);
        }
        let Some((data, next)) = after.split_at_checked(size) else { return Ok(None) };
        match next.split_at_checked(2) {
            None if b"\r\n".starts_with(next) => return Ok(None),
            Some((b"\r\n", next)) if size == 0 && next.is_empty() => return Ok(Some(body)),
            Some((b"\r\n", _)) if size == 0 => return Err(HttpError::Trailing),
            Some((b"\r\n", next)) => {
                body.extend_from_slice(data);
                rest = next;
            }
            _ => return Err(HttpError::Chunk),
        }
    }
}
