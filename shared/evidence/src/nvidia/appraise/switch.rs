//! Whether a switch is what it must be beside GPUs in protected PCIe mode: of the stated architecture, and locked.
//!
//! A switch signs no feature flag. It signs whether it is locked, which it is once it has been set up for protected PCIe;
//! fields that only GPUs have must not say anything else, should newer firmware have them.

use super::{GpuQuestion, device::Claims};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        device_evidence::SwitchEvidence,
        opaque::{FeatureFlag, Opaque, Switch},
        rules::ProtectedPcieRule,
    },
    verdict::Findings,
};

pub(super) fn judge(
    question: &GpuQuestion<'_>,
    claims: &Claims,
    evidence: &SwitchEvidence,
    opaque: &Opaque,
    chain: &DeviceChain<'_>,
    findings: &mut Findings,
) {
    let claim = claims.name("mode");
    let mut faults = signed(opaque);
    if question.rules.protected_pcie == ProtectedPcieRule::Refused {
        faults.push((Code::ProtectedPcie, String::new()));
    }
    if chain.chip != evidence.architecture.chip() {
        faults.push((Code::ArchitectureOther, chain.chip.to_owned()));
    }
    if faults.is_empty() {
        findings.affirm(&claim, "locked", question.roots.anchor(), "so the switch signs");
    }
    for (code, detail) in faults {
        findings.refuse(&claim, "", code, detail);
    }
}

fn signed(opaque: &Opaque) -> Vec<(Code, String)> {
    let mut faults = Vec::new();
    match opaque.lock() {
        Ok(Some(Switch::On)) => {}
        Ok(Some(Switch::Off)) => faults.push((Code::SwitchUnlocked, String::new())),
        Ok(None) => faults.push((Code::SwitchUnlocked, "it does not say".to_owned())),
        Err(error) => faults.push((Code::SwitchUnlocked, error.to_string())),
    }
    let status_fits = matches!(opaque.protected_pcie(), Ok(None | Some(Switch::On)));
    let flag_fits = matches!(opaque.feature_flag(), Ok(None | Some(FeatureFlag::ProtectedPcie)));
    if !status_fits || !flag_fits {
        faults.push((Code::FeatureFlag, "not of protected PCIe mode".to_owned()));
    }
    faults
}
