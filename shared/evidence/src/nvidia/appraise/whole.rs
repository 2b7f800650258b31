//! All devices of a VM together: as many GPUs as expected, nothing twice, one nonce.

use std::collections::BTreeSet;

use super::{GpuQuestion, Guest, machine::Machine};
use crate::{
    fixed_hex::Hex32,
    nvidia::{
        chain::DeviceChain, codes::Code, device_evidence::DeviceEvidence, transcript::Transcript,
    },
    verdict::Findings,
};

/// What must be different, and what the same, over all devices.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) machine: Machine,
    /// Documents that say they are switches'.
    switches: usize,
    names: BTreeSet<String>,
    transcripts: BTreeSet<Vec<u8>>,
    devices: BTreeSet<Hex32>,
    keys: BTreeSet<Vec<u8>>,
    nonces: BTreeSet<[u8; 32]>,
    twice: bool,
}

impl Whole {
    pub(super) fn add_document(&mut self, evidence: &DeviceEvidence) {
        self.switches += usize::from(matches!(evidence, DeviceEvidence::Switch(_)));
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        evidence: &DeviceEvidence,
        transcript: &Transcript<'_>,
    ) {
        self.twice |= !self.names.insert(name.to_owned())
            || !self.transcripts.insert(evidence.transcript().to_vec());
        self.nonces.insert(transcript.nonce);
    }

    pub(super) fn add_chain(&mut self, chain: &DeviceChain<'_>) {
        self.twice |= !self.devices.insert(chain.device);
        // Leaf and device identity: one key in two chains is one GPU with two names.
        for certificate in chain.certificates.iter().take(2) {
            self.twice |= !self.keys.insert(certificate.spki.to_vec());
        }
    }

    pub(super) fn judge(
        &self,
        question: &GpuQuestion<'_>,
        verified: usize,
        findings: &mut Findings,
    ) {
        self.machine.judge(question, findings);
        let gpus = question.devices.len().saturating_sub(self.switches);
        let count = match self.switches {
            0 => format!("{} expected, {gpus} with evidence", question.expected),
            some => {
                format!("{} expected, {gpus} with evidence, {some} switches", question.expected)
            }
        };
        let mut held = true;
        let mut refuse = |code: Code| {
            held = false;
            findings.refuse("gpu", count.as_str(), code, "");
        };
        if gpus != question.expected {
            refuse(Code::CountOther);
        }
        if self.twice {
            refuse(Code::DeviceTwice);
        }
        if self.nonces.len() > 1 {
            refuse(Code::NoncesDiffer);
        }
        if question.guest == Guest::NotVerified {
            held = false;
            findings.unjudged("gpu", Code::GuestUnverified, "");
        }
        if verified != question.devices.len() {
            held = false;
            findings.unjudged("gpu", Code::NotChecked, "not every device's signature verifies");
        }
        if held {
            let text = "as many GPUs as expected, all different, all asked with one nonce";
            findings.affirm("gpu", count, question.roots.anchor(), text);
        }
    }
}
