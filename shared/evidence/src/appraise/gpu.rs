//! GPU evidence: bound to the VM by digest. Whether it is genuine is not judged yet, and says so.

use ring::digest;

use super::{Context, Parts};
use crate::{bundle::EvidenceBundle, codes::Code, policy::GpuRule, verdict::Findings};

pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let (Some(claims), Some(launch)) = (&parts.claims, &parts.launch) else {
        findings.unjudged("gpu", Code::NotChecked, "claims or launch configuration did not parse");
        return;
    };
    if claims.gpu.is_empty() && launch.gpus.is_empty() && bundle.gpu.is_empty() {
        findings.affirm("gpu", "none", "launch", "this VM has no GPU");
        return;
    }
    let value = format!("{} listed, {} with evidence", launch.gpus.len(), claims.gpu.len());
    if claims.gpu.len() < launch.gpus.len() || bundle.gpu.len() != claims.gpu.len() {
        findings.refuse("gpu", value, Code::GpuMissing, "");
        return;
    }
    let bound = claims.gpu.iter().all(|claim| {
        bundle.gpu.iter().any(|sent| {
            sent.device == claim.device
                && digest::digest(&digest::SHA256, &sent.evidence.0).as_ref()
                    == claim.digest.as_bytes()
        })
    });
    match (bound, context.policy.rules.gpu) {
        (false, _) => findings.refuse("gpu", value, Code::GpuDigest, ""),
        (true, GpuRule::Verified) => findings.refuse("gpu", value, Code::GpuUnverified, ""),
        (true, GpuRule::Unverified) => findings.warn("gpu", value, Code::GpuUnverified, ""),
    }
}
