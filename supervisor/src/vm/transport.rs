//! Connections into a VM: AF_VSOCK on a host that has it, else the unix socket of `vhost-device-vsock`.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use sealtune_wire::{
    AGENT_PORT,
    frame::{self, FrameError},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::UnixStream,
};

/// Where a VM's agent can be reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Address {
    Vsock {
        cid: u32,
    },
    /// `CONNECT <port>\n` is answered by `OK <number>\n`.
    Unix {
        socket: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("connect to the VM: {0}")]
    Connect(#[source] io::Error),
    #[error("connect to the VM: the vsock helper answered {0:?}")]
    Helper(String),
    #[error("reach the VM: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("hear from the VM in time")]
    Timeout,
    #[error("hear from the vsock helper: it serves no more")]
    Deaf,
}

/// One connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Vsock(tokio_vsock::VsockStream),
    Unix(UnixStream),
}

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// `vhost-device-vsock` 0.3 panics when the guest answers a connection that was given up (vsock_conn.rs, line 238), and
/// serves no more: so none is given up as long as an answer may come, and silence for longer means that it has.
const HELPER_TIME: Duration = Duration::from_secs(40);

impl Address {
    pub(crate) async fn connect(&self) -> Result<Connection, TransportError> {
        let (time, silence) = match self {
            Self::Vsock { .. } => (CONNECT_TIME, TransportError::Timeout),
            Self::Unix { .. } => (HELPER_TIME, TransportError::Deaf),
        };
        tokio::time::timeout(time, self.open()).await.map_err(|_| silence)?
    }

    async fn open(&self) -> Result<Connection, TransportError> {
        match self {
            Self::Vsock { cid } => {
                let address = tokio_vsock::VsockAddr::new(*cid, AGENT_PORT);
                let stream = tokio_vsock::VsockStream::connect(address)
                    .await
                    .map_err(TransportError::Connect)?;
                Ok(Connection::Vsock(stream))
            }
            Self::Unix { socket } => {
                let mut stream =
                    UnixStream::connect(socket).await.map_err(TransportError::Connect)?;
                stream.write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes()).await?;
                let mut answer = Vec::new();
                while !answer.ends_with(b"\n") && answer.len() < 64 {
                    // A closed connection means that nobody listens in the guest yet.
                    answer.push(stream.read_u8().await.map_err(TransportError::Connect)?);
                }
                if answer.starts_with(b"OK ") {
                    Ok(Connection::Unix(stream))
                } else {
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    Err(TransportError::Helper(answer))
                }
            }
        }
    }
}

/// Event descriptors of `vhost-device-vsock` 0.3 whose guest has set up its two rings: four of its own, four that come
/// with QEMU, one for each ring.
const WITH_RINGS: usize = 10;
/// Another release may have others: then it is tried all the same.
const LONGEST_FOR_RINGS: Duration = Duration::from_secs(20);

/// Waits until the guest's driver has set up its rings. `vhost-device-vsock` 0.3 stops serving for ever when a
/// connection comes between the first word about them and the last: seen in one boot of four with an attempt every 3 ms.
pub(crate) async fn wait_for_rings(helper: u32) {
    let start = tokio::time::Instant::now();
    while start.elapsed() < LONGEST_FOR_RINGS {
        match event_descriptors(helper) {
            Ok(count) if count < WITH_RINGS => tokio::time::sleep(Duration::from_millis(20)).await,
            // A process that cannot be looked at is left to what follows.
            Ok(_) | Err(_) => return,
        }
    }
}

fn event_descriptors(process: u32) -> io::Result<usize> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd"))?;
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().contains("[eventfd]")).count())
}

/// Reads one frame of at most `limit` bytes.
pub(crate) async fn read_frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, TransportError> {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await?;
    let length = frame::body_length(header, limit)?;
    let mut body = Vec::with_capacity(length.min(64 << 10));
    let read = reader.take(length as u64).read_to_end(&mut body).await?;
    if read < length {
        return Err(FrameError::Truncated.into());
    }
    Ok(frame::decode(&body)?)
}

pub(crate) async fn write_frame<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &T,
    limit: usize,
) -> Result<(), TransportError> {
    writer.write_all(&frame::encode(message, limit)?).await?;
    writer.flush().await?;
    Ok(())
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Vsock(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn event_descriptors_of_a_process_are_counted() {
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let held: Vec<_> = (0..WITH_RINGS).map(|_| rustix::event::eventfd(0, flags)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(event_descriptors(std::process::id()).expect("our own") >= WITH_RINGS);
        // Neither waits: one has them, the other does not exist.
        let both = async {
            wait_for_rings(std::process::id()).await;
            wait_for_rings(u32::MAX).await;
        };
        tokio::time::timeout(Duration::from_secs(2), both).await.expect("at once");
    }
}
