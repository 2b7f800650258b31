//! One request and one response on a connection of their own.

use std::path::Path;
use std::time::Duration;

use sealtune_evidence::dstack::http::MAX_RESPONSE_BYTES;
use sealtune_evidence::dstack::{GuestAgentError, Response, StreamEnd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// For everything together: a slow answer is no answer.
pub(super) const DEADLINE: Duration = sealtune_wire::patience::QUOTE;
const READ_BYTES: usize = 64 * 1024;

pub(super) async fn exchange(socket: &Path, request: &[u8]) -> Result<Response, GuestAgentError> {
    match timeout(DEADLINE, talk(socket, request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(GuestAgentError::Slow),
    }
}

async fn talk(socket: &Path, request: &[u8]) -> Result<Response, GuestAgentError> {
    let broken = |error: std::io::Error| GuestAgentError::Unreachable(error.to_string());
    let mut stream = UnixStream::connect(socket).await.map_err(broken)?;
    stream.write_all(request).await.map_err(broken)?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let count = stream.read(&mut piece).await.map_err(broken)?;
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        debug_assert!(bytes.len() <= MAX_RESPONSE_BYTES + READ_BYTES, "longer ones are refused");
        let end = if count == 0 { StreamEnd::Reached } else { StreamEnd::Open };
        if let Some(response) = Response::read(&bytes, end)? {
            return Ok(response);
        }
    }
}
