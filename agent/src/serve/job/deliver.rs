//! The result: `output_model/` as a deterministic zip, sealed for a sealed job, hashed on the way, kept in the TEE's
//! memory until the host has it.
//!
//! It is made once and kept rather than made again for each resume: a second making under the same key and nonces would
//! have to be the same to the bit.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ring::digest;
use sealtune_content::archive::{ArchiveError, PackMethod, TreeFile, list_tree, pack};
use sealtune_content::{ContentHasher, ContentId, Scheme};
use sealtune_seal::result_object::ResultSealer;
use sealtune_wire::stream::{OUTGOING_CHUNK, OUTGOING_WINDOW, Trailer, chunk_header, encode_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use super::JobError;
use super::prepare::Folders;
use crate::serve::listener::StreamPeer;

const OUTPUT_NAME: &str = "output_model";
const METRICS_NAME: &str = "metrics.json";
const MAX_METRICS_BYTES: u64 = 64 * 1024;
const MAX_FILES: usize = 65_536;

/// How long the last bytes may take to be read.
const LAST_READ: Duration = Duration::from_secs(120);

/// What was made, and what it must hash to elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) sha256: ContentId,
    pub(crate) root: ContentId,
    /// SHA-256 of the archive before it was sealed.
    pub(crate) plain: [u8; 32],
}

/// Packs the output of a container that is dead. Blocks.
pub(crate) fn make(
    folders: &Folders,
    sealer: Option<(ResultSealer, Vec<u8>)>,
    max_bytes: u64,
) -> Result<Packed, JobError> {
    let output = folders.output();
    if !fs::symlink_metadata(&output).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(JobError::NoOutput);
    }
    let files = list_tree(&output, OUTPUT_NAME, MAX_FILES).map_err(JobError::Pack)?;
    if files.is_empty() {
        return Err(JobError::NoOutput);
    }
    let total: u64 = files.iter().map(|file| file.size).sum();
    let free = folders.free_bytes()?;
    if total > free {
        return Err(JobError::NoSpace { needed: total, free });
    }
    let mut writer = ResultWriter::new(File::create_new(folders.result())?, sealer)?;
    let opened = files.iter().enumerate().map(|(index, file): (usize, &TreeFile)| {
        let reader = file.open().map_err(|source| ArchiveError::PackSource { index, source })?;
        Ok((file.name.as_str(), reader))
    });
    pack(opened, PackMethod::Store, max_bytes, &mut writer).map_err(no_space)?;
    writer.finish()
}

fn no_space(error: ArchiveError) -> JobError {
    match error {
        ArchiveError::Pack(source) if source.kind() == io::ErrorKind::StorageFull => {
            JobError::from(source)
        }
        other => JobError::Pack(other),
    }
}

/// `output_model/metrics.json`, if the script left a small one.
pub(crate) fn metrics_file(folders: &Folders) -> Option<Vec<u8>> {
    let files = list_tree(&folders.output(), OUTPUT_NAME, MAX_FILES).ok()?;
    let name = format!("{OUTPUT_NAME}/{METRICS_NAME}");
    let file = files.iter().find(|file| file.name.as_str() == name)?;
    if file.size > MAX_METRICS_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    io::Read::take(file.open().ok()?, MAX_METRICS_BYTES + 1).read_to_end_checked(&mut bytes)?;
    Some(bytes)
}

trait ReadToEndChecked {
    fn read_to_end_checked(self, bytes: &mut Vec<u8>) -> Option<()>;
}

impl ReadToEndChecked for io::Take<File> {
    fn read_to_end_checked(mut self, bytes: &mut Vec<u8>) -> Option<()> {
        io::Read::read_to_end(&mut self, bytes).ok()?;
        (bytes.len() as u64 <= MAX_METRICS_BYTES).then_some(())
    }
}

/// Hashes, seals, hashes again, writes.
struct ResultWriter {
    file: File,
    sealer: Option<ResultSealer>,
    sealed: Vec<u8>,
    plain: digest::Context,
    sha256: ContentHasher,
    root: ContentHasher,
}

impl ResultWriter {
    fn new(file: File, sealer: Option<(ResultSealer, Vec<u8>)>) -> Result<Self, JobError> {
        let (sealer, preface) = match sealer {
            Some((sealer, preface)) => (Some(sealer), preface),
            None => (None, Vec::new()),
        };
        let mut writer = Self {
            file,
            sealer,
            sealed: Vec::new(),
            plain: digest::Context::new(&digest::SHA256),
            sha256: ContentHasher::new(Scheme::Sha256),
            root: ContentHasher::new(Scheme::Zg),
        };
        writer.keep(&preface)?;
        Ok(writer)
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        self.root.update(bytes);
        self.file.write_all(bytes)
    }

    fn keep_sealed(&mut self) -> io::Result<()> {
        let sealed = std::mem::take(&mut self.sealed);
        self.keep(&sealed)?;
        self.sealed = sealed;
        self.sealed.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Packed, JobError> {
        if let Some(sealer) = self.sealer.take() {
            sealer.finish(&mut self.sealed)?;
            self.keep_sealed()?;
        }
        let mut plain = [0; 32];
        plain.copy_from_slice(self.plain.finish().as_ref());
        Ok(Packed { sha256: self.sha256.finish()?, root: self.root.finish()?, plain })
    }
}

impl Write for ResultWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.plain.update(bytes);
        match &mut self.sealer {
            Some(sealer) => {
                sealer.push(bytes, &mut self.sealed).map_err(io::Error::other)?;
                self.keep_sealed()?;
            }
            None => self.keep(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the result to whoever comes for it, from where he wants it, until one has had it to its end.
pub(crate) async fn send(
    result: &Path,
    length: u64,
    peers: &mut mpsc::Receiver<StreamPeer>,
) -> Result<(), JobError> {
    let file = File::open(result)?;
    let mut next = None;
    loop {
        let peer = match next.take() {
            Some(peer) => peer,
            None => peers
                .recv()
                .await
                .ok_or_else(|| JobError::Internal("nobody hands over streams".into()))?,
        };
        tokio::select! {
            biased;
            Some(newer) = peers.recv() => next = Some(newer),
            sent = send_once(peer, &file, length) => {
                if sent.is_ok() {
                    return Ok(());
                }
            }
        }
    }
}

async fn send_once(mut peer: StreamPeer, file: &File, length: u64) -> io::Result<()> {
    let mut offset = peer.offset.min(length);
    peer.connection.welcome(offset).await?;
    let io = &mut peer.connection.io;
    let mut buffer = vec![0; OUTGOING_CHUNK];
    let mut unanswered = 0;
    while offset < length {
        let want = usize::try_from(length - offset)
            .map_or(OUTGOING_CHUNK, |left| left.min(OUTGOING_CHUNK));
        let count = file.read_at(&mut buffer[..want], offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = chunk_header(count).map_err(io::Error::other)?;
        io.write_all(&header).await?;
        io.write_all(&buffer[..count]).await?;
        offset += count as u64;
        unanswered += 1;
        while unanswered >= OUTGOING_WINDOW {
            let mut answer = [0; 1];
            io.read_exact(&mut answer).await?;
            unanswered -= 1;
        }
    }
    let end = encode_end(&Trailer::Complete { length }).map_err(io::Error::other)?;
    io.write_all(&end).await?;
    io.flush().await?;
    // The peer closes once it has read all; one that only goes away looks the same and comes again if it wants more.
    let mut answers = [0; 16];
    let last = async { while matches!(io.read(&mut answers).await, Ok(count) if count > 0) {} };
    let _ = timeout(LAST_READ, last).await;
    Ok(())
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
