//! Job records: what the customer must keep to release, follow, fetch and open a job.
//!
//! A record is written before the provider hears of the job, one file a job, mode 0600, replaced in one step. It holds
//! the data key and the commitment key; who loses it keeps a result that still opens with the owner's key, but cannot
//! release the job again nor open its receipt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealtune_job::{Hex, JobId, JobKind, JobSpecification, JobTerms};
use sealtune_seal::{Secret, release::specification_digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{CliError, ClientError, files};

const VERSION: u32 = 1;
const MAX_RECORD: u64 = 2 << 20;
/// More than a job can be tried.
const MAX_RELEASES: usize = 64;

#[derive(Debug)]
pub(crate) struct JobRecord {
    pub(crate) provider: String,
    pub(crate) kind: JobKind,
    pub(crate) idempotency_key: String,
    /// Terms of the first attempt, without an offer.
    pub(crate) terms: JobTerms,
    pub(crate) data_key: Secret<[u8; 32]>,
    pub(crate) commitment_key: Secret<[u8; 32]>,
    /// What has to be uploaded, until it is.
    pub(crate) upload: Option<PathBuf>,
    /// Oldest first.
    pub(crate) releases: Vec<ReleaseRecord>,
    pub(crate) created: u64,
}

/// One release of the job to one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRecord {
    pub(crate) attempt: u32,
    /// Digest of the accepted offer.
    pub(crate) offer: Hex<32>,
    pub(crate) specification: Hex<32>,
    pub(crate) time: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    provider: String,
    kind: JobKind,
    idempotency_key: String,
    terms: JobTerms,
    data_key: Hex<32>,
    commitment_key: Hex<32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    upload: Option<PathBuf>,
    releases: Vec<ReleaseRecord>,
    created: u64,
}

impl JobRecord {
    pub(crate) fn job(&self) -> JobId {
        self.terms.job
    }

    /// The specification for one attempt at one offer.
    pub(crate) fn specification(&self, attempt: u32, offer: Hex<32>) -> JobSpecification {
        let terms = JobTerms { attempt, offer: Some(offer), ..self.terms.clone() };
        JobSpecification {
            terms,
            data_key: self.data_key.duplicate(),
            commitment_key: self.commitment_key.duplicate(),
        }
    }

    /// Digests of the specifications of `attempt`, newest first: one of them is what its frames and its result are
    /// sealed under. More than one if an answer to a release was lost.
    pub(crate) fn specification_digests(&self, attempt: u32) -> Result<Vec<[u8; 32]>, CliError> {
        match self.kind {
            JobKind::Sealed => {
                let of_attempt = self.releases.iter().rev().filter(|one| one.attempt == attempt);
                Ok(of_attempt.map(|release| release.specification.0).collect())
            }
            JobKind::Plain => {
                let terms = JobTerms { attempt, ..self.terms.clone() };
                Ok(vec![specification_digest(&sealtune_seal::canonical::to_vec(&terms)?)])
            }
        }
    }

    /// Digests for every attempt that can have made a result, newest first.
    pub(crate) fn all_specification_digests(&self) -> Result<Vec<[u8; 32]>, CliError> {
        let mut digests = Vec::new();
        for attempt in (1..=sealtune_job::MAX_ATTEMPTS).rev() {
            digests.extend(self.specification_digests(attempt)?);
        }
        Ok(digests)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, ClientError> {
        let mut written = Written {
            version: VERSION,
            provider: self.provider.clone(),
            kind: self.kind,
            idempotency_key: self.idempotency_key.clone(),
            terms: self.terms.clone(),
            data_key: Hex(*self.data_key.expose()),
            commitment_key: Hex(*self.commitment_key.expose()),
            upload: self.upload.clone(),
            releases: self.releases.clone(),
            created: self.created,
        };
        let bytes = serde_json::to_vec_pretty(&written)
            .map_err(|error| ClientError::Bug(format!("write a job record: {error}")));
        written.data_key.0.zeroize();
        written.commitment_key.0.zeroize();
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if written.version != VERSION {
            return Err(format!("version {} is not known here", written.version));
        }
        if written.releases.len() > MAX_RELEASES {
            return Err(format!("more than {MAX_RELEASES} releases"));
        }
        written.terms.validate().map_err(|error| error.to_string())?;
        Ok(Self {
            provider: written.provider,
            kind: written.kind,
            idempotency_key: written.idempotency_key,
            terms: written.terms,
            data_key: Secret::new(written.data_key.0),
            commitment_key: Secret::new(written.commitment_key.0),
            upload: written.upload,
            releases: written.releases,
            created: written.created,
        })
    }
}

/// The directory of the records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    /// `~/.local/share/sealtune/jobs` unless another state directory is named.
    pub(crate) fn open(state_directory: Option<&Path>) -> Result<Self, ClientError> {
        let state = match state_directory {
            Some(directory) => directory.to_owned(),
            None => files::data_directory()?,
        };
        Ok(Self { directory: state.join("jobs") })
    }

    pub(crate) fn path(&self, job: JobId) -> PathBuf {
        self.directory.join(format!("{job}.json"))
    }

    /// How new the collateral was that jobs were released by.
    pub(crate) fn collateral_memory_path(&self) -> PathBuf {
        self.directory.with_file_name("collateral-memory.json")
    }

    /// Where a job's sealed dataset waits until it is uploaded.
    pub(crate) fn sealed_dataset_path(&self, job: JobId) -> PathBuf {
        self.directory.join(format!("{job}.dataset.sealed"))
    }

    pub(crate) fn save(&self, record: &JobRecord) -> Result<(), ClientError> {
        files::replace_private(&self.path(record.job()), &record.to_bytes()?)
    }

    pub(crate) fn load(&self, job: JobId) -> Result<JobRecord, ClientError> {
        let path = self.path(job);
        if !path.exists() {
            let directory = self.directory.clone();
            return Err(ClientError::NoRecord { job: job.to_string(), directory });
        }
        let record = load_file(&path)?;
        if record.job() != job {
            let reason = format!("it is the record of job {}", record.job());
            return Err(ClientError::BadRecord { path, reason });
        }
        Ok(record)
    }

    /// The job that was submitted from here under this idempotency key.
    pub(crate) fn find_by_idempotency_key(&self, key: &str) -> Option<JobRecord> {
        let entries = fs::read_dir(&self.directory).ok()?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .filter_map(|path| load_file(&path).ok())
            .find(|record| record.idempotency_key == key)
    }
}

/// Reads one record from a file of any name.
pub(crate) fn load_file(path: &Path) -> Result<JobRecord, ClientError> {
    let mut bytes = files::read(path, MAX_RECORD)?;
    let record = JobRecord::parse(&bytes)
        .map_err(|reason| ClientError::BadRecord { path: path.to_owned(), reason });
    bytes.zeroize();
    record
}

/// Fuzz entry: a record that reads is written and read back the same.
#[cfg(test)]
pub(crate) fn fuzz_job_record(data: &[u8]) {
    if let Ok(record) = JobRecord::parse(data) {
        let bytes = record.to_bytes().unwrap_or_default();
        let again = JobRecord::parse(&bytes)
            .and_then(|again| again.to_bytes().map_err(|error| error.to_string()));
        assert_eq!(again.ok(), Some(bytes));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::submit::tests::sample_terms;

    pub(crate) fn sample_record() -> JobRecord {
        JobRecord {
            provider: "http://localhost:1".into(),
            kind: JobKind::Sealed,
            idempotency_key: "key".into(),
            terms: sample_terms(),
            data_key: Secret::new([0xd1; 32]),
            commitment_key: Secret::new([0xc2; 32]),
            upload: Some("/tmp/x.sealed".into()),
            releases: vec![],
            created: 1_700_000_000,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().expect("directory");
        let records = Records::open(Some(directory.path())).expect("records");
        let mut record = sample_record();
        records.save(&record).expect("save");
        let offer = Hex([7; 32]);
        let bytes = record.specification(2, offer).to_canonical().expect("canonical");
        let specification = Hex(specification_digest(bytes.expose()));
        record.releases.push(ReleaseRecord { attempt: 2, offer, specification, time: 5 });
        records.save(&record).expect("save again");

        let read = records.load(record.job()).expect("load");
        assert_eq!(read.to_bytes().expect("bytes"), record.to_bytes().expect("bytes"));
        assert_eq!(read.specification_digests(2).expect("digests"), [specification.0]);
        assert!(read.specification_digests(1).expect("digests").is_empty());
        assert_eq!(read.all_specification_digests().expect("digests"), [specification.0]);
        assert!(read.data_key.equals(&record.data_key));
        assert!(records.find_by_idempotency_key("key").is_some());
        assert!(records.find_by_idempotency_key("other").is_none());
        assert!(files::private_mode(&records.path(record.job())).is_ok());
    }

    #[test]
    fn refuses_records_that_it_did_not_write() {
        let good = sample_record().to_bytes().expect("bytes");
        let text = String::from_utf8(good.clone()).expect("text");
        assert!(JobRecord::parse(&good).is_ok());
        for bad in [
            text.replace("\"version\": 1,\n  \"provider\"", "\"version\": 2,\n  \"provider\""),
            text.replace("\"created\"", "\"unknown\""),
            text.replace("d1d1", "D1D1"),
            text[..text.len() / 2].to_owned(),
        ] {
            assert!(JobRecord::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        fuzz_job_record(&good);
    }

    #[test]
    fn a_missing_record_names_its_directory() {
        let directory = tempfile::tempdir().expect("directory");
        let records = Records::open(Some(directory.path())).expect("records");
        let error = records.load(JobId::from_bytes([1; 16])).expect_err("none");
        assert_eq!(error.code(), "ST-CLI-30");
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", sample_record());
        assert!(!shown.contains("d1d1") && !shown.contains("209, 209"), "{shown}");
    }
}
