//! The statement: an in-toto Statement v1 whose subject is the ciphertext of the result and whose predicate says how it
//! came to be. Canonical JSON; its bytes travel verbatim.

use std::collections::BTreeMap;

use sealtune_content::{ContentId, Scheme};
use sealtune_evidence::{Hex16, Hex32, claims::GpuClaim};
use sealtune_job::{FailReason, TrainingExit};
use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::codes::Code;

pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub const PREDICATE_TYPE: &str = "urn:sealtune:receipt:v1";
pub const MAX_STATEMENT_BYTES: usize = 128 * 1024;
const MAX_COMMITMENTS: usize = 256;
const MAX_TEXT: usize = 256;
const RESULT: &str = "result";
const SPECIFICATION: &str = "job-specification";

/// Digests of a subject: SHA-256 always, the 0G storage root where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectDigest {
    pub sha256: Hex32,
    #[serde(rename = "zgRoot", default, skip_serializing_if = "Option::is_none")]
    pub zg_root: Option<Hex32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub name: String,
    pub digest: SubjectDigest,
}

/// The training image that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageIdentity {
    /// Root of the dm-verity tree that was opened.
    Verity(Hex32),
    /// Digest of the OCI manifest that the agent unpacked itself.
    Oci(Hex32),
}

/// Which agent ran the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentIdentity {
    pub version: String,
    pub release: String,
}

/// Whole milliseconds by the guest's monotonic clock; wall-clock times would be the host's word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    pub fetch: u64,
    pub prepare: u64,
    /// From the start of training until the script's first output; the container and its program come up in it. Zero where
    /// the script wrote nothing.
    pub start: u64,
    pub train: u64,
    pub seal: u64,
}

/// Where a stream of sealed frames ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamEnd {
    pub count: u64,
    /// Last link of the digest chain; zero for an empty stream.
    pub last: Hex32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    pub log: StreamEnd,
    pub metric: StreamEnd,
}

/// How the attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReceiptOutcome {
    /// The ciphertext of the result, by its content id.
    Completed {
        result: ContentId,
    },
    Failed {
        reason: FailReason,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    pub version: u32,
    pub job: Hex16,
    pub attempt: u32,
    /// Digest of the job specification.
    pub spec: Hex32,
    pub outcome: ReceiptOutcome,
    /// Absent if no training process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<TrainingExit>,
    pub image: ImageIdentity,
    pub agent: AgentIdentity,
    /// `H` of the launch configuration.
    pub launch: Hex32,
    pub durations_ms: Durations,
    pub streams: Streams,
    /// Salted commitments by name (dataset, parameters, metrics, result, script, environment); the owner can open each.
    pub commitments: BTreeMap<String, Hex32>,
    /// Evidence digest of the start.
    pub previous: Hex32,
    pub gpu: Vec<GpuClaim>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "_type")]
    pub statement_type: String,
    pub subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    pub predicate: Predicate,
}

#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("read the statement: {0}")]
    Parse(#[source] CanonicalError),
    #[error("read the statement: it is of another type")]
    Type,
    #[error("accept the statement: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

impl StatementError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Parse(_) => Code::StatementUnreadable,
            Self::Type => Code::StatementType,
            Self::Field { .. } => Code::StatementField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Statement {
    /// A statement about a result: `sha256` is of its whole ciphertext, `zg_root` its 0G storage root.
    pub fn completed(
        sha256: Hex32,
        zg_root: Option<Hex32>,
        predicate: Predicate,
    ) -> Result<Self, StatementError> {
        let digest = SubjectDigest { sha256, zg_root };
        Self::new(Subject { name: RESULT.to_owned(), digest }, predicate)
    }

    /// A record of a failure: there is no result, so the subject is the job specification.
    pub fn failed(predicate: Predicate) -> Result<Self, StatementError> {
        let digest = SubjectDigest { sha256: predicate.spec, zg_root: None };
        Self::new(Subject { name: SPECIFICATION.to_owned(), digest }, predicate)
    }

    fn new(subject: Subject, predicate: Predicate) -> Result<Self, StatementError> {
        let statement = Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![subject],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        };
        statement.validate()?;
        Ok(statement)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let statement: Self =
            canonical::parse(bytes, MAX_STATEMENT_BYTES).map_err(StatementError::Parse)?;
        statement.validate()?;
        Ok(statement)
    }

    /// The bytes to sign and to send.
    pub fn to_payload(&self) -> Result<Vec<u8>, StatementError> {
        self.validate()?;
        canonical::to_vec(self).map_err(StatementError::Parse)
    }

    /// SHA-256 of the result's ciphertext, if there is a result.
    pub fn result_sha256(&self) -> Option<Hex32> {
        match self.predicate.outcome {
            ReceiptOutcome::Completed { .. } => {
                self.subject.first().map(|subject| subject.digest.sha256)
            }
            ReceiptOutcome::Failed { .. } => None,
        }
    }

    fn validate(&self) -> Result<(), StatementError> {
        let refuse = |field, reason| Err(StatementError::Field { field, reason });
        let predicate = &self.predicate;
        if self.statement_type != STATEMENT_TYPE
            || self.predicate_type != PREDICATE_TYPE
            || predicate.version != 1
        {
            return Err(StatementError::Type);
        }
        let [subject] = self.subject.as_slice() else {
            return refuse("subject", "expected exactly one");
        };
        match &predicate.outcome {
            ReceiptOutcome::Completed { .. } if subject.name != RESULT => {
                return refuse("subject", "a completed job's subject is its result");
            }
            ReceiptOutcome::Completed { .. } if predicate.exit != Some(TrainingExit::Code(0)) => {
                return refuse("exit", "only code 0 leads to a result");
            }
            ReceiptOutcome::Completed { result } if !names_subject(result, &subject.digest) => {
                return refuse("subject", "its digest is not that of the result's content id");
            }
            ReceiptOutcome::Failed { .. }
                if subject.name != SPECIFICATION || subject.digest.sha256 != predicate.spec =>
            {
                return refuse("subject", "a failed job's subject is its specification");
            }
            _ => {}
        }
        if predicate.attempt == 0 {
            return refuse("attempt", "attempts count from 1");
        }
        if predicate.commitments.len() > MAX_COMMITMENTS
            || !predicate.commitments.keys().all(|name| is_short(name))
        {
            return refuse("commitments", "expected at most 256 short names");
        }
        if !is_short(&predicate.agent.version) || !is_short(&predicate.agent.release) {
            return refuse("agent", "expected short names");
        }
        if predicate.gpu.len() > 32 {
            return refuse("gpu", "expected at most 32 devices");
        }
        let numbers = [
            predicate.durations_ms.fetch,
            predicate.durations_ms.prepare,
            predicate.durations_ms.start,
            predicate.durations_ms.train,
            predicate.durations_ms.seal,
            predicate.streams.log.count,
            predicate.streams.metric.count,
        ];
        if numbers.iter().any(|number| *number >= 1 << 53) {
            return refuse("durations_ms", "expected numbers below 2^53");
        }
        for stream in [predicate.streams.log, predicate.streams.metric] {
            if (stream.count == 0) != stream.last.is_zero() {
                return refuse("streams", "an empty stream, and no other, ends in zeros");
            }
        }
        Ok(())
    }
}

fn names_subject(result: &ContentId, digest: &SubjectDigest) -> bool {
    let hash = Some(result.hash());
    match result.scheme() {
        Scheme::Sha256 => hash == Some(digest.sha256.as_bytes()),
        Scheme::Zg => hash == digest.zg_root.as_ref().map(|root| root.as_bytes()),
    }
}

fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

/// Fuzz entry: whatever is accepted is canonical, and has a result exactly if the job completed.
pub fn fuzz_statement(data: &[u8]) {
    if let Ok(statement) = Statement::parse(data) {
        assert_eq!(statement.to_payload().ok().as_deref(), Some(data));
        let completed = matches!(statement.predicate.outcome, ReceiptOutcome::Completed { .. });
        assert_eq!(completed, statement.result_sha256().is_some());
    }
}
