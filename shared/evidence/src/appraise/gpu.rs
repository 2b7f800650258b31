//! GPU evidence: bound to the VM by digest and nonce, and genuine by NVIDIA's signatures.

use ring::digest;

use super::{Context, Expectation, Parts};
use crate::{
    anchor::Anchor,
    bundle::{EvidenceBundle, GpuEvidence},
    claims::{Claims, Purpose, gpu_nonce},
    codes::Code,
    nvidia::{
        DeviceEvidence, GpuQuestion, Guest, NvidiaCollateral, NvidiaRules, Readiness,
        judge as judge_devices,
    },
    policy::GpuRule,
    verdict::Findings,
};

/// Whether what was judged is a simulated GPU.
pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    expectation: &Expectation,
    context: &Context<'_>,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) -> bool {
    let (Some(claims), Some(launch)) = (&parts.claims, &parts.launch) else {
        findings.unjudged("gpu", Code::NotChecked, "claims or launch configuration did not parse");
        return false;
    };
    if claims.gpu.is_empty() && launch.gpus.is_empty() && bundle.gpu.is_empty() {
        findings.affirm("gpu", "none", "launch", "this VM has no GPU");
        return false;
    }
    let value = format!("{} listed, {} with evidence", launch.gpus.len(), claims.gpu.len());
    let is_claimed = |name: &String| claims.gpu.iter().any(|claim| claim.device == *name);
    if !launch.gpus.iter().all(is_claimed) || bundle.gpu.len() != claims.gpu.len() {
        findings.refuse("gpu", value, Code::GpuMissing, "");
        return false;
    }
    // Only switches are there that the launch configuration does not list, and it lists none of them.
    let is_out_of_place = |sent: &GpuEvidence| {
        launch.gpus.contains(&sent.device) == DeviceEvidence::is_switch(&sent.evidence.0)
    };
    if bundle.gpu.iter().any(is_out_of_place) {
        findings.refuse("gpu", value, Code::GpuMissing, "a device is not listed");
        return false;
    }
    if !are_bound(claims, bundle) {
        findings.refuse("gpu", value, Code::GpuDigest, "");
        return false;
    }
    match context.policy.rules.gpu {
        GpuRule::Unverified => {
            findings.warn("gpu", value, Code::GpuUnverified, "");
            false
        }
        GpuRule::Verified => {
            // The GPU's evidence shows some GPU; that this VM uses it follows from the measured guest.
            let guest = match anchor {
                Some(_) if findings.hold_so_far() => Guest::Verified,
                _ => Guest::NotVerified,
            };
            let rules = match expectation.archived {
                true => &context.policy.rules.nvidia.for_kept_evidence(),
                false => &context.policy.rules.nvidia,
            };
            judge_genuine(bundle, claims, launch.gpus.len(), (guest, rules), context, findings)
        }
    }
}

/// Exactly what the claims name, in their order; the quote covers them.
fn are_bound(claims: &Claims, bundle: &EvidenceBundle) -> bool {
    claims.gpu.len() == bundle.gpu.len()
        && claims.gpu.iter().zip(&bundle.gpu).all(|(claim, sent)| {
            sent.device == claim.device
                && digest::digest(&digest::SHA256, &sent.evidence.0).as_ref()
                    == claim.digest.as_bytes()
        })
}

/// A VM runs one job. Its GPUs are set ready between the start evidence and the container; who the VM is may be asked at
/// any time, and the receipt comes after.
fn readiness(purpose: Purpose) -> Readiness {
    match purpose {
        Purpose::Offer | Purpose::Start => Readiness::NotYet,
        Purpose::Identity | Purpose::Receipt => Readiness::Either,
    }
}

fn judge_genuine(
    bundle: &EvidenceBundle,
    claims: &Claims,
    expected: usize,
    (guest, rules): (Guest, &NvidiaRules),
    context: &Context<'_>,
    findings: &mut Findings,
) -> bool {
    let none = NvidiaCollateral::default();
    let devices: Vec<_> =
        bundle.gpu.iter().map(|gpu| (gpu.device.as_str(), gpu.evidence.0.as_slice())).collect();
    let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
    let question = GpuQuestion {
        devices: &devices,
        expected,
        nonce: Some(nonce),
        collateral: context.gpu_collateral.or(bundle.gpu_collateral.as_ref()).unwrap_or(&none),
        rules,
        roots: &context.anchors.nvidia,
        guest,
        readiness: readiness(claims.purpose),
        time: context.time.seconds(),
    };
    judge_devices(&question, findings).simulated
}
