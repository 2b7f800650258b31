//! What was started in a dstack guest, and what the launch configuration is worth there.
//!
//! The boot registers are the verifier's, register 3 leads from them to the compose file, and the software that the
//! compose file names speaks for everything above: the claims, the launch configuration, the events that it writes behind
//! the boot. So the launch configuration is never affirmed; a policy says whether that software's word is enough.

use super::{
    Context, Expectation, Parts,
    boot::{judge_launch_claim, judge_layers},
    dstack::{judge_application, judge_boot},
};
use crate::{
    anchor::Anchor,
    bundle::EvidenceBundle,
    codes::Code,
    dstack::Code as DstackCode,
    event_log::{EventLogError, OwnEvent, check_own_events, is_own_event},
    launch::LaunchConfiguration,
    logs::identity::RuntimeClaim,
    policy::LaunchRule,
    reference::{ReferenceValues, RegisterRow},
    verdict::Findings,
};

pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    expectation: &Expectation,
    context: &Context<'_>,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) {
    let Some(quote) = &parts.quote else {
        for claim in ["launch", "event-log", "boot"] {
            findings.unjudged(claim, Code::NotChecked, "the quote did not parse");
        }
        return;
    };
    judge_launch(parts, context, findings);
    let boot = judge_boot(quote, context, anchor, findings);
    let log = bundle.dstack_log.as_ref().map_or(&[][..], |log| &log.0);
    if let Some(identity) = judge_application(quote, log, "config-id", context, findings) {
        judge_events(&identity.claims, parts, expectation, findings);
    }
    let Some(launch) = &parts.launch else {
        findings.unjudged("layers", Code::NotChecked, "the launch configuration did not parse");
        return;
    };
    judge_release(launch, findings);
    match boot {
        Some((values, row)) => {
            judge_shape(values, row, launch, findings);
            judge_layers(values, launch, expectation, findings);
        }
        None => findings.unjudged("layers", Code::NotChecked, "the boot is not known"),
    }
}

fn judge_launch(parts: &Parts, context: &Context<'_>, findings: &mut Findings) {
    let digest = parts.launch_digest.0.to_string();
    match context.policy.rules.launch {
        LaunchRule::Software => {
            findings.warn("launch", digest, DstackCode::LaunchBySoftware, "");
        }
        LaunchRule::Measured => {
            findings.refuse("launch", digest, DstackCode::LaunchBySoftware, "");
        }
    }
    judge_launch_claim(parts, findings);
}

/// A word of the launch configuration; which image runs, and whether the policy allows it, is said by the registers.
fn judge_release(launch: &LaunchConfiguration, findings: &mut Findings) {
    findings.open("release", &launch.release, Code::SaidByGuest, "");
}

/// Rows of several sizes may have the same registers.
fn judge_shape(
    values: &ReferenceValues,
    row: &RegisterRow,
    launch: &LaunchConfiguration,
    findings: &mut Findings,
) {
    let shape = launch.shape;
    let value = format!("{} vCPUs, {} MiB", shape.vcpus, shape.memory_mib);
    let mut same = values.registers.iter().filter(|it| it.registers() == row.registers());
    if same.any(|row| row.covers(shape)) {
        findings.affirm("shape", value, "reference values", "the measured one");
    } else {
        findings.refuse("shape", value, Code::ShapeUnknown, "");
    }
}

/// Which events of Sealtune's agent stand behind the boot.
fn judge_events(
    claims: &[RuntimeClaim],
    parts: &Parts,
    expectation: &Expectation,
    findings: &mut Findings,
) {
    let ours: Vec<OwnEvent<'_>> = claims
        .iter()
        .filter(|claim| is_own_event(&claim.name))
        .map(|claim| OwnEvent { name: &claim.name, payload: &claim.payload })
        .collect();
    let others = claims.len() - ours.len();
    if others > 0 {
        let value = format!("{others} events of other software");
        findings.open("other-events", value, Code::SaidByGuest, "");
    }
    if ours.is_empty() {
        findings.open("job-started", "unknown", DstackCode::RegisterClosed, "");
        return;
    }
    let purpose = expectation.purpose;
    let spec = parts.claims.as_ref().and_then(|claims| claims.spec);
    match check_own_events(&ours, purpose, &parts.launch_digest, spec.as_ref()) {
        Ok(()) => findings.affirm(
            "runtime-events",
            if purpose.follows_job_start() { "one job" } else { "no job yet" },
            "RTMR3",
            "written behind the boot, in order and once each",
        ),
        // Other software writes to this register too: whose events these are, only the first of ours can say.
        Err(EventLogError::LaunchMissing | EventLogError::LaunchNotFirst) => {
            findings.refuse("runtime-events", "", DstackCode::EventOrder, "");
        }
        Err(error) => {
            findings.refuse("runtime-events", "", error.entry(), error.to_string());
        }
    }
}
