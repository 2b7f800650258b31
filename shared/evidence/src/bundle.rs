//! The evidence bundle: everything a verifier needs in one JSON document, except what he must bring himself (nonce,
//! purpose, job, policy, reference values and, for the simulated TEE, its root).
//!
//! Nothing in a bundle chooses an anchor: `tee` selects a parser, the anchor follows from the root key of the quote.

use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    base64_bytes::Base64Bytes,
    codes::Code,
    collateral::Collateral,
    event_log::EventLog,
    fixed_hex::{FixedHex, Hex32},
    logs::dstack::MAX_JSON_BYTES,
    nvidia::NvidiaCollateral,
    snp::SnpCollateral,
};

pub const EVIDENCE_TAG: &str = "sealtune/evidence/v1";
pub const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;
pub const MAX_QUOTE_BYTES: usize = 16 * 1024;
/// Firmware that boots a kernel directly writes some 20 KiB.
pub const MAX_CCEL_BYTES: usize = 256 * 1024;
const MAX_GPU_EVIDENCE: usize = 32;
const MAX_TEXT: usize = 128;

/// Which parser the quote needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tee {
    /// A TDX quote, version 4 or 5; also what the simulated TEE makes.
    Tdx,
    /// An SEV-SNP attestation report.
    Snp,
    /// A TDX quote that dstack's guest agent made in one of its VMs, with that agent's event log.
    Dstack,
}

/// What the sender says the guest image is; the registers say what it really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageIdentity {
    pub name: String,
    pub version: String,
}

/// One GPU's evidence, as its driver gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuEvidence {
    pub device: String,
    pub evidence: Base64Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceBundle {
    pub version: u32,
    pub tee: Tee,
    pub quote: Base64Bytes,
    pub event_log: EventLog,
    /// For `dstack`, and only there: the guest agent's JSON event log, verbatim, from the answer that the quote came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dstack_log: Option<Base64Bytes>,
    /// Bytes of the launch configuration, verbatim.
    pub launch: Base64Bytes,
    /// Bytes of the claims, verbatim.
    pub claims: Base64Bytes,
    pub image: ImageIdentity,
    pub gpu: Vec<GpuEvidence>,
    /// Of a TDX VM: the boot log of its firmware, the area that the ACPI table CCEL points to, without padding. The event
    /// log then holds register 3 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ccel: Option<Base64Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Collateral>,
    /// For an SNP report: AMD's certificates and revocation list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp_collateral: Option<SnpCollateral>,
    /// RIM files and OCSP responses for the GPUs' evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_collateral: Option<NvidiaCollateral>,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("read the evidence: {length} bytes, the limit is {MAX_BUNDLE_BYTES}")]
    TooLong { length: usize },
    #[error("read the evidence: {0}")]
    Parse(#[source] serde_json::Error),
    #[error("write the evidence: {0}")]
    Write(#[source] CanonicalError),
    #[error("read evidence version {0}, this program knows version 1")]
    Version(u32),
    #[error("accept the evidence: its log is not that of its kind of TEE: {0}")]
    Log(&'static str),
    #[error("accept the evidence: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
}

impl BundleError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong { .. } => Code::BundleTooLong,
            Self::Parse(_) | Self::Write(_) => Code::BundleUnreadable,
            Self::Version(_) => Code::BundleVersion,
            Self::Log(_) => Code::BundleLog,
            Self::Field { .. } => Code::BundleField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl EvidenceBundle {
    /// Reads a bundle within its limits; unknown and repeated fields are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLong { length: bytes.len() });
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(BundleError::Parse)?;
        bundle.validate()?;
        Ok(bundle)
    }

    /// The canonical text; a verifier does not depend on it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.validate()?;
        canonical::to_vec(self).map_err(BundleError::Write)
    }

    /// How `previous` links and receipts name this evidence: `SHA-256("sealtune/evidence/v1" ‖ 0x00 ‖ quote)`.
    pub fn digest(&self) -> Hex32 {
        evidence_digest(&self.quote.0)
    }

    /// Bounds of everything inside; also for a bundle that came as a part of another document.
    pub fn validate(&self) -> Result<(), BundleError> {
        let refuse = |field, reason| Err(BundleError::Field { field, reason });
        if self.version != 1 {
            return Err(BundleError::Version(self.version));
        }
        if self.quote.0.is_empty() || self.quote.0.len() > MAX_QUOTE_BYTES {
            return refuse("quote", "expected 1 to 16384 bytes");
        }
        if self.launch.0.len() > crate::launch::MAX_LAUNCH_BYTES {
            return refuse("launch", "expected at most 65536 bytes");
        }
        if self.claims.0.len() > crate::claims::MAX_CLAIMS_BYTES {
            return refuse("claims", "expected at most 32768 bytes");
        }
        if self.event_log.events.len() > crate::event_log::MAX_EVENTS {
            return refuse("event_log", "expected at most 512 events");
        }
        if self.ccel.as_ref().is_some_and(|log| log.0.is_empty() || log.0.len() > MAX_CCEL_BYTES) {
            return refuse("ccel", "expected 1 to 262144 bytes");
        }
        self.validate_log()?;
        let printable = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_TEXT
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !printable(&self.image.name) || !printable(&self.image.version) {
            return refuse("image", "expected a short name and version without spaces");
        }
        if self.gpu.len() > MAX_GPU_EVIDENCE || !self.gpu.iter().all(|gpu| printable(&gpu.device)) {
            return refuse("gpu", "expected at most 32 devices with short names");
        }
        if self.snp_collateral.as_ref().is_some_and(|parts| parts.check_bounds().is_err()) {
            return refuse(
                "snp_collateral",
                "expected certificates and a list within their limits",
            );
        }
        if self.gpu_collateral.as_ref().is_some_and(|files| files.validate().is_err()) {
            return refuse("gpu_collateral", "expected files and responses within their limits");
        }
        if self.collateral.as_ref().is_some_and(|collateral| !collateral.is_within_bounds()) {
            return refuse("collateral", "expected at most 262144 bytes");
        }
        Ok(())
    }

    /// A VM has one log: dstack's, or one of Sealtune's events.
    fn validate_log(&self) -> Result<(), BundleError> {
        if self.ccel.is_some() && self.tee != Tee::Tdx {
            return Err(BundleError::Log("a ccel belongs to a TDX VM of Sealtune"));
        }
        match (self.tee, &self.dstack_log) {
            (Tee::Dstack, None) => Err(BundleError::Log("there is no dstack_log")),
            (Tee::Dstack, Some(_)) if !self.event_log.events.is_empty() => {
                Err(BundleError::Log("a dstack VM has no event_log beside its dstack_log"))
            }
            (Tee::Dstack, Some(log)) if log.0.is_empty() || log.0.len() > MAX_JSON_BYTES => {
                let reason = "expected 1 to 1048576 bytes";
                Err(BundleError::Field { field: "dstack_log", reason })
            }
            (Tee::Tdx | Tee::Snp, Some(_)) => {
                Err(BundleError::Log("a dstack_log belongs to a dstack VM"))
            }
            (Tee::Dstack, Some(_)) | (Tee::Tdx | Tee::Snp, None) => Ok(()),
        }
    }
}

/// The digest of evidence from its quote, without trailing padding.
pub fn evidence_digest(quote: &[u8]) -> Hex32 {
    FixedHex(canonical::domain_hash(EVIDENCE_TAG, quote))
}

/// Fuzz entry: whatever is accepted can be written and read back unchanged.
pub fn fuzz_bundle(data: &[u8]) {
    if let Ok(bundle) = EvidenceBundle::parse(data)
        && let Ok(bytes) = bundle.to_bytes()
        && bytes.len() <= MAX_BUNDLE_BYTES
    {
        assert_eq!(EvidenceBundle::parse(&bytes).ok().as_ref(), Some(&bundle));
    }
}
