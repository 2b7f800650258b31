//! Inputs: what the host fetches and this file verifies, while it arrives.
//!
//! A cut connection goes on where it was; a wrong piece is fetched again from its start, a few times. Content with a
//! segment map is written only piece by verified piece; other content is spooled where no container sees it, and is of
//! no use to anybody before its end is right.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use sealtune_content::{ContentId, SegmentRoots, Step, StreamingVerifier, Verified};
use sealtune_seal::Secret;
use sealtune_seal::stream::{ObjectKind, Opener};
use sealtune_wire::stream::{StreamDecoder, StreamItem, Trailer};
use sealtune_wire::v1::Transfer;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Context, JobError};
use crate::serve::listener::StreamPeer;

/// Without a byte for this long, an input is given up.
const STALL: Duration = Duration::from_secs(600);
/// Wrong pieces that are fetched again before the source is believed to be wrong.
const MAX_WRONG: usize = 8;
const READ_BYTES: usize = 256 * 1024;
/// A segment map of 128 GiB of content.
const MAX_MAP_BYTES: u64 = 16 << 20;

/// Plain content under its id, into a new file.
pub(crate) async fn content(context: &Context, id: ContentId, to: &Path) -> Result<(), JobError> {
    let map = match id {
        ContentId::Zg { root, length } => Some(segment_roots(context, id, &root, length).await?),
        ContentId::Sha256 { .. } => None,
    };
    let sink = ContentSink {
        id,
        verifier: Some(StreamingVerifier::new(id, map)?),
        file: File::create_new(to)?,
    };
    receive(context, Transfer::Content { id }, sink).await
}

/// The customer's sealed dataset, opened into a new file.
pub(crate) async fn sealed_dataset(
    context: &Context,
    sealed: ContentId,
    plain: ContentId,
    data_key: &Secret<[u8; 32]>,
    to: &Path,
) -> Result<(), JobError> {
    let sink = SealedSink {
        length: sealed.length(),
        received: 0,
        opener: Opener::new(data_key, ObjectKind::Dataset, context.job.as_bytes()),
        verifier: Some(StreamingVerifier::new(plain, None)?),
        file: File::create_new(to)?,
        opened: Vec::new(),
    };
    receive(context, Transfer::SealedDataset { id: sealed }, sink).await
}

async fn segment_roots(
    context: &Context,
    id: ContentId,
    root: &[u8; 32],
    length: u64,
) -> Result<Verified<SegmentRoots>, JobError> {
    let expected = SegmentRoots::encoded_size(length)?;
    if expected > MAX_MAP_BYTES {
        return Err(JobError::NoSpace { needed: expected, free: MAX_MAP_BYTES });
    }
    let mut bytes = Vec::new();
    let sink = MapSink { expected, bytes: &mut bytes };
    receive(context, Transfer::SegmentRoots { id }, sink).await?;
    Ok(SegmentRoots::from_bytes(&bytes, length)?.verify_against(root, length)?)
}

/// What became of some bytes.
#[derive(Debug)]
enum Rejected {
    /// Wrong, but what comes from `offset` on may be right the next time.
    Again(JobError),
    Final(JobError),
}

impl<E: Into<JobError>> From<E> for Rejected {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// Verifies and keeps one transfer.
trait Sink {
    /// The first byte that is still to come.
    fn offset(&self) -> u64;
    fn take(&mut self, bytes: &[u8]) -> Result<(), Rejected>;
    /// The host says that this was all.
    fn finish(&mut self) -> Result<(), Rejected>;
}

async fn receive(context: &Context, what: Transfer, mut sink: impl Sink) -> Result<(), JobError> {
    let mut peers = context.want(what.clone()).await?;
    let mut next = None;
    let mut wrong = 0;
    loop {
        let peer = match next.take() {
            Some(peer) => peer,
            None => first_peer(&mut peers).await?,
        };
        match drain(peer, &mut peers, &mut sink).await? {
            Drained::All => return Ok(()),
            Drained::Cut => {}
            Drained::Newer(peer) => next = Some(peer),
            Drained::Wrong(error) => {
                wrong += 1;
                if wrong >= MAX_WRONG {
                    return Err(error);
                }
                // Asked for anew: the host may believe that it has sent everything.
                peers = context.want(what.clone()).await?;
            }
        }
    }
}

enum Drained {
    All,
    /// The connection is gone; the host makes a new one.
    Cut,
    /// The host made a new one before it was.
    Newer(StreamPeer),
    Wrong(JobError),
}

async fn first_peer(peers: &mut mpsc::Receiver<StreamPeer>) -> Result<StreamPeer, JobError> {
    match timeout(STALL, peers.recv()).await {
        Ok(Some(peer)) => Ok(peer),
        Ok(None) => Err(JobError::Internal("nobody hands over streams".into())),
        Err(_) => Err(JobError::Stalled),
    }
}

async fn drain(
    mut peer: StreamPeer,
    peers: &mut mpsc::Receiver<StreamPeer>,
    sink: &mut impl Sink,
) -> Result<Drained, JobError> {
    if peer.connection.welcome(sink.offset()).await.is_err() {
        return Ok(Drained::Cut);
    }
    let mut decoder = StreamDecoder::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            biased;
            Some(newer) = peers.recv() => return Ok(Drained::Newer(newer)),
            read = timeout(STALL, peer.connection.io.read(&mut buffer)) => read,
        };
        match read {
            Ok(Ok(count @ 1..)) => decoder.push(&buffer[..count]),
            Ok(_) => return Ok(Drained::Cut),
            Err(_) => return Err(JobError::Stalled),
        }
        loop {
            let taken = match decoder.next_item() {
                Ok(None) => break,
                Ok(Some(StreamItem::Bytes(bytes))) => sink.take(&bytes).map(|()| None),
                Ok(Some(StreamItem::End(trailer))) => end(trailer, sink).map(Some),
                // A host that breaks the framing gets a new connection, a few times.
                Err(error) => Err(Rejected::Again(JobError::Framing(error))),
            };
            match taken {
                Ok(None) => {}
                Ok(Some(())) => return Ok(Drained::All),
                Err(Rejected::Again(error)) => return Ok(Drained::Wrong(error)),
                Err(Rejected::Final(error)) => return Err(error),
            }
        }
        // Hashing took its time: let pings be answered.
        tokio::task::yield_now().await;
    }
}

fn end(trailer: Trailer, sink: &mut impl Sink) -> Result<(), Rejected> {
    match trailer {
        Trailer::Complete { length } if length == sink.offset() => sink.finish(),
        Trailer::Complete { length } => {
            Err(JobError::TransferLength { found: sink.offset(), expected: length }.into())
        }
        Trailer::Failed { code } => Err(JobError::Transfer(bounded(code)).into()),
    }
}

/// The host's text, as far as it is a code.
fn bounded(code: String) -> String {
    let is_code = code.len() <= 32 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_code { code } else { "no code".into() }
}

struct MapSink<'m> {
    expected: u64,
    bytes: &'m mut Vec<u8>,
}

impl Sink for MapSink<'_> {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Rejected> {
        let found = (self.bytes.len() + bytes.len()) as u64;
        if found > self.expected {
            return Err(JobError::TransferLength { found, expected: self.expected }.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Rejected> {
        // Size and root are checked by whoever takes the map.
        Ok(())
    }
}

struct ContentSink {
    id: ContentId,
    /// Gone once the content is verified.
    verifier: Option<StreamingVerifier>,
    file: File,
}

impl Sink for ContentSink {
    fn offset(&self) -> u64 {
        self.verifier.as_ref().map_or(self.id.length(), StreamingVerifier::next_offset)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Rejected> {
        let Some(verifier) = &mut self.verifier else { return Ok(()) };
        verify_into(verifier, &self.file, bytes)
    }

    fn finish(&mut self) -> Result<(), Rejected> {
        match self.verifier.take() {
            Some(verifier) => {
                verifier.finish()?;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Writes what the verifier accepts; whole-file content as it comes.
fn verify_into(
    verifier: &mut StreamingVerifier,
    file: &File,
    bytes: &[u8],
) -> Result<(), Rejected> {
    let mut input = bytes;
    loop {
        let start = verifier.next_offset();
        let mode = verifier.mode();
        match verifier.push(&mut input) {
            Ok(Step::Accepted(segment)) => {
                file.write_all_at(segment.bytes(), segment.offset())?;
            }
            Ok(Step::NeedMore) => {
                if mode == sealtune_content::VerifyMode::WholeFile {
                    file.write_all_at(bytes, start)?;
                }
                return Ok(());
            }
            Err(error @ sealtune_content::StreamError::BadSegment { .. }) => {
                return Err(Rejected::Again(error.into()));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

struct SealedSink {
    /// Of the sealed object.
    length: u64,
    received: u64,
    opener: Opener,
    verifier: Option<StreamingVerifier>,
    file: File,
    opened: Vec<u8>,
}

impl SealedSink {
    fn keep_opened(&mut self) -> Result<(), Rejected> {
        if let Some(verifier) = &mut self.verifier {
            verify_into(verifier, &self.file, &self.opened)?;
        }
        self.opened.clear();
        Ok(())
    }

    /// What was opened before the wrong chunk is good; the rest is asked for again.
    fn refused(&mut self, error: sealtune_seal::stream::StreamError) -> Rejected {
        if let Err(rejected) = self.keep_opened() {
            return rejected;
        }
        match self.opener.resume() {
            Ok(offset) => {
                self.received = offset;
                Rejected::Again(error.into())
            }
            Err(_) => Rejected::Final(error.into()),
        }
    }
}

impl Sink for SealedSink {
    fn offset(&self) -> u64 {
        self.received
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Rejected> {
        let found = self.received.saturating_add(bytes.len() as u64);
        if found > self.length {
            return Err(JobError::TransferLength { found, expected: self.length }.into());
        }
        if let Err(error) = self.opener.push(bytes, &mut self.opened) {
            return Err(self.refused(error));
        }
        self.received = found;
        self.keep_opened()
    }

    fn finish(&mut self) -> Result<(), Rejected> {
        if self.received < self.length {
            let (found, expected) = (self.received, self.length);
            return Err(JobError::TransferLength { found, expected }.into());
        }
        if let Err(error) = self.opener.finish(&mut self.opened) {
            return Err(self.refused(error));
        }
        self.keep_opened()?;
        if let Some(verifier) = self.verifier.take() {
            verifier.finish()?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
