//! Where the bytes of content ids come from: the daemon's own store, directories, HTTP sources. The host is not
//! believed: the agent verifies every byte again.

mod http;
mod source;
mod zg;

use std::path::{Path, PathBuf};

use sealtune_content::ContentId;
use sealtune_job::JobId;
use sealtune_wire::v1::Transfer;
pub(crate) use source::Source;

use crate::store::{Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("find content {0}")]
    Unknown(ContentId),
    #[error("read content: {0}")]
    Io(#[from] std::io::Error),
    #[error("fetch content: {0}")]
    Http(String),
    #[error("fetch content: the source has {found} bytes, {expected} are named")]
    Length { expected: u64, found: u64 },
    #[error("identify content: {0}")]
    Identify(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ContentError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "ST-SOURCE-01",
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => "ST-SOURCE-03",
            Self::Io(_) => "ST-SOURCE-02",
            Self::Http(_) => "ST-SOURCE-04",
            Self::Length { .. } => "ST-SOURCE-05",
            Self::Identify(_) => "ST-SOURCE-06",
            Self::Store(error) => error.code(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Unknown(_) => {
                "add it with `sealtune content put FILE`, or name a source in the configuration"
            }
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                "make space on the disk of the state directory"
            }
            Self::Io(_) | Self::Identify(_) => "check the file and its permissions",
            Self::Http(_) => "check the source's address and that it answers range requests",
            Self::Length { .. } => "check the length in the content id",
            Self::Store(error) => error.fix(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ContentStore {
    store: Store,
    /// Content that was put here, named by its sha256.
    directory: PathBuf,
    /// Sealed datasets, named by job.
    datasets: PathBuf,
    /// `{id}` is replaced by the digest in hex.
    http: Vec<String>,
    client: reqwest::Client,
}

impl ContentStore {
    pub(crate) fn open(
        store: Store,
        state: &Path,
        http: Vec<String>,
    ) -> Result<Self, ContentError> {
        let (directory, datasets) = (state.join("content"), state.join("datasets"));
        std::fs::create_dir_all(&directory)?;
        std::fs::create_dir_all(&datasets)?;
        let client = reqwest::Client::builder()
            .connect_timeout(std::time::Duration::from_secs(15))
            .read_timeout(std::time::Duration::from_secs(30))
            .build()
            .map_err(|error| ContentError::Http(error.to_string()))?;
        Ok(Self { store, directory, datasets, http, client })
    }

    pub(crate) fn dataset_path(&self, job: JobId) -> PathBuf {
        self.datasets.join(job.to_string())
    }

    /// What was uploaded for a job that has ended is of no use to anybody.
    pub(crate) fn drop_dataset(&self, job: JobId) {
        let _ = std::fs::remove_file(self.dataset_path(job));
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens what an agent asked for.
    pub(crate) async fn open_content(&self, id: &ContentId) -> Result<Source, ContentError> {
        if let Some(path) = self.store.content_path(id).await? {
            return Source::file(&path, id.length()).await;
        }
        let mut failed = None;
        for template in &self.http {
            match http::open(&self.client, template, id).await {
                Ok(Some(source)) => return Ok(source),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(ContentError::Unknown(*id)))
    }

    pub(crate) async fn open_transfer(
        &self,
        what: &Transfer,
        job: JobId,
    ) -> Result<Source, ContentError> {
        match what {
            // A plain job's dataset was uploaded for it: no source need hear of it, and none can spoil it.
            Transfer::Content { id } if self.is_uploaded(id, job).await => {
                Source::file(&self.dataset_path(job), id.length()).await
            }
            Transfer::Content { id } => self.open_content(id).await,
            Transfer::SealedDataset { id } => {
                Source::file(&self.dataset_path(job), id.length()).await
            }
            Transfer::SegmentRoots { id } => {
                let content = Transfer::Content { id: *id };
                let source = Box::pin(self.open_transfer(&content, job)).await?;
                zg::segment_roots(source).await
            }
            Transfer::Result => Err(ContentError::Identify("a result goes the other way".into())),
        }
    }

    async fn is_uploaded(&self, id: &ContentId, job: JobId) -> bool {
        let row = self.store.job(job).await;
        row.is_ok_and(|row| row.submission.dataset == *id) && self.dataset_path(job).exists()
    }

    /// Registers a finished file under both of its ids. The file is moved into the store.
    pub(crate) async fn adopt(
        &self,
        file: tempfile::NamedTempFile,
    ) -> Result<crate::api::types::ContentView, ContentError> {
        let path = file.path().to_owned();
        let (sha256, zg) = identify(path).await?;
        let target = self.directory.join(digest_hex(&sha256));
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        Ok(self.store.add_content(&sha256, Some(&zg), &target).await?)
    }

    /// Registers the files of a directory that stay where they are.
    pub(crate) async fn index(&self, directory: &Path) -> Result<u64, ContentError> {
        let mut count = 0;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && metadata.len() > 0 {
                let (sha256, zg) = identify(entry.path()).await?;
                self.store.add_content(&sha256, Some(&zg), &entry.path()).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Removes content files of the store that are not in its list, and listed ones that no open job names.
    pub(crate) async fn collect(&self, in_use: &[ContentId]) -> Result<u64, ContentError> {
        let mut removed = 0;
        for view in self.store.contents().await? {
            let used = in_use.iter().any(|id| *id == view.sha256 || Some(*id) == view.zg);
            let path = self.store.content_path(&view.sha256).await?;
            if let Some(path) = path.filter(|path| !used && path.starts_with(&self.directory)) {
                self.store.remove_content(&view.sha256).await?;
                std::fs::remove_file(path)?;
                removed += view.bytes;
            }
        }
        Ok(removed)
    }
}

/// The digest part of an id, in hex.
pub(crate) fn digest_hex(id: &ContentId) -> String {
    let text = id.to_string();
    let digest = text.split(':').nth(1).unwrap_or_default();
    digest.trim_start_matches("0x").to_owned()
}

async fn identify(path: PathBuf) -> Result<(ContentId, ContentId), ContentError> {
    tokio::task::spawn_blocking(move || zg::identify_both(&path))
        .await
        .map_err(|error| ContentError::Identify(error.to_string()))?
}
