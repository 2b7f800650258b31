//! The dataset on its way out: sealed once to a file, then uploaded in parts from wherever the provider has got to.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    time::Duration,
};

use sealtune_content::{ContentHasher, ContentId, Scheme};
use sealtune_job::JobId;
use sealtune_seal::{
    Secret,
    stream::{ObjectKind, Sealer},
};

use super::{CliError, ClientError, Connection, Progress, clock};
use crate::api::types::UPLOAD_PART;

const READ: usize = 1 << 20;
/// Consecutive lost connections before an upload gives up.
const UPLOAD_RETRIES: u32 = 20;

/// Ids of a dataset and of what it was sealed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedDataset {
    pub(crate) plain: ContentId,
    pub(crate) sealed: ContentId,
}

/// Seals `source` into the new file `target` for one job. Both are hashed while they pass.
pub(crate) async fn seal(
    source: &Path,
    target: &Path,
    key: &Secret<[u8; 32]>,
    job: JobId,
    progress: &Progress,
) -> Result<SealedDataset, CliError> {
    let read_failed = |error| ClientError::Read { path: source.to_owned(), source: error };
    let write_failed = |error| ClientError::Write { path: target.to_owned(), source: error };
    let mut input = File::open(source).map_err(read_failed)?;
    let total = input.metadata().map_err(read_failed)?.len();
    super::files::make_parent(target)?;
    let directory = super::files::directory_of(target);
    // Gone by itself if this is interrupted.
    let mut output = tempfile::Builder::new()
        .prefix(".sealing-")
        .tempfile_in(directory)
        .map_err(write_failed)?;
    let (mut sealer, header) = Sealer::new(key, ObjectKind::Dataset, job.as_bytes())?;
    let mut plain_hasher = ContentHasher::new(Scheme::Sha256);
    let mut sealed_hasher = ContentHasher::new(Scheme::Sha256);
    let mut bar = progress.bar("sealing dataset", total);
    let mut buffer = zeroize::Zeroizing::new(vec![0; READ]);
    let mut sealed = header.to_vec();
    loop {
        let count = input.read(&mut buffer).map_err(read_failed)?;
        let piece = buffer.get(..count).unwrap_or_default();
        plain_hasher.update(piece);
        sealer.push(piece, &mut sealed)?;
        if count == 0 {
            break;
        }
        sealed_hasher.update(&sealed);
        output.write_all(&sealed).map_err(write_failed)?;
        sealed.clear();
        bar.at(plain_hasher.length());
        // So that an interrupt is seen between two pieces.
        tokio::task::yield_now().await;
    }
    sealer.finish(&mut sealed)?;
    sealed_hasher.update(&sealed);
    output.write_all(&sealed).and_then(|()| output.as_file().sync_all()).map_err(write_failed)?;
    output.persist(target).map_err(|error| write_failed(error.error))?;
    bar.done();
    Ok(SealedDataset { plain: finish(plain_hasher)?, sealed: finish(sealed_hasher)? })
}

/// The id of a file.
pub(crate) async fn identify(
    path: &Path,
    scheme: Scheme,
    progress: &Progress,
) -> Result<ContentId, CliError> {
    let failed = |source| ClientError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let reason = "it is a directory: zip it first".to_owned();
        return Err(ClientError::BadFile { path: path.to_owned(), reason }.into());
    }
    let mut hasher = ContentHasher::new(scheme);
    let mut bar = progress.bar("hashing", metadata.len());
    let mut buffer = vec![0; READ];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        bar.at(hasher.length());
        tokio::task::yield_now().await;
    }
    bar.done();
    finish(hasher)
}

fn finish(hasher: ContentHasher) -> Result<ContentId, CliError> {
    hasher.finish().map_err(|error| sealtune_content::HashError::Merkle(error).into())
}

/// Uploads what the provider does not have yet; a lost connection goes on where the provider is.
pub(crate) async fn upload(
    connection: &Connection,
    job: JobId,
    path: &Path,
    progress: &Progress,
) -> Result<(), CliError> {
    let failed = |source| ClientError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut state = connection.upload_state(job).await?;
    if state.total != length {
        let reason = format!("it has {length} bytes, the job's dataset has {}", state.total);
        return Err(ClientError::BadFile { path: path.to_owned(), reason }.into());
    }
    let mut bar = progress.bar("uploading dataset", length);
    let mut losses = 0;
    while state.received < length {
        let part = read_part(&mut file, state.received, length).map_err(failed)?;
        match connection.upload_part(job, state.received, length, part.into()).await {
            Ok(next) if next.received > state.received && next.total == length => {
                state = next;
                losses = 0;
                bar.at(state.received);
            }
            Ok(next) => {
                let reason = format!("it stands at {} of {} bytes", next.received, next.total);
                let call = format!("PUT /v1/jobs/{job}/dataset");
                return Err(ClientError::BadAnswer { call, reason }.into());
            }
            // The part may have arrived although its answer did not: the provider knows.
            Err(error) if error.is_transient() && losses < UPLOAD_RETRIES => {
                losses += 1;
                let delay = 250 * u64::from(losses) + clock::jitter(100);
                tokio::time::sleep(Duration::from_millis(delay)).await;
                state = connection.upload_state(job).await?;
            }
            Err(error) => return Err(error),
        }
    }
    bar.done();
    Ok(())
}

fn read_part(file: &mut File, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let wanted = (length - offset).min(UPLOAD_PART as u64);
    file.seek(SeekFrom::Start(offset))?;
    let mut part = Vec::new();
    file.take(wanted).read_to_end(&mut part)?;
    if part.len() as u64 == wanted {
        Ok(part)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealtune_seal::stream::Opener;

    #[tokio::test]
    async fn what_is_sealed_opens_for_its_job_only_and_has_the_ids_that_were_said() {
        let directory = tempfile::tempdir().expect("directory");
        let source = directory.path().join("data.jsonl");
        let target = directory.path().join("data.sealed");
        let plain: Vec<u8> = (0..2_500_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&source, &plain).expect("write");
        let key = Secret::random().expect("key");
        let job = JobId::from_bytes([5; 16]);
        let progress = Progress::new();
        let ids = seal(&source, &target, &key, job, &progress).await.expect("sealed");
        assert_eq!(ids.plain, identify(&source, Scheme::Sha256, &progress).await.expect("id"));
        assert_eq!(ids.sealed, identify(&target, Scheme::Sha256, &progress).await.expect("id"));

        let sealed = std::fs::read(&target).expect("read");
        let open = |context: &[u8]| {
            let mut opener = Opener::new(&key, ObjectKind::Dataset, context);
            let mut out = Vec::new();
            opener.push(&sealed, &mut out).and_then(|()| opener.finish(&mut out)).map(|()| out)
        };
        assert_eq!(open(job.as_bytes()).expect("opens"), plain);
        assert!(open(&[6; 16]).is_err());
    }
}
