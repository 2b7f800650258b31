//! Judging the evidence of a VM's NVIDIA GPUs.
//!
//! For each device seven claims, under `gpu.<n>` or `switch.<n>` where n is its place among all: `chain`, `signature`,
//! `nonce`, `fwid`, `mode`, `firmware`, `revocation`, and `device`; for all of them together `gpu`, and `gpu.topology` for a
//! machine in protected PCIe mode. A claim that was not judged is there and says so. The evidence is taken by
//! the guest: it shows *some* genuine GPU, and that this VM uses it follows from the measured guest alone, so the guest
//! comes first.

mod device;
mod firmware;
mod genuine;
mod machine;
mod mode;
mod revocation;
mod switch;
mod whole;

use super::{
    chain::read_pem, codes::Code, collateral::NvidiaCollateral, device_evidence::DeviceEvidence,
    roots::NvidiaRoots, rules::NvidiaRules, transcript::Transcript,
};
use crate::{fixed_hex::Hex32, verdict::Findings};
pub use genuine::is_genuine;
use whole::Whole;

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
    /// How many GPUs the launch configuration lists; switches are not among them.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Gpu,
    Switch,
}

/// What was read on the way to the findings; to be believed only if they are affirming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    pub name: String,
    pub kind: DeviceKind,
    pub chip: String,
    /// Of GPUs.
    pub driver_version: Option<String>,
    /// Of a switch: its BIOS.
    pub vbios_version: Option<String>,
    /// SHA-256 of the device identity's serial number: the same for one device for ever.
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
    if question.devices.len() > MAX_DEVICES {
        let count = format!("{} devices", question.devices.len());
        findings.refuse("gpu", count, Code::CountOther, "");
        return judgement;
    }
    let mut all = Whole::default();
    for (index, sent) in question.devices.iter().enumerate() {
        if let Some(facts) = device::judge(question, index, *sent, &mut all, findings) {
            judgement.devices.push(facts);
        }
    }
    all.judge(question, judgement.devices.len(), findings);
    judgement
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
    let Ok(evidence) = DeviceEvidence::parse(evidence) else { return wanted };
    let ids = Transcript::parse(evidence.transcript())
        .ok()
        .and_then(|read| firmware::rim_ids(&read.opaque, &evidence).ok());
    for id in ids.into_iter().flatten() {
        match collateral.rim(&id) {
            None => wanted.rims.push(id),
            Some(file) => {
                let chain = firmware::certificates_of(file);
                revocation::wanted(&chain, 0, &roots.rim, collateral, nonce, &mut wanted.ocsp);
            }
        }
    }
    if let Ok(pem) = str::from_utf8(evidence.certificates())
        && let Ok(chain) = read_pem(pem)
    {
        revocation::wanted(&chain, 1, &roots.device, collateral, nonce, &mut wanted.ocsp);
    }
    wanted
}
