//! One GPU's evidence as it travels: what the helper program in the guest prints, and hostile input to everybody else.
//!
//! The transcript and the certificates prove what they say by themselves. The rest is the word of the guest that took
//! them, and counts as far as the guest itself has been verified.

use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

pub use super::device_evidence::fuzz_nvidia_evidence;
use super::{chain::MAX_PEM_BYTES, codes::Code, transcript::MAX_TRANSCRIPT_BYTES};
use crate::{base64_bytes::Base64Bytes, fixed_hex::Hex32};

pub const MAX_EVIDENCE_BYTES: usize = 64 * 1024;
const MAX_TEXT: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    Hopper,
    Blackwell,
}

impl Architecture {
    /// What names of its chips begin with.
    pub(crate) fn chip_prefix(self) -> &'static str {
        match self {
            Self::Hopper => "GH",
            Self::Blackwell => "GB",
        }
    }
}

/// Confidential computing on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CcFeature {
    On,
    /// On, and open to debuggers.
    Devtools,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CcEnvironment {
    Prod,
    Sim,
    Unavailable,
}

/// How the driver combines several GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiGpuMode {
    None,
    ProtectedPcie,
    NvlinkEncryption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigMode {
    Off,
    On,
    /// The driver does not say.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// A whole GPU given to a VM.
    PassThrough,
    /// No virtualization: the guest is not a VM.
    None,
    Vgpu,
    HostVgpu,
    HostVsga,
    Unknown,
}

/// What the driver in the guest says about confidential computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CcState {
    pub feature: CcFeature,
    pub environment: CcEnvironment,
    pub multi_gpu: MultiGpuMode,
    /// Whether the GPU took work when the evidence was made.
    pub gpus_ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvidiaEvidence {
    pub version: u32,
    /// The name that claims and launch configuration give the device.
    pub device: String,
    pub architecture: Architecture,
    /// SHA-256 of the driver's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid_digest: Option<Hex32>,
    /// SPDM request and response, exactly.
    pub transcript: Base64Bytes,
    /// PEM, leaf first.
    pub certificates: Base64Bytes,
    pub driver_version: String,
    pub vbios_version: String,
    pub cc: CcState,
    pub mig: MigMode,
    pub virtualization: Virtualization,
}

#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("read the device's evidence: {0} bytes, the limit is {MAX_EVIDENCE_BYTES}")]
    TooLong(usize),
    #[error("read the device's evidence: {0}")]
    Parse(#[source] serde_json::Error),
    #[error("write the device's evidence: {0}")]
    Write(#[source] CanonicalError),
    #[error("read the device's evidence: it is a verdict of NVIDIA's tools")]
    Verdict,
    #[error("read device evidence version {0}, this program knows version 1")]
    Version(u32),
    #[error("accept the device's evidence: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

impl EvidenceError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong(_) => Code::EvidenceTooLong,
            Self::Parse(_) | Self::Write(_) => Code::EvidenceUnreadable,
            Self::Verdict => Code::VerdictInstead,
            Self::Version(_) => Code::EvidenceVersion,
            Self::Field { .. } => Code::EvidenceField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl NvidiaEvidence {
    pub const VERSION: u32 = 1;

    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        let evidence: Self = serde_json::from_slice(bytes).map_err(|error| {
            if is_verdict(bytes) { EvidenceError::Verdict } else { EvidenceError::Parse(error) }
        })?;
        evidence.validate()?;
        Ok(evidence)
    }

    /// The canonical text; a verifier does not depend on it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        self.validate()?;
        canonical::to_vec(self).map_err(EvidenceError::Write)
    }

    pub fn validate(&self) -> Result<(), EvidenceError> {
        if self.version != Self::VERSION {
            return Err(EvidenceError::Version(self.version));
        }
        let texts = [
            ("device", &self.device),
            ("driver_version", &self.driver_version),
            ("vbios_version", &self.vbios_version),
        ];
        check_parts(&texts, &self.transcript, &self.certificates)
    }
}

/// The limits of what every device's document has.
pub(super) fn check_parts(
    texts: &[(&'static str, &String)],
    transcript: &Base64Bytes,
    certificates: &Base64Bytes,
) -> Result<(), EvidenceError> {
    let refuse = |field, reason| Err(EvidenceError::Field { field, reason });
    for (field, text) in texts {
        let short = (1..=MAX_TEXT).contains(&text.len());
        if !short || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse(*field, "expected a short text without spaces");
        }
    }
    if transcript.0.len() > MAX_TRANSCRIPT_BYTES {
        return refuse("transcript", "expected at most 8192 bytes");
    }
    if certificates.0.len() > MAX_PEM_BYTES {
        return refuse("certificates", "expected at most 24576 bytes");
    }
    Ok(())
}

/// Whether this is what NVIDIA's tools and services print when they have judged: JSON with tokens in it, or a token.
pub(super) fn is_verdict(bytes: &[u8]) -> bool {
    const TOKEN: &str = "eyJ";
    let is_token = |text: &str| text.starts_with(TOKEN) && text.matches('.').count() == 2;
    if str::from_utf8(bytes).is_ok_and(|text| is_token(text.trim())) {
        return true;
    }
    match serde_json::from_slice(bytes) {
        Ok(serde_json::Value::Object(object)) => {
            ["detached_eat", "claims", "submods"].iter().any(|key| object.contains_key(*key))
        }
        Ok(serde_json::Value::Array(list)) => {
            list.first().and_then(|first| first.get(0)).and_then(|word| word.as_str())
                == Some("JWT")
        }
        _ => false,
    }
}
