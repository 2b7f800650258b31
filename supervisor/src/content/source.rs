//! A readable source of bytes: a file, bytes in memory, or the body of an HTTP answer.

use std::{io::SeekFrom, path::Path};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use super::{ContentError, http::HttpBody};

#[derive(Debug)]
pub(crate) enum Source {
    File(File),
    Memory { bytes: Vec<u8>, at: usize },
    Http(Box<HttpBody>),
}

impl Source {
    pub(crate) async fn file(path: &Path, length: u64) -> Result<Self, ContentError> {
        let file = File::open(path).await?;
        let found = file.metadata().await?.len();
        if found != length {
            return Err(ContentError::Length { expected: length, found });
        }
        Ok(Self::File(file))
    }

    pub(crate) async fn seek(&mut self, offset: u64) -> Result<(), ContentError> {
        match self {
            Self::File(file) => {
                file.seek(SeekFrom::Start(offset)).await?;
            }
            Self::Memory { at, bytes } => {
                *at = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
            }
            Self::Http(body) => body.seek(offset).await?,
        }
        Ok(())
    }

    /// The next bytes, at most `limit`; none at the end.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Bytes, ContentError> {
        match self {
            Self::File(file) => {
                let mut part = vec![0; limit];
                let read = file.read(&mut part).await?;
                part.truncate(read);
                Ok(part.into())
            }
            Self::Memory { bytes, at } => {
                let end = (*at + limit).min(bytes.len());
                let part = Bytes::copy_from_slice(&bytes[*at..end]);
                *at = end;
                Ok(part)
            }
            Self::Http(body) => body.next(limit).await,
        }
    }
}

/// The rest of a stream's last piece is kept until it is asked for.
#[derive(Debug, Default)]
pub(super) struct Rest(Bytes);

impl Rest {
    pub(super) fn take(&mut self, limit: usize) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.split_to(limit.min(self.0.len())))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) async fn refill<E>(
        &mut self,
        stream: &mut (impl futures_util::Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Option<Result<(), E>> {
        match stream.next().await? {
            Ok(bytes) => {
                self.0 = bytes;
                Some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
