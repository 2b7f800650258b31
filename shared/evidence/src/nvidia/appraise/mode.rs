//! Whether the GPU keeps the host out: confidential computing on, no debugging, one whole GPU.
//!
//! Most of it is the driver's word, read by the measured guest; what the GPU signs about itself must not contradict it. A
//! GPU in protected PCIe mode must sign that it is; whether the machine around it is whole is judged elsewhere. In that mode
//! drivers do not advertise confidential computing (so NVIDIA's open kernel modules), so "off" counts as on there, and only
//! where driver and GPU agree on the mode.

use super::{GpuQuestion, Readiness, device::Claims};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        evidence::{
            CcEnvironment, CcFeature, MigMode, MultiGpuMode, NvidiaEvidence, Virtualization,
        },
        opaque::{FeatureFlag, Opaque, Switch},
        rules::ProtectedPcieRule,
    },
    verdict::Findings,
};

/// What a GPU is part of, by all that is said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GpuMode {
    Single,
    ProtectedPcie,
}

/// Who says that a GPU is in protected PCIe mode; without a word, nobody.
#[derive(Debug, Clone, Copy)]
struct Words {
    driver: MultiGpuMode,
    status: Option<Switch>,
    flag: Option<FeatureFlag>,
}

impl Words {
    fn mode(self) -> GpuMode {
        let is_single = self.driver != MultiGpuMode::ProtectedPcie
            && self.status != Some(Switch::On)
            && self.flag != Some(FeatureFlag::ProtectedPcie);
        if is_single { GpuMode::Single } else { GpuMode::ProtectedPcie }
    }

    /// Older firmware has no feature flag; the status is signed by all that know the mode.
    fn all_say_protected_pcie(self) -> bool {
        self.driver == MultiGpuMode::ProtectedPcie
            && self.status == Some(Switch::On)
            && matches!(self.flag, None | Some(FeatureFlag::ProtectedPcie))
    }
}

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    evidence: &NvidiaEvidence,
    opaque: &Opaque,
    chain: &DeviceChain<'_>,
    findings: &mut Findings,
) -> GpuMode {
    let claim = claims.name("mode");
    let words = Words {
        driver: evidence.cc.multi_gpu,
        status: opaque.protected_pcie().unwrap_or_default(),
        flag: opaque.feature_flag().unwrap_or_default(),
    };
    let mut faults = said_by_driver(question, evidence, words);
    faults.extend(said_by_gpu(opaque));
    let mode = words.mode();
    if mode == GpuMode::ProtectedPcie {
        match question.rules.protected_pcie {
            ProtectedPcieRule::Refused => faults.push((Code::ProtectedPcie, String::new())),
            ProtectedPcieRule::Complete if words.all_say_protected_pcie() => {}
            ProtectedPcieRule::Complete => {
                faults.push((Code::PcieMixed, "driver and GPU do not agree".to_owned()));
            }
        }
    }
    let is_known = question.rules.architectures.contains(&evidence.architecture)
        && chain.chip.starts_with(evidence.architecture.chip_prefix());
    if !is_known {
        faults.push((Code::ArchitectureOther, chain.chip.to_owned()));
    }
    faults.sort_by_key(|(code, _)| code.as_str());
    faults.dedup_by_key(|(code, _)| *code);
    if faults.is_empty() {
        let anchor = format!("guest, {}", question.roots.anchor());
        let (value, text) = match mode {
            GpuMode::Single => ("cc", "confidential computing on, no devtools, one whole GPU"),
            GpuMode::ProtectedPcie => (
                "protected-pcie",
                "so say driver and GPU; no devtools, a whole GPU beside others behind switches",
            ),
        };
        findings.affirm(&claim, value, anchor, text);
    }
    for (code, detail) in faults {
        findings.refuse(&claim, "", code, detail);
    }
    mode
}

fn said_by_driver(
    question: &GpuQuestion<'_>,
    evidence: &NvidiaEvidence,
    words: Words,
) -> Vec<(Code, String)> {
    let mut faults = Vec::new();
    let mut add = |code| faults.push((code, "so says the driver".to_owned()));
    match evidence.cc.feature {
        CcFeature::On => {}
        CcFeature::Devtools => add(Code::Devtools),
        CcFeature::Off if words.all_say_protected_pcie() => {}
        CcFeature::Off => add(Code::CcOff),
    }
    match evidence.cc.environment {
        CcEnvironment::Prod => {}
        CcEnvironment::Sim | CcEnvironment::Unavailable => add(Code::Environment),
    }
    match evidence.cc.multi_gpu {
        MultiGpuMode::None | MultiGpuMode::ProtectedPcie => {}
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
    if let Err(error) = opaque.protected_pcie() {
        faults.push((Code::FeatureFlag, error.to_string()));
    }
    match opaque.feature_flag() {
        Ok(None | Some(FeatureFlag::Single | FeatureFlag::ProtectedPcie)) => {}
        Ok(Some(FeatureFlag::Multi)) => {
            faults.push((Code::MultiGpu, "so says the GPU".to_owned()));
        }
        Err(error) => faults.push((Code::FeatureFlag, error.to_string())),
    }
    faults
}
