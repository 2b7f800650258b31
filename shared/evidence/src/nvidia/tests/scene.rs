//! A VM with simulated GPUs whose evidence holds, ready to have one thing changed.

use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        DeviceFacts, GpuJudgement, GpuQuestion, Guest, NvidiaCollateral, NvidiaEvidence,
        NvidiaRoots, NvidiaRules, Readiness, judge,
        simulated::{OcspDraft, Report, SimulatedGpu, SimulatedNvidia, certificate_digest},
    },
    verdict::{Findings, PolicyIdentity, Verdict},
};

pub(super) const NOW: u64 = 1_795_000_000;
pub(super) const NONCE: [u8; 32] = [0x5a; 32];

pub(super) struct Scene {
    pub(super) maker: SimulatedNvidia,
    pub(super) gpus: Vec<SimulatedGpu>,
    pub(super) collateral: NvidiaCollateral,
    pub(super) rules: NvidiaRules,
    pub(super) roots: NvidiaRoots,
    pub(super) nonce: Option<[u8; 32]>,
    pub(super) expected: usize,
    pub(super) guest: Guest,
    pub(super) readiness: Readiness,
    pub(super) time: u64,
}

pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) devices: Vec<DeviceFacts>,
    pub(super) simulated: bool,
}

impl Scene {
    pub(super) fn new(gpus: u64) -> Self {
        Self::of(SimulatedNvidia::create(NOW).expect("a simulated maker"), gpus)
    }

    pub(super) fn of(maker: SimulatedNvidia, gpus: u64) -> Self {
        let gpus: Vec<_> = (1..=gpus).map(|it| maker.gpu(it).expect("a simulated GPU")).collect();
        let collateral = maker.collateral(&gpus.iter().collect::<Vec<_>>()).expect("collateral");
        Self {
            roots: maker.roots(),
            expected: gpus.len(),
            maker,
            gpus,
            collateral,
            rules: NvidiaRules::default(),
            nonce: Some(NONCE),
            guest: Guest::Verified,
            readiness: Readiness::NotYet,
            time: NOW,
        }
    }

    /// Evidence of GPU `index` over a report.
    pub(super) fn evidence_over(&self, index: usize, report: &Report) -> NvidiaEvidence {
        self.gpus[index].evidence(&format!("gpu-{index}"), report).expect("evidence")
    }

    pub(super) fn evidence(&self, index: usize) -> NvidiaEvidence {
        self.evidence_over(index, &Report::new(NONCE))
    }

    /// Judges evidence as what was sent for `gpu-0`, `gpu-1` …
    pub(super) fn judge(&self, evidence: &[NvidiaEvidence]) -> Judged {
        let bytes: Vec<Vec<u8>> =
            evidence.iter().map(|one| serde_json::to_vec(one).expect("JSON")).collect();
        let named: Vec<(String, &[u8])> = bytes
            .iter()
            .enumerate()
            .map(|(at, one)| (format!("gpu-{at}"), one.as_slice()))
            .collect();
        let devices: Vec<_> = named.iter().map(|(name, one)| (name.as_str(), *one)).collect();
        self.judge_bytes(&devices)
    }

    pub(super) fn judge_bytes(&self, devices: &[(&str, &[u8])]) -> Judged {
        let question = GpuQuestion {
            devices,
            expected: self.expected,
            nonce: self.nonce,
            collateral: &self.collateral,
            rules: &self.rules,
            roots: &self.roots,
            guest: self.guest,
            readiness: self.readiness,
            time: self.time,
        };
        let mut findings = Findings::default();
        let GpuJudgement { simulated, devices } = judge(&question, &mut findings);
        let policy =
            PolicyIdentity { name: "test".into(), digest: String::new(), tolerates: vec![] };
        let verdict = findings.into_verdict("GPUs", simulated, policy, self.time);
        Judged { verdict, devices, simulated }
    }

    /// Judges the first GPU over a report.
    pub(super) fn judge_report(&self, report: &Report) -> Judged {
        self.judge(&[self.evidence_over(0, report)])
    }

    /// Exchanges what is said about a certificate.
    pub(super) fn say(&mut self, about: &[u8], response: Vec<u8>) {
        let certificate = certificate_digest(about);
        let answer = self.collateral.ocsp.iter_mut().find(|it| it.certificate == certificate);
        answer.expect("a response").response = Base64Bytes(response);
    }

    pub(super) fn good(&self) -> OcspDraft {
        OcspDraft::good(NOW)
    }
}
