//! One transfer into or out of a VM, over a connection of its own. A cut connection is made again by the VM's task;
//! the agent says where an incoming transfer goes on, the file's length says it for the result.

use std::{future::Future, io::SeekFrom, path::Path, time::Duration};

use sealtune_wire::{
    hello::Purpose,
    stream::{RECEIVED, StreamDecoder, StreamItem, Trailer, chunk_header, encode_end},
    v1::Transfer,
};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};

use super::{
    definition::VmDefinition,
    link::{self, LinkError},
    transport::{Connection, TransportError},
};
use crate::{
    content::{ContentError, ContentStore, Source},
    store::StreamRow,
};

/// Bytes in one chunk.
const PART: usize = 256 << 10;
/// One read or write that takes longer is a connection that nobody serves any more.
const PATIENCE: Duration = Duration::from_secs(60);
/// The agent's answer for a stream that it has finished with.
const FINISHED: &str = "ST-AGENT-55";

#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("move bytes over the connection: {0}")]
    Connection(#[source] std::io::Error),
    #[error("wait for the agent's word that it has everything")]
    Unconfirmed,
    #[error("use the host's disk: {0}")]
    Disk(#[source] std::io::Error),
    #[error(transparent)]
    Frame(#[from] sealtune_wire::frame::FrameError),
    #[error("receive a result: {0}")]
    Result(&'static str),
}

impl StreamError {
    /// Whether trying again over a new connection can help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Link(_) | Self::Transport(_) | Self::Connection(_) | Self::Unconfirmed => true,
            // The host's own disk is full or broken: trying again at once does not help.
            Self::Disk(_) | Self::Frame(_) | Self::Result(_) => false,
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Link(_) | Self::Transport(_) | Self::Connection(_) | Self::Unconfirmed => {
                "ST-VM-41"
            }
            Self::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => "ST-VM-42",
            Self::Disk(_) => "ST-VM-43",
            Self::Frame(error) => error.code(),
            Self::Result(_) => "ST-VM-44",
        }
    }

    /// Whether the guest is to blame, not the host.
    pub(crate) fn is_the_guests(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Result(_))
    }
}

/// Carries out one transfer until it is complete or fails.
pub(crate) async fn transfer(
    definition: &VmDefinition,
    row: &StreamRow,
    content: &ContentStore,
    result: &Path,
    result_limit: u64,
) -> Result<(), StreamError> {
    match &row.what {
        Transfer::Result => {
            let received = receive(definition, row, result, result_limit).await;
            if let Err(StreamError::Disk(_)) = received {
                // It will not be completed, and holds the space that the word of its end needs.
                let _ = tokio::fs::remove_file(result).await;
            }
            received
        }
        what => send(definition, row, content.open_transfer(what, row.job)).await,
    }
}

async fn send(
    definition: &VmDefinition,
    row: &StreamRow,
    source: impl Future<Output = Result<Source, ContentError>>,
) -> Result<(), StreamError> {
    let purpose = Purpose::Stream { stream: row.stream, offset: 0 };
    let (mut connection, _, offset) = match link::open(definition, purpose).await {
        Err(LinkError::Refused(code)) if code == FINISHED => return Ok(()),
        opened => opened?,
    };
    // Not before the agent wants it: opening may mean to fetch all of it for its segment roots.
    let trailer = match source.await {
        Ok(source) => match send_from(&mut connection, source, offset).await {
            Ok(length) => Trailer::Complete { length },
            Err(SendError::Stream(error)) => return Err(error),
            Err(SendError::Source(error)) => {
                tracing::warn!(job = %row.job, "content: {error}");
                Trailer::Failed { code: error.code().to_owned() }
            }
        },
        Err(error) => {
            tracing::warn!(job = %row.job, "content: {error}");
            Trailer::Failed { code: error.code().to_owned() }
        }
    };
    patiently(connection.write_all(&encode_end(&trailer)?)).await?;
    patiently(connection.flush()).await?;
    // The agent closes when it has read the trailer, but so does a connection that is cut before that: only its
    // refusal of the same stream proves that it has everything.
    let mut last = [0; 1];
    let _ = patiently(connection.read(&mut last)).await;
    Err(StreamError::Unconfirmed)
}

async fn patiently<T>(
    operation: impl Future<Output = std::io::Result<T>>,
) -> Result<T, StreamError> {
    tokio::time::timeout(PATIENCE, operation)
        .await
        .map_err(|_| TransportError::Timeout)?
        .map_err(StreamError::Connection)
}

enum SendError {
    Stream(StreamError),
    Source(ContentError),
}

async fn send_from(
    connection: &mut Connection,
    mut source: Source,
    offset: u64,
) -> Result<u64, SendError> {
    source.seek(offset).await.map_err(SendError::Source)?;
    let mut at = offset;
    loop {
        let part = source.next(PART).await.map_err(SendError::Source)?;
        if part.is_empty() {
            return Ok(at);
        }
        let header = chunk_header(part.len())
            .map_err(|error| SendError::Stream(StreamError::Frame(error)))?;
        patiently(connection.write_all(&header)).await.map_err(SendError::Stream)?;
        patiently(connection.write_all(&part)).await.map_err(SendError::Stream)?;
        at += part.len() as u64;
    }
}

async fn receive(
    definition: &VmDefinition,
    row: &StreamRow,
    path: &Path,
    limit: u64,
) -> Result<(), StreamError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let mut file = options.open(path).await.map_err(StreamError::Disk)?;
    let mut at = file.seek(SeekFrom::End(0)).await.map_err(StreamError::Disk)?;
    let purpose = Purpose::Stream { stream: row.stream, offset: at };
    let (mut connection, _, _) = link::open(definition, purpose).await?;
    let mut decoder = StreamDecoder::default();
    let mut buffer = vec![0; PART];
    loop {
        let read = patiently(connection.read(&mut buffer)).await?;
        if read == 0 {
            file.flush().await.map_err(StreamError::Disk)?;
            return Err(TransportError::Timeout.into());
        }
        decoder.push(&buffer[..read]);
        while let Some(item) = decoder.next_item()? {
            match item {
                StreamItem::Bytes(bytes) => {
                    at += bytes.len() as u64;
                    if at > limit {
                        return Err(StreamError::Result("it is longer than the job's limit"));
                    }
                    file.write_all(&bytes).await.map_err(StreamError::Disk)?;
                    // Waits until it is written: a connection that is made again starts at the file's length.
                    file.flush().await.map_err(StreamError::Disk)?;
                    patiently(connection.write_all(&[RECEIVED])).await?;
                }
                StreamItem::End(trailer) => return finish(file, at, &trailer).await,
            }
        }
    }
}

async fn finish(mut file: File, at: u64, trailer: &Trailer) -> Result<(), StreamError> {
    file.flush().await.map_err(StreamError::Disk)?;
    file.sync_all().await.map_err(StreamError::Disk)?;
    match trailer {
        Trailer::Complete { length } if *length == at => Ok(()),
        Trailer::Complete { .. } => Err(StreamError::Result("its length is not what was sent")),
        Trailer::Failed { .. } => Err(StreamError::Result("the agent could not produce it")),
    }
}
