//! What can go wrong on the customer's side. One code for one cause; the table is in the README.

use std::{io, path::PathBuf};

use super::exit::Exit;

/// Something between this computer and the provider answered in its place.
pub(crate) const NO_ANSWER: &str = "ST-CLI-09";
/// The provider reports a failure without a reason.
pub(crate) const NO_REASON: &str = "ST-CLI-56";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("use {option}: {reason}")]
    Usage { option: &'static str, reason: String },
    #[error("know which provider to ask")]
    NoProvider,
    #[error("use the provider address {0:?}")]
    BadAddress(String),
    #[error("set up the HTTP client: {0}")]
    Setup(String),
    #[error("reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("get an answer from {address} within {seconds} s")]
    Timeout { address: String, seconds: u64 },
    #[error("take an answer of more than {limit} bytes to {call}")]
    AnswerTooLong { call: String, limit: usize },
    #[error("read the answer to {call}: {reason}")]
    BadAnswer { call: String, reason: String },
    #[error("{message}")]
    Provider { status: u16, code: String, message: String, fix: String, retry_after: Option<u64> },
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("read {path}: it has more than {limit} bytes")]
    FileTooLong { path: PathBuf, limit: u64 },
    #[error("write {path}: it exists already")]
    Exists { path: PathBuf },
    #[error("find the home directory: neither HOME nor the XDG variable is set")]
    NoHome,
    #[error("find an owner key at {path}")]
    NoKey { path: PathBuf },
    #[error("use the owner key {path}: other users may read it (mode {mode:03o})")]
    KeyReadable { path: PathBuf, mode: u32 },
    #[error("act for this job: it belongs to owner {owner}, the key is of {key}")]
    NotTheOwner { owner: String, key: String },
    #[error("find the record of job {job} in {directory}")]
    NoRecord { job: String, directory: PathBuf },
    #[error("read the job record {path}: {reason}")]
    BadRecord { path: PathBuf, reason: String },
    #[error("do this with job {job}: {reason}")]
    WrongJob { job: String, reason: String },
    #[error("use the file {path}: {reason}")]
    BadFile { path: PathBuf, reason: String },
    #[error("know the image {0:?} by a verity root")]
    UnknownImage(String),
    #[error("read the evidence: {0}")]
    EvidenceUnreadable(String),
    #[error("accept the provider's evidence ({codes})")]
    EvidenceRejected { codes: String },
    #[error("see job {job} become ready for its release within {seconds} s")]
    ReleaseTimeout { job: String, seconds: u64 },
    #[error("see the end of job {job} within {seconds} s")]
    WaitTimeout { job: String, seconds: u64 },
    #[error("finish job {job}: {message}")]
    JobFailed { job: String, code: String, message: String, fix: String },
    #[error("finish job {0}: it was cancelled")]
    JobCancelled(String),
    #[error("fetch the result of job {job}: it is {state}")]
    NoResult { job: String, state: String },
    #[error("accept the sealed frames of job {job}: {reason}")]
    Frames { job: String, reason: String },
    #[error("accept the receipt of job {job} ({codes})")]
    ReceiptRejected { job: String, codes: String },
    #[error("accept the result: it has the id {found}, the receipt says {expected}")]
    ResultMismatch { expected: String, found: String },
    #[error("open {name:?}: the receipt or this computer does not have it")]
    NoOpening { name: String },
    #[error("{0}")]
    Interrupted(String),
    #[error("{0}")]
    Bug(String),
}

impl ClientError {
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Usage { .. } => "ST-CLI-01",
            Self::NoProvider => "ST-CLI-02",
            Self::BadAddress(_) => "ST-CLI-03",
            Self::Setup(_) => "ST-CLI-04",
            Self::Unreachable { .. } => "ST-CLI-05",
            Self::Timeout { .. } => "ST-CLI-06",
            Self::AnswerTooLong { .. } => "ST-CLI-07",
            Self::BadAnswer { .. } => "ST-CLI-08",
            Self::Provider { code, .. } | Self::JobFailed { code, .. } => code,
            Self::Read { .. } => "ST-CLI-10",
            Self::Write { .. } => "ST-CLI-11",
            Self::FileTooLong { .. } => "ST-CLI-12",
            Self::Exists { .. } => "ST-CLI-13",
            Self::NoHome => "ST-CLI-14",
            Self::BadFile { .. } => "ST-CLI-15",
            Self::NoKey { .. } => "ST-CLI-20",
            Self::KeyReadable { .. } => "ST-CLI-21",
            Self::NotTheOwner { .. } => "ST-CLI-22",
            Self::NoRecord { .. } => "ST-CLI-30",
            Self::BadRecord { .. } => "ST-CLI-31",
            Self::WrongJob { .. } => "ST-CLI-32",
            Self::UnknownImage(_) => "ST-CLI-33",
            Self::EvidenceUnreadable(_) => "ST-CLI-40",
            Self::EvidenceRejected { .. } => "ST-CLI-41",
            Self::ReleaseTimeout { .. } => "ST-CLI-42",
            Self::WaitTimeout { .. } => "ST-CLI-43",
            Self::JobCancelled(_) => "ST-CLI-50",
            Self::NoResult { .. } => "ST-CLI-51",
            Self::Frames { .. } => "ST-CLI-52",
            Self::ReceiptRejected { .. } => "ST-CLI-53",
            Self::ResultMismatch { .. } => "ST-CLI-54",
            Self::NoOpening { .. } => "ST-CLI-55",
            Self::Interrupted(_) => "ST-CLI-90",
            Self::Bug(_) => "ST-CLI-99",
        }
    }

    pub(crate) fn fix(&self) -> &str {
        match self {
            Self::Usage { .. } => "see the command's --help for what the option takes",
            Self::NoProvider => "give --provider URL or set SEALTUNE_PROVIDER",
            Self::BadAddress(_) => {
                "write http://HOST:PORT, https://HOST or unix:/PATH, without a path behind the host"
            }
            Self::Setup(_) => "see that the system's CA certificates are installed",
            Self::Unreachable { .. } => {
                "check the address, and that `sealtune serve` runs there; then repeat the command"
            }
            Self::Timeout { .. } => "repeat the command; if it stays so, ask the operator",
            Self::AnswerTooLong { .. } | Self::BadAnswer { .. } => {
                "check that the address is a Sealtune provider of the same release"
            }
            Self::Provider { fix, .. } | Self::JobFailed { fix, .. } => fix,
            Self::Read { .. } => "check that the file exists and that you may read it",
            Self::Write { .. } => "check that the directory exists, is yours and has room",
            Self::FileTooLong { .. } => "check that you named the file that was meant",
            Self::Exists { .. } => "name another place, or move what is there away",
            Self::NoHome => "set HOME, or give the path with --key, --out or --state-dir",
            Self::BadFile { .. } => "name the file that the message asks for",
            Self::NoKey { .. } => "make one with `sealtune key new`, or name it with --key",
            Self::KeyReadable { .. } => {
                "run `chmod 600` on it; if others could read it, make a new one"
            }
            Self::NotTheOwner { .. } => "give the key that the job was submitted with, with --key",
            Self::NoRecord { .. } => {
                "run the command where the job was submitted, or give --state-dir or --job-record"
            }
            Self::BadRecord { .. } => "restore the record from a backup; it cannot be made again",
            Self::WrongJob { .. } => "look at the job with `sealtune job show`",
            Self::UnknownImage(_) => {
                "give --image-file FILE.layer.json, or the 64 hex digits of the image's verity root"
            }
            Self::EvidenceUnreadable(_) => {
                "check that the provider is of the same release; nothing was released"
            }
            Self::EvidenceRejected { .. } => {
                "nothing was released; look each code up with `sealtune explain CODE`, or ask another provider"
            }
            Self::ReleaseTimeout { .. } => {
                "go on later with `sealtune job release JOB`, or give a longer --release-timeout"
            }
            Self::WaitTimeout { .. } => "the job goes on: wait again, or give a longer --timeout",
            Self::JobCancelled(_) => "submit the job again if that was not intended",
            Self::NoResult { .. } => "wait with `sealtune job wait JOB`, then fetch again",
            Self::Frames { .. } => {
                "fetch the logs again; if it stays so, the provider withholds or changed some"
            }
            Self::ReceiptRejected { .. } => {
                "do not use the result; look each code up with `sealtune explain CODE`"
            }
            Self::ResultMismatch { .. } => {
                "remove the .part file and fetch again; if it stays so, the provider keeps another file"
            }
            Self::NoOpening { .. } => "name values that `sealtune receipt open` lists",
            Self::Interrupted(_) => {
                "run that command; a job that was submitted goes on at the provider meanwhile"
            }
            Self::Bug(_) => "report this with the command that you ran",
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            // A file that was named and is not there is a slip of the pen, not of the disk.
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::Usage,
            Self::Usage { .. }
            | Self::NoProvider
            | Self::BadAddress(_)
            | Self::FileTooLong { .. }
            | Self::Exists { .. }
            | Self::BadFile { .. }
            | Self::NoKey { .. }
            | Self::KeyReadable { .. }
            | Self::NoRecord { .. }
            | Self::BadRecord { .. }
            | Self::WrongJob { .. }
            | Self::UnknownImage(_)
            | Self::NoOpening { .. } => Exit::Usage,
            Self::Setup(_)
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::AnswerTooLong { .. }
            | Self::BadAnswer { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::NoHome
            | Self::ReleaseTimeout { .. }
            | Self::WaitTimeout { .. } => Exit::Environment,
            Self::Provider { status, .. } => match status {
                401 | 403 => Exit::Refused,
                409 => Exit::No,
                400..=499 => Exit::Usage,
                _ => Exit::Environment,
            },
            Self::NotTheOwner { .. }
            | Self::EvidenceUnreadable(_)
            | Self::EvidenceRejected { .. } => Exit::Refused,
            Self::JobFailed { .. }
            | Self::JobCancelled(_)
            | Self::NoResult { .. }
            | Self::Frames { .. }
            | Self::ReceiptRejected { .. }
            | Self::ResultMismatch { .. } => Exit::No,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Bug(_) => Exit::Bug,
        }
    }

    /// The connection, not the call, is at fault: an idempotent call may be repeated.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Provider { status, .. } => matches!(status, 408 | 429 | 502..=504),
            _ => false,
        }
    }
}
