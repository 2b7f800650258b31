//! The receipt file: the signed statement and the evidence of the VM at each step.

use sealtune_evidence::EvidenceBundle;
use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{codes::Code, envelope::Envelope};

pub const MAX_PACKAGE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageEvidence {
    /// What the owner released the job to; 0G tasks have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<EvidenceBundle>,
    pub start: EvidenceBundle,
    pub receipt: EvidenceBundle,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptPackage {
    pub version: u32,
    pub statement: Envelope,
    pub evidence: PackageEvidence,
}

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("read the receipt: {length} bytes, the limit is {MAX_PACKAGE_BYTES}")]
    TooLong { length: usize },
    #[error("read the receipt: {0}")]
    Parse(#[source] serde_json::Error),
    #[error("read receipt version {0}, this program knows version 1")]
    Version(u32),
    #[error("accept the receipt: {0}")]
    Evidence(#[source] sealtune_evidence::bundle::BundleError),
    #[error("write the receipt: {0}")]
    Write(#[source] CanonicalError),
}

impl PackageError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong { .. } => Code::PackageTooLong,
            Self::Parse(_) | Self::Write(_) => Code::PackageUnreadable,
            Self::Version(_) => Code::PackageVersion,
            Self::Evidence(_) => Code::PackageField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl ReceiptPackage {
    pub fn new(statement: Envelope, evidence: PackageEvidence) -> Self {
        Self { version: 1, statement, evidence }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        if bytes.len() > MAX_PACKAGE_BYTES {
            return Err(PackageError::TooLong { length: bytes.len() });
        }
        let package: Self = serde_json::from_slice(bytes).map_err(PackageError::Parse)?;
        package.validate()?;
        Ok(package)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, PackageError> {
        self.validate()?;
        canonical::to_vec(self).map_err(PackageError::Write)
    }

    fn validate(&self) -> Result<(), PackageError> {
        if self.version != 1 {
            return Err(PackageError::Version(self.version));
        }
        let evidence = &self.evidence;
        for bundle in evidence.offer.iter().chain([&evidence.start, &evidence.receipt]) {
            bundle.validate().map_err(PackageError::Evidence)?;
        }
        Ok(())
    }
}

/// Fuzz entry: whatever is accepted can be written and read back unchanged.
pub fn fuzz_package(data: &[u8]) {
    if let Ok(package) = ReceiptPackage::parse(data)
        && let Ok(bytes) = package.to_bytes()
        && bytes.len() <= MAX_PACKAGE_BYTES
    {
        assert_eq!(ReceiptPackage::parse(&bytes).ok().as_ref(), Some(&package));
    }
}
