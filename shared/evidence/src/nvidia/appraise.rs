//! Judging the evidence of a VM's NVIDIA GPUs.
//!
//! For each GPU seven claims, under `gpu.<n>`: `chain`, `signature`, `nonce`, `fwid`, `mode`, `firmware`, `revocation`, and
//! `device`; for all of them together `gpu`. A claim that was not judged is there and says so. The evidence is taken by
//! the guest: it shows *some* genuine GPU, and that this VM uses it follows from the measured guest alone, so the guest
//! comes first.

mod device;
mod firmware;
mod mode;
mod revocation;

use std::collections::BTreeSet;

use super::{
    chain::{DeviceChain, read_pem},
    codes::Code,
    collateral::NvidiaCollateral,
    evidence::NvidiaEvidence,
    roots::NvidiaRoots,
    rules::NvidiaRules,
    transcript::Transcript,
};
use crate::{fixed_hex::Hex32, verdict::Findings};

/// More than any VM has.
const MAX_DEVICES: usize = 32;

/// One device as claims and launch configuration name it, with the bytes that were sent for it.
pub type Device<'a> = (&'a str, &'a [u8]);

/// Whether the evidence of the VM itself held, and claims and launch configuration with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    Verified,
    NotVerified,
}

/// Whether GPUs may already take work when their evidence is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The agent judges them first and sets them ready then.
    NotYet,
    Either,
}

/// Everything that a judgement depends on.
#[derive(Debug, Clone, Copy)]
pub struct GpuQuestion<'a> {
    pub devices: &'a [Device<'a>],
    /// How many GPUs the launch configuration lists.
    pub expected: usize,
    /// [`crate::claims::gpu_nonce`] of the claims that name these devices.
    pub nonce: Option<[u8; 32]>,
    pub collateral: &'a NvidiaCollateral,
    pub rules: &'a NvidiaRules,
    pub roots: &'a NvidiaRoots,
    pub guest: Guest,
    pub readiness: Readiness,
    /// Unix seconds.
    pub time: u64,
}

/// What was read on the way to the findings; to be believed only if they are affirming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    pub name: String,
    pub chip: String,
    pub driver_version: String,
    pub vbios_version: String,
    /// SHA-256 of the device identity's serial number: the same for one GPU for ever.
    pub device: Hex32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuJudgement {
    pub simulated: bool,
    /// Of devices whose chain and signature verify, in the order asked.
    pub devices: Vec<DeviceFacts>,
}

/// Judges every device, then all of them together.
pub fn judge(question: &GpuQuestion<'_>, findings: &mut Findings) -> GpuJudgement {
    let mut judgement =
        GpuJudgement { simulated: question.roots.is_simulated(), devices: Vec::new() };
    if judgement.simulated {
        findings.warn("gpu.anchor", question.roots.anchor(), Code::Simulated, "");
    }
    let count = format!("{} expected, {} with evidence", question.expected, question.devices.len());
    if question.devices.len() > MAX_DEVICES {
        findings.refuse("gpu", count, Code::CountOther, "");
        return judgement;
    }
    let mut all = Whole::default();
    for (index, (name, bytes)) in question.devices.iter().enumerate() {
        let claims = device::Claims::new(index);
        if let Some(facts) = device::judge(question, &claims, name, bytes, &mut all, findings) {
            judgement.devices.push(facts);
        }
    }
    all.judge(question, count, judgement.devices.len(), findings);
    judgement
}

/// What must be different, and what the same, over all devices.
#[derive(Debug, Default)]
struct Whole {
    names: BTreeSet<String>,
    transcripts: BTreeSet<Vec<u8>>,
    devices: BTreeSet<Hex32>,
    keys: BTreeSet<Vec<u8>>,
    nonces: BTreeSet<[u8; 32]>,
    twice: bool,
}

impl Whole {
    fn add(&mut self, name: &str, evidence: &NvidiaEvidence, transcript: &Transcript<'_>) {
        self.twice |= !self.names.insert(name.to_owned())
            || !self.transcripts.insert(evidence.transcript.0.clone());
        self.nonces.insert(transcript.nonce);
    }

    fn add_chain(&mut self, chain: &DeviceChain<'_>) {
        self.twice |= !self.devices.insert(chain.device);
        // Leaf and device identity: one key in two chains is one GPU with two names.
        for certificate in chain.certificates.iter().take(2) {
            self.twice |= !self.keys.insert(certificate.spki.to_vec());
        }
    }

    fn judge(
        &self,
        question: &GpuQuestion<'_>,
        count: String,
        verified: usize,
        findings: &mut Findings,
    ) {
        let mut held = true;
        let mut refuse = |code: Code| {
            held = false;
            findings.refuse("gpu", count.as_str(), code, "");
        };
        if question.devices.len() != question.expected {
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
            findings.unjudged("gpu", Code::NotChecked, "not every GPU's signature verifies");
        }
        if held {
            let text = "as many GPUs as expected, all different, all asked with one nonce";
            findings.affirm("gpu", count, question.roots.anchor(), text);
        }
    }
}

/// What must be fetched before a device can be judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names of RIM files that the collateral lacks.
    pub rims: Vec<String>,
    /// Certificates (SHA-256) whose OCSP response the collateral lacks, with the request for it.
    pub ocsp: Vec<(Hex32, Vec<u8>)>,
}

/// What to fetch for one device's evidence. Certificates of RIM files are listed once the files are there, so ask again
/// after fetching. Nothing is judged here; evidence that does not parse wants nothing.
pub fn wanted(
    evidence: &[u8],
    collateral: &NvidiaCollateral,
    roots: &NvidiaRoots,
    nonce: Option<&[u8; 32]>,
) -> Wanted {
    let mut wanted = Wanted::default();
    let Ok(evidence) = NvidiaEvidence::parse(evidence) else { return wanted };
    let ids = Transcript::parse(&evidence.transcript.0)
        .ok()
        .and_then(|read| firmware::rim_ids(&read.opaque, evidence.architecture).ok());
    for (_, id) in ids.into_iter().flatten() {
        match collateral.rim(&id) {
            None => wanted.rims.push(id),
            Some(file) => {
                let chain = firmware::certificates_of(file);
                revocation::wanted(&chain, 0, &roots.rim, collateral, nonce, &mut wanted.ocsp);
            }
        }
    }
    if let Ok(pem) = str::from_utf8(&evidence.certificates.0)
        && let Ok(chain) = read_pem(pem)
    {
        revocation::wanted(&chain, 1, &roots.device, collateral, nonce, &mut wanted.ocsp);
    }
    wanted
}
