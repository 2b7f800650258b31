//! Whether the GPU keeps the host out: confidential computing on, no debugging, one whole GPU.
//!
//! Most of it is the driver's word, read by the measured guest; what the GPU signs about itself must not contradict it.

use super::{GpuQuestion, Readiness, device::Claims};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        evidence::{
            CcEnvironment, CcFeature, MigMode, MultiGpuMode, NvidiaEvidence, Virtualization,
        },
        opaque::{FeatureFlag, Opaque, Switch},
    },
    verdict::Findings,
};

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    evidence: &NvidiaEvidence,
    opaque: &Opaque,
    chain: &DeviceChain<'_>,
    findings: &mut Findings,
) {
    let claim = claims.name("mode");
    let mut faults = said_by_driver(question, evidence);
    faults.extend(said_by_gpu(opaque));
    let is_known = question.rules.architectures.contains(&evidence.architecture)
        && chain.chip.starts_with(evidence.architecture.chip_prefix());
    if !is_known {
        faults.push((Code::ArchitectureOther, chain.chip.to_owned()));
    }
    faults.sort_by_key(|(code, _)| code.as_str());
    faults.dedup_by_key(|(code, _)| *code);
    if faults.is_empty() {
        let anchor = format!("guest, {}", question.roots.anchor());
        let text = "confidential computing on, no devtools, one whole GPU";
        findings.affirm(&claim, "cc", anchor, text);
    }
    for (code, detail) in faults {
        findings.refuse(&claim, "", code, detail);
    }
}

fn said_by_driver(question: &GpuQuestion<'_>, evidence: &NvidiaEvidence) -> Vec<(Code, String)> {
    let mut faults = Vec::new();
    let mut add = |code| faults.push((code, "so says the driver".to_owned()));
    match evidence.cc.feature {
        CcFeature::On => {}
        CcFeature::Devtools => add(Code::Devtools),
        CcFeature::Off => add(Code::CcOff),
    }
    match evidence.cc.environment {
        CcEnvironment::Prod => {}
        CcEnvironment::Sim | CcEnvironment::Unavailable => add(Code::Environment),
    }
    match evidence.cc.multi_gpu {
        MultiGpuMode::None => {}
        MultiGpuMode::ProtectedPcie => add(Code::ProtectedPcie),
        MultiGpuMode::NvlinkEncryption => add(Code::MultiGpu),
    }
    match evidence.mig {
        MigMode::Off => {}
        MigMode::On | MigMode::Unknown => add(Code::Mig),
    }
    match evidence.virtualization {
        Virtualization::PassThrough => {}
        Virtualization::None
        | Virtualization::Vgpu
        | Virtualization::HostVgpu
        | Virtualization::HostVsga
        | Virtualization::Unknown => add(Code::Vgpu),
    }
    if evidence.cc.gpus_ready && question.readiness == Readiness::NotYet {
        add(Code::ReadyEarly);
    }
    faults
}

/// Without these fields (older firmware has them not) the driver's word stands alone.
fn said_by_gpu(opaque: &Opaque) -> Vec<(Code, String)> {
    let mut faults = Vec::new();
    let mut add = |code, detail: String| faults.push((code, detail));
    let signed = || "so says the GPU".to_owned();
    match opaque.protected_pcie() {
        Ok(None | Some(Switch::Off)) => {}
        Ok(Some(Switch::On)) => add(Code::ProtectedPcie, signed()),
        Err(error) => add(Code::FeatureFlag, error.to_string()),
    }
    match opaque.feature_flag() {
        Ok(None | Some(FeatureFlag::Single)) => {}
        Ok(Some(FeatureFlag::Multi)) => add(Code::MultiGpu, signed()),
        Ok(Some(FeatureFlag::ProtectedPcie)) => add(Code::ProtectedPcie, signed()),
        Err(error) => add(Code::FeatureFlag, error.to_string()),
    }
    faults
}
