//! The terms of a job: everything that decides what runs, on what, for whom.

use std::collections::BTreeMap;

use sealtune_content::ContentId;
use serde::{Deserialize, Serialize};

use crate::{Hex, JobId, LimitError, Limits};

/// Version of this structure.
pub const TERMS_VERSION: u32 = 1;

/// Signed as part of a [`crate::JobSpecification`]; sent in the clear for a plain job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTerms {
    pub version: u32,
    pub job: JobId,
    /// Counts from 1; a VM that was lost raises it.
    pub attempt: u32,
    /// The owner's secp256k1 signing key, compressed.
    pub owner: Hex<33>,
    /// Whom results, logs and metrics are sealed to.
    pub recipient: Recipient,
    pub model: ModelInput,
    pub dataset: DatasetInput,
    pub image: ImageReference,
    pub script: Script,
    /// Becomes `config.json`, byte for byte.
    pub parameters: String,
    pub environment: BTreeMap<String, String>,
    pub limits: Limits,
    pub disclosure: Disclosure,
    /// The owner's nonce, used again in `start` and `receipt` evidence.
    pub nonce: Hex<32>,
    /// The owner's clock, Unix seconds.
    pub time: u64,
    /// Digest of the offer evidence that the owner accepted; absent in a plain job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offer: Option<Hex<32>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// HPKE suite: `x-wing` or `x25519`.
    pub suite: String,
    /// Public key, hex.
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// One file, used as it is.
    File,
    /// A zip archive with exactly one top-level directory.
    Archive,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInput {
    pub id: ContentId,
    pub format: InputFormat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetInput {
    /// Of the plaintext.
    pub id: ContentId,
    pub format: InputFormat,
    /// Of the sealed object that was uploaded; absent in a plain job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<ContentId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageReference {
    /// Root of the dm-verity tree that will be opened.
    pub verity_root: Hex<32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Script {
    /// A file of the image.
    Image { path: String, sha256: Hex<32> },
    /// A script that travels inside the specification; it is placed at `/app/mnt/<name>`.
    Inline { name: String, text: String },
}

/// Who besides the owner may read logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Disclosure {
    #[default]
    Owner,
    Host,
    None,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TermsError {
    #[error("accept terms of version {0}; this program knows version 1")]
    Version(u32),
    #[error("accept attempt 0: attempts count from 1")]
    Attempt,
    #[error("accept {what} of {length} bytes, the limit is {limit}")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("accept the script name or path {0:?}")]
    ScriptPath(String),
    #[error("accept the environment variable {0:?}")]
    Environment(String),
    #[error("accept an unknown recipient suite or a malformed recipient key")]
    Recipient,
    #[error(transparent)]
    Limits(#[from] LimitError),
}

impl TermsError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version(_) => "ST-JOB-01",
            Self::Attempt => "ST-JOB-02",
            Self::TooLong { .. } => "ST-JOB-03",
            Self::ScriptPath(_) => "ST-JOB-04",
            Self::Environment(_) => "ST-JOB-05",
            Self::Recipient => "ST-JOB-06",
            Self::Limits(_) => "ST-JOB-07",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Version(_) => "use a client and a provider of the same release",
            Self::Attempt => "count attempts from 1",
            Self::TooLong { .. } => "put large data into the dataset or the image",
            Self::ScriptPath(_) => {
                "give an absolute path without `..` in the image, or a plain file name"
            }
            Self::Environment(_) => {
                "use names of A-Z, 0-9 and _, not LD_*, not SEALTUNE_*, and values without NUL"
            }
            Self::Recipient => "use the recipient key that `sealtune key show` prints",
            Self::Limits(_) => "choose a limit inside the printed range",
        }
    }
}

const MAX_PARAMETERS: usize = 64 << 10;
const MAX_SCRIPT: usize = 256 << 10;
const MAX_ENVIRONMENT: usize = 32 << 10;

impl JobTerms {
    pub fn validate(&self) -> Result<(), TermsError> {
        if self.version != TERMS_VERSION {
            return Err(TermsError::Version(self.version));
        }
        if self.attempt == 0 {
            return Err(TermsError::Attempt);
        }
        bounded("the parameters", self.parameters.len(), MAX_PARAMETERS)?;
        self.script.validate()?;
        let environment = self.environment.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
        bounded("the environment", environment, MAX_ENVIRONMENT)?;
        for (name, value) in &self.environment {
            if !environment_allowed(name, value) {
                return Err(TermsError::Environment(name.clone()));
            }
        }
        let plausible = self.recipient.key.len() <= 4096
            && hex::decode(&self.recipient.key).is_ok()
            && matches!(self.recipient.suite.as_str(), "x-wing" | "x25519");
        if !plausible {
            return Err(TermsError::Recipient);
        }
        self.limits.validate()?;
        Ok(())
    }
}

impl Script {
    /// Where the script stands inside the container.
    pub fn container_path(&self) -> String {
        match self {
            Self::Image { path, .. } => path.clone(),
            Self::Inline { name, .. } => format!("/app/mnt/{name}"),
        }
    }

    fn validate(&self) -> Result<(), TermsError> {
        match self {
            Self::Image { path, .. } => {
                let plain = path.len() <= 1024
                    && path.starts_with('/')
                    && !path.contains('\0')
                    && path.split('/').all(|part| part != ".." && part != ".");
                if !plain {
                    return Err(TermsError::ScriptPath(path.clone()));
                }
            }
            Self::Inline { name, text } => {
                bounded("the script", text.len(), MAX_SCRIPT)?;
                let reserved = matches!(
                    name.as_str(),
                    "data" | "model" | "config.json" | "output_model" | "progress.log"
                );
                let plain = !name.is_empty()
                    && name.len() <= 255
                    && !name.starts_with(['.', '-'])
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
                if reserved || !plain {
                    return Err(TermsError::ScriptPath(name.clone()));
                }
            }
        }
        Ok(())
    }
}

fn environment_allowed(name: &str, value: &str) -> bool {
    let plain = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    plain && !name.starts_with("LD_") && !name.starts_with("SEALTUNE_") && !value.contains('\0')
}

fn bounded(what: &'static str, length: usize, limit: usize) -> Result<(), TermsError> {
    if length > limit { Err(TermsError::TooLong { what, length, limit }) } else { Ok(()) }
}
