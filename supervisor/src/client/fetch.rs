//! The result on its way home: downloaded with resume, held against the receipt, opened, unpacked in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sealtune_content::{
    ContentHasher, ContentId, Scheme,
    archive::{self, DirectorySink, UnpackSummary},
};
use sealtune_job::{JobId, JobKind};
use sealtune_seal::{OwnerKey, result_object::ResultOpener};

use super::{CliError, ClientError, Connection, JobRecord, Progress, clock, dataset};

pub(crate) const OUTPUT: &str = "output_model";
const READ: usize = 1 << 20;
const RETRIES: u32 = 20;

/// Where the parts of a fetched job go.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) directory: PathBuf,
}

impl Destination {
    pub(crate) fn part(&self) -> PathBuf {
        self.directory.join("result.sealed.part")
    }

    pub(crate) fn result(&self) -> PathBuf {
        self.directory.join("result.sealed")
    }

    pub(crate) fn receipt(&self) -> PathBuf {
        self.directory.join("receipt.json")
    }

    pub(crate) fn openings(&self) -> PathBuf {
        self.directory.join("openings")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log.txt")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.directory.join("metrics.jsonl")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.directory.join(OUTPUT)
    }
}

/// Downloads the result object of which every id in `expected` must hold; goes on where an earlier run was cut.
pub(crate) async fn download(
    connection: &Connection,
    job: JobId,
    expected: &[ContentId],
    destination: &Destination,
    progress: &Progress,
) -> Result<(), CliError> {
    if destination.result().exists() {
        return check_ids(&destination.result(), expected, progress).await;
    }
    let part = destination.part();
    let length = expected.first().map_or(0, ContentId::length);
    let failed = |source| ClientError::Write { path: part.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&part)
        .map_err(failed)?;
    let mut bar = progress.bar("fetching result", length);
    let mut losses = 0;
    loop {
        let have = file.seek(std::io::SeekFrom::End(0)).map_err(failed)?;
        if have >= length {
            break;
        }
        bar.at(have);
        match download_from(connection, job, &mut file, have, length, &mut bar).await {
            Ok(()) => losses = 0,
            Err(error) if error.is_transient() && losses < RETRIES => {
                // Progress between two losses is progress.
                let now = file.seek(std::io::SeekFrom::End(0)).map_err(failed)?;
                losses = if now > have { 1 } else { losses + 1 };
                let delay = 250 * u64::from(losses) + clock::jitter(100);
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            Err(error) => return Err(error),
        }
    }
    file.sync_all().map_err(failed)?;
    bar.done();
    if let Err(error) = check_ids(&part, expected, progress).await {
        // A part that is whole and wrong can never become right.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::rename(&part, destination.result()).map_err(failed)?;
    Ok(())
}

async fn download_from(
    connection: &Connection,
    job: JobId,
    file: &mut File,
    have: u64,
    length: u64,
    bar: &mut super::progress::Bar,
) -> Result<(), CliError> {
    let mut answer = connection.result(job, have).await?;
    let bad = |reason: String| ClientError::BadAnswer { call: "GET /result".into(), reason };
    let mut at = match (answer.status, have) {
        (200, _) => {
            // The whole object, whatever was asked for.
            let rewound = file.set_len(0).and_then(|()| file.rewind());
            rewound.map_err(|error| ClientError::Bug(format!("rewind: {error}")))?;
            0
        }
        (206, _) => {
            let begins = answer.header("content-range").is_some_and(|range| {
                range.strip_prefix("bytes ").is_some_and(|r| r.starts_with(&format!("{have}-")))
            });
            if !begins {
                return Err(bad("it is another range than was asked for".into()).into());
            }
            have
        }
        (status, _) => return Err(bad(format!("HTTP status {status}")).into()),
    };
    while let Some(piece) = answer.piece().await? {
        at += piece.len() as u64;
        if at > length {
            return Err(bad(format!("it is longer than {length} bytes")).into());
        }
        file.write_all(&piece)
            .map_err(|source| ClientError::Write { path: "result.sealed.part".into(), source })?;
        bar.at(at);
    }
    if at < length {
        let reason = format!("the answer ended at {at} of {length} bytes");
        let address = connection.address().to_string();
        return Err(ClientError::Unreachable { address, reason }.into());
    }
    Ok(())
}

async fn check_ids(
    path: &Path,
    expected: &[ContentId],
    progress: &Progress,
) -> Result<(), CliError> {
    let failed = |source| ClientError::Read { path: path.to_owned(), source };
    let mut hashers: Vec<_> =
        expected.iter().map(|id| (id, ContentHasher::new(id.scheme()))).collect();
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bar = progress.bar("checking result", length);
    let mut buffer = vec![0; READ];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        for (_, hasher) in &mut hashers {
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        done += count as u64;
        bar.at(done);
        tokio::task::yield_now().await;
    }
    bar.done();
    for (id, hasher) in hashers {
        let found = hasher.finish().map_err(sealtune_content::HashError::Merkle)?;
        if found != *id {
            let (expected, found) = (id.to_string(), found.to_string());
            return Err(ClientError::ResultMismatch { expected, found }.into());
        }
    }
    Ok(())
}

/// A result that was opened and unpacked.
#[derive(Debug)]
pub(crate) struct Decrypted {
    pub(crate) unpacked: UnpackSummary,
    /// SHA-256 of the archive inside.
    pub(crate) plain: [u8; 32],
}

/// The archive of a result, checked or opened, before it is unpacked.
struct Archive {
    file: File,
    sha256: [u8; 32],
}

/// Opens a result (a sealed one with the owner's key) and unpacks it to `target`, which appears whole or not at all.
pub(crate) async fn decrypt(
    sealed: &Path,
    record: &JobRecord,
    owner: &OwnerKey,
    target: &Path,
    progress: &Progress,
) -> Result<Decrypted, CliError> {
    if target.symlink_metadata().is_ok() {
        return Err(ClientError::Exists { path: target.to_owned() }.into());
    }
    let directory = super::files::directory_of(target);
    super::files::make_private_directory(directory)?;
    let archive = match record.kind {
        JobKind::Sealed => open_result(sealed, record, owner, directory, progress).await?,
        JobKind::Plain => Archive {
            file: File::open(sealed)
                .map_err(|source| ClientError::Read { path: sealed.to_owned(), source })?,
            sha256: *dataset::identify(sealed, Scheme::Sha256, progress).await?.hash(),
        },
    };
    let plain = archive.sha256;
    let unpacked = unpack(archive.file, record.terms.limits.output_bytes, directory, target)?;
    Ok(Decrypted { unpacked, plain })
}

/// The archive inside, in a file without a name.
async fn open_result(
    sealed: &Path,
    record: &JobRecord,
    owner: &OwnerKey,
    directory: &Path,
    progress: &Progress,
) -> Result<Archive, CliError> {
    let mut digests = record.all_specification_digests()?.into_iter().peekable();
    while let Some(digest) = digests.next() {
        match try_open(sealed, &digest, owner, directory, progress).await {
            // Sealed under another attempt's specification, if there is one.
            Err(error) if error.code == "ST-SEAL-15" && digests.peek().is_some() => {}
            outcome => return outcome,
        }
    }
    let (job, reason) = (record.job().to_string(), "it was not released from this computer".into());
    Err(ClientError::WrongJob { job, reason }.into())
}

async fn try_open(
    sealed: &Path,
    specification_digest: &[u8; 32],
    owner: &OwnerKey,
    directory: &Path,
    progress: &Progress,
) -> Result<Archive, CliError> {
    let read_failed = |source| ClientError::Read { path: sealed.to_owned(), source };
    let write_failed = |source| ClientError::Write { path: directory.to_owned(), source };
    let mut input = File::open(sealed).map_err(read_failed)?;
    let length = input.metadata().map_err(read_failed)?.len();
    let mut opened = tempfile::tempfile_in(directory).map_err(write_failed)?;
    let mut opener = ResultOpener::new(owner.recipient(), specification_digest);
    let mut bar = progress.bar("decrypting", length);
    let mut buffer = vec![0; READ];
    let mut plain = zeroize::Zeroizing::new(Vec::new());
    let mut done = 0;
    let mut hasher = ContentHasher::new(Scheme::Sha256);
    loop {
        let count = input.read(&mut buffer).map_err(read_failed)?;
        if count == 0 {
            break;
        }
        opener.push(buffer.get(..count).unwrap_or_default(), &mut plain)?;
        hasher.update(&plain);
        opened.write_all(&plain).map_err(write_failed)?;
        plain.clear();
        done += count as u64;
        bar.at(done);
        tokio::task::yield_now().await;
    }
    opener.finish(&mut plain)?;
    hasher.update(&plain);
    opened.write_all(&plain).and_then(|()| opened.rewind()).map_err(write_failed)?;
    bar.done();
    let id = hasher.finish().map_err(sealtune_content::HashError::Merkle)?;
    Ok(Archive { file: opened, sha256: *id.hash() })
}

fn unpack(
    opened: File,
    output_bytes: u64,
    directory: &Path,
    target: &Path,
) -> Result<UnpackSummary, CliError> {
    let failed = |source| ClientError::Write { path: target.to_owned(), source };
    let limits = archive::Limits::with_total(output_bytes).single_top_level(OUTPUT);
    let plan = archive::plan(BufReader::new(opened), &limits)?;
    let staging =
        tempfile::Builder::new().prefix(".sealtune-").tempdir_in(directory).map_err(failed)?;
    let mut sink = DirectorySink::new(staging.path()).map_err(failed)?;
    let summary = plan.unpack(&mut sink)?;
    fs::rename(staging.path().join(OUTPUT), target).map_err(failed)?;
    Ok(summary)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::records::{ReleaseRecord, tests::sample_record};
    use sealtune_content::archive::PackMethod;
    use sealtune_job::Hex;
    use sealtune_seal::{Secret, Suite, envelope::wrap_object_key, result_object::ResultSealer};

    /// What an agent delivers for a specification.
    pub(crate) fn sealed_result(owner: &OwnerKey, digest: &[u8; 32], zip: &[u8]) -> Vec<u8> {
        let key = Secret::random().expect("key");
        let envelope = wrap_object_key(&owner.public().recipient, digest, &key).expect("envelope");
        let (mut sealer, mut object) = ResultSealer::new(&envelope, &key, digest).expect("sealer");
        sealer.push(zip, &mut object).expect("seal");
        sealer.finish(&mut object).expect("finish");
        object
    }

    pub(crate) fn zip_of_output() -> Vec<u8> {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("adapter")).expect("directory");
        fs::write(directory.path().join("adapter/weights.bin"), [7; 3000]).expect("file");
        fs::write(directory.path().join("metrics.json"), "{}").expect("file");
        let files = archive::list_tree(directory.path(), OUTPUT, 100).expect("list");
        let mut zip = Vec::new();
        let opened = files.iter().map(|file| {
            let opened = file.open().map_err(archive::ArchiveError::List)?;
            Ok((file.name.as_str().to_owned(), opened))
        });
        archive::pack(opened, PackMethod::Deflate, 1 << 20, &mut zip).expect("pack");
        zip
    }

    fn released_record(digests: &[[u8; 32]]) -> JobRecord {
        let mut record = sample_record();
        for (attempt, digest) in (1..).zip(digests) {
            let (offer, specification) = (Hex([0; 32]), Hex(*digest));
            record.releases.push(ReleaseRecord { attempt, offer, specification, time: 0 });
        }
        record
    }

    #[tokio::test]
    async fn a_result_opens_for_whichever_attempt_made_it_and_unpacks_whole() {
        let owner = OwnerKey::generate(Suite::X25519).expect("key");
        let record = released_record(&[[1; 32], [2; 32]]);
        let directory = tempfile::tempdir().expect("directory");
        let sealed = directory.path().join("result.sealed");
        fs::write(&sealed, sealed_result(&owner, &[1; 32], &zip_of_output())).expect("write");
        let target = directory.path().join("out/output_model");
        let progress = Progress::new();
        let opened = decrypt(&sealed, &record, &owner, &target, &progress).await.expect("opens");
        assert_eq!(opened.unpacked.files, 2);
        assert_eq!(fs::read(target.join("adapter/weights.bin")).expect("read"), [7; 3000]);
        assert_eq!(fs::read_dir(directory.path().join("out")).expect("list").count(), 1);
        let again = decrypt(&sealed, &record, &owner, &target, &progress).await;
        assert_eq!(again.expect_err("exists").code, "ST-CLI-13");
    }

    #[tokio::test]
    async fn a_cut_or_foreign_result_leaves_nothing_behind() {
        let owner = OwnerKey::generate(Suite::X25519).expect("key");
        let record = released_record(&[[1; 32]]);
        let directory = tempfile::tempdir().expect("directory");
        let sealed = directory.path().join("result.sealed");
        let object = sealed_result(&owner, &[1; 32], &zip_of_output());
        let foreign = sealed_result(&owner, &[9; 32], &zip_of_output());
        for bytes in [&object[..object.len() - 1], &foreign, b"no result at all, but long enough"] {
            fs::write(&sealed, bytes).expect("write");
            let target = directory.path().join("out/output_model");
            let outcome = decrypt(&sealed, &record, &owner, &target, &Progress::new()).await;
            assert_eq!(outcome.expect_err("refused").exit.number(), 1);
            assert_eq!(fs::read_dir(directory.path().join("out")).expect("list").count(), 0);
        }
    }
}
