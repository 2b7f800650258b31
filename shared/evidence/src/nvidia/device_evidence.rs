//! What travels for one device of a VM: a GPU's evidence, or that of an NVSwitch (LS10) beside GPUs in protected PCIe mode.
//!
//! A switch has no driver of its own and no confidential computing to switch on, so its document says less: what it signs
//! is all there is. Which of the two a document is follows from its architecture.

use sealtune_seal::canonical;
use serde::{Deserialize, Serialize};

use super::{
    chain::MAX_PEM_BYTES,
    evidence::{EvidenceError, MAX_EVIDENCE_BYTES, NvidiaEvidence, check_parts, is_verdict},
    transcript::MAX_TRANSCRIPT_BYTES,
};
use crate::base64_bytes::Base64Bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchArchitecture {
    /// The NVSwitch of boards with eight Hopper GPUs.
    Ls10,
}

impl SwitchArchitecture {
    /// The name of its chip, as its certificates write it.
    pub(crate) fn chip(self) -> &'static str {
        match self {
            Self::Ls10 => "LS_10",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchEvidence {
    pub version: u32,
    /// The name that claims give the device.
    pub device: String,
    pub architecture: SwitchArchitecture,
    /// SPDM request and response, exactly.
    pub transcript: Base64Bytes,
    /// PEM, leaf first.
    pub certificates: Base64Bytes,
    pub bios_version: String,
}

impl SwitchEvidence {
    pub const VERSION: u32 = NvidiaEvidence::VERSION;

    /// The canonical text; a verifier does not depend on it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        self.validate()?;
        canonical::to_vec(self).map_err(EvidenceError::Write)
    }

    pub fn validate(&self) -> Result<(), EvidenceError> {
        if self.version != Self::VERSION {
            return Err(EvidenceError::Version(self.version));
        }
        let texts = [("device", &self.device), ("bios_version", &self.bios_version)];
        check_parts(&texts, &self.transcript, &self.certificates)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceEvidence {
    Gpu(NvidiaEvidence),
    Switch(SwitchEvidence),
}

/// Looked at first; whatever is no switch reads as a GPU, with that reader's errors.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "architecture")]
    _switch: SwitchArchitecture,
}

impl DeviceEvidence {
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_BYTES || !Self::is_switch(bytes) {
            return NvidiaEvidence::parse(bytes).map(Self::Gpu);
        }
        let evidence: SwitchEvidence = serde_json::from_slice(bytes).map_err(|error| {
            if is_verdict(bytes) { EvidenceError::Verdict } else { EvidenceError::Parse(error) }
        })?;
        evidence.validate()?;
        Ok(Self::Switch(evidence))
    }

    /// Whether a document says that it is a switch's. Nothing else of it is looked at.
    pub fn is_switch(bytes: &[u8]) -> bool {
        bytes.len() <= MAX_EVIDENCE_BYTES && serde_json::from_slice::<Kind>(bytes).is_ok()
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, EvidenceError> {
        match self {
            Self::Gpu(evidence) => evidence.to_bytes(),
            Self::Switch(evidence) => evidence.to_bytes(),
        }
    }

    pub fn device(&self) -> &str {
        match self {
            Self::Gpu(evidence) => &evidence.device,
            Self::Switch(evidence) => &evidence.device,
        }
    }

    pub fn transcript(&self) -> &[u8] {
        match self {
            Self::Gpu(evidence) => &evidence.transcript.0,
            Self::Switch(evidence) => &evidence.transcript.0,
        }
    }

    pub fn certificates(&self) -> &[u8] {
        match self {
            Self::Gpu(evidence) => &evidence.certificates.0,
            Self::Switch(evidence) => &evidence.certificates.0,
        }
    }
}

/// Fuzz entry: whatever is accepted is within its limits and reads back from its canonical form as what it was.
pub fn fuzz_nvidia_evidence(data: &[u8]) {
    if let Ok(evidence) = DeviceEvidence::parse(data) {
        assert_eq!(matches!(evidence, DeviceEvidence::Switch(_)), DeviceEvidence::is_switch(data));
        assert!(evidence.transcript().len() <= MAX_TRANSCRIPT_BYTES);
        assert!(evidence.certificates().len() <= MAX_PEM_BYTES);
        let bytes = evidence.to_bytes();
        let again = bytes.as_deref().ok().and_then(|bytes| DeviceEvidence::parse(bytes).ok());
        assert_eq!(again.as_ref(), Some(&evidence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::codes::Code;

    const SWITCH: &str = r#"{"architecture":"ls10","bios_version":"96.10.73.00.01","certificates":"AA==","device":"0000:07:00.0","transcript":"EeA=","version":1}"#;

    #[test]
    fn a_switch_reads_as_a_switch_and_is_no_gpu() {
        let read = DeviceEvidence::parse(SWITCH.as_bytes()).expect("reads");
        assert!(
            matches!(&read, DeviceEvidence::Switch(switch) if switch.transcript.0 == [0x11, 0xe0])
        );
        assert_eq!(read.to_bytes().expect("writes"), SWITCH.as_bytes());
        let error = NvidiaEvidence::parse(SWITCH.as_bytes()).expect_err("no GPU");
        assert_eq!(error.entry(), Code::EvidenceUnreadable);
        fuzz_nvidia_evidence(SWITCH.as_bytes());
    }

    #[test]
    fn what_a_gpu_alone_has_is_refused_of_a_switch() {
        let refused = |from: &str, to: &str, code: Code| {
            let text = SWITCH.replace(from, to);
            assert_ne!(text, SWITCH);
            let error = DeviceEvidence::parse(text.as_bytes()).expect_err(to);
            assert_eq!(error.entry(), code, "{to}");
        };
        refused("\"version\"", "\"mig\":\"off\",\"version\"", Code::EvidenceUnreadable);
        refused("\"version\"", "\"driver_version\":\"1\",\"version\"", Code::EvidenceUnreadable);
        refused("\"version\":1", "\"version\":2", Code::EvidenceVersion);
        refused("96.10.73.00.01", "", Code::EvidenceField);
        refused("0000:07:00.0", "a b", Code::EvidenceField);
        refused("ls10", "ls11", Code::EvidenceUnreadable);
        refused(
            "\"version\":1",
            "\"architecture\":\"ls10\",\"version\":1",
            Code::EvidenceUnreadable,
        );
        let long = SWITCH.replace("EeA=", &"AAAA".repeat(2731));
        let error = DeviceEvidence::parse(long.as_bytes()).expect_err("too long a transcript");
        assert_eq!(error.entry(), Code::EvidenceField);
    }
}
