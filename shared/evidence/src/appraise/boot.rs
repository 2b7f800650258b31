//! What was started: the launch configuration, the event log, and the registers against the reference values.

use super::{Context, Expectation, Parts, log};
use crate::{
    anchor::Anchor,
    bundle::EvidenceBundle,
    codes::Code,
    launch::LaunchConfiguration,
    layout1::BootRegisters,
    logs::CcelLog,
    measure::{self, Comparison},
    policy::{ImageRule, Rtmr0Rule},
    quote::TdxQuote,
    reference::{HostCode, Profile, ReferenceValues, RegisterRow},
    release,
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
    judge_launch(quote, parts, findings);
    let log = log::judge(bundle, quote, parts, expectation, findings);
    let Some(launch) = &parts.launch else {
        for claim in ["boot", "release"] {
            let detail = "the launch configuration did not parse";
            findings.unjudged(claim, Code::NotChecked, detail);
        }
        return;
    };
    judge_release((quote, log.as_ref()), launch, expectation, context, anchor, findings);
}

/// An SNP VM has no registers to replay: launch digest and HOST_DATA were judged with the report.
pub(super) fn judge_snp(
    bundle: &EvidenceBundle,
    parts: &Parts,
    expectation: &Expectation,
    context: &Context<'_>,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) {
    judge_launch_claim(parts, findings);
    if bundle.event_log.events.is_empty() {
        findings.open("event-log", "none", Code::RegistersNone, "and there is none here");
    } else {
        findings.refuse("event-log", "", Code::RegistersNone, "");
    }
    let Some(launch) = &parts.launch else {
        findings.unjudged("release", Code::NotChecked, "the launch configuration did not parse");
        return;
    };
    if !judge_release_name(launch, context, findings) {
        return;
    }
    for values in context.references.iter().filter(|values| values.release == launch.release) {
        if values.snp.iter().any(|row| row.covers(launch.shape)) {
            judge_profile(values, anchor, findings);
            judge_layers(values, launch, expectation, findings);
            return;
        }
    }
    findings.unjudged("profile", Code::NotChecked, "no reference values for SNP and this shape");
}

fn judge_launch(quote: &TdxQuote, parts: &Parts, findings: &mut Findings) {
    let digest = parts.launch_digest;
    match digest.check_mr_config_id(&quote.mr_config_id) {
        Ok(()) if parts.launch.is_some() => findings.affirm(
            "launch",
            digest.0.to_string(),
            "MRCONFIGID",
            "the CPU measured this launch configuration",
        ),
        Ok(()) => findings.unjudged("launch", Code::NotChecked, "it did not parse"),
        Err(error) => {
            findings.refuse("launch", digest.0.to_string(), error.entry(), error.to_string());
        }
    }
    judge_launch_claim(parts, findings);
}

pub(super) fn judge_launch_claim(parts: &Parts, findings: &mut Findings) {
    let digest = parts.launch_digest;
    if let Some(claims) = parts.claims.as_ref().filter(|claims| claims.launch != digest) {
        findings.refuse("launch-claim", claims.launch.0.to_string(), Code::LaunchClaim, "");
    }
}

/// `log` is the firmware's, and replays to the quote.
fn judge_release(
    (quote, log): (&TdxQuote, Option<&CcelLog>),
    launch: &LaunchConfiguration,
    expectation: &Expectation,
    context: &Context<'_>,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) {
    let release = launch.release.as_str();
    let of_release = || context.references.iter().filter(|values| values.release == release);
    if !judge_release_name(launch, context, findings) {
        findings.unjudged("boot", Code::NotChecked, "no reference values for this release");
        return;
    }
    let measured = BootRegisters {
        mrtd: quote.mrtd,
        rtmr0: quote.rtmr[0],
        rtmr1: quote.rtmr[1],
        rtmr2: quote.rtmr[2],
    };
    let mut departure = None;
    for values in of_release() {
        match values.find(&measured, launch.shape) {
            Ok(row) => {
                findings.affirm(
                    "boot",
                    format!("firmware {}, {} vCPUs", short(&row.firmware.to_string()), row.vcpus),
                    "reference values",
                    "firmware, shape, kernel, command line and initramfs are the release's",
                );
                judge_profile(values, anchor, findings);
                judge_layers(values, launch, expectation, findings);
                return;
            }
            Err(found) => departure = Some(found),
        }
    }
    let rule = context.policy.rules.rtmr0;
    if rule.frees_layout()
        && let Some(log) = log
    {
        let vcpus = launch.shape.vcpus;
        let by_events = of_release().filter_map(|values| {
            Some((values, values.find_by_events(&measured, vcpus, &log.events)?))
        });
        // One file that fits is enough.
        match by_events.min_by_key(|(_, found)| found.is_err()) {
            Some((values, Ok((row, comparison)))) => {
                judge_layout((row, values.host_code), &comparison, rule, findings);
                judge_profile(values, anchor, findings);
                judge_layers(values, launch, expectation, findings);
                return;
            }
            Some((_, Err(error))) => {
                findings.refuse("boot", "", error.entry(), error.to_string());
                return;
            }
            None => {}
        }
    }
    match departure {
        Some(departure) => findings.refuse("boot", "", departure, ""),
        None => findings.refuse("boot", "", Code::NotChecked, ""),
    }
}

/// The boot is the release's but for tables of the host's own.
fn judge_layout(
    (row, host_code): (&RegisterRow, HostCode),
    comparison: &Comparison,
    rule: Rtmr0Rule,
    findings: &mut Findings,
) {
    findings.affirm(
        "boot",
        format!("firmware {}, {} vCPUs", short(&row.firmware.to_string()), row.vcpus),
        "reference values, RTMR0 by its events",
        "firmware, kernel, command line and initramfs are the release's",
    );
    let value = format!("{} digests of the host's choice", comparison.free.len());
    match (host_code, rule) {
        (HostCode::Confined, _) => findings.affirm(
            "acpi",
            value,
            "release manifest",
            "the tables hold code for the guest's kernel; the release states that its kernel keeps such code away from \
             private memory, and nothing measures whether it does",
        ),
        (HostCode::Unstated, Rtmr0Rule::LayoutFreeConfined) => {
            findings.refuse("acpi", value, release::Code::HostCode, "");
        }
        (HostCode::Unstated, _) => findings.warn("acpi", value, measure::Code::LayoutFree, ""),
    }
}

/// Whether there are reference values of the release.
fn judge_release_name(
    launch: &LaunchConfiguration,
    context: &Context<'_>,
    findings: &mut Findings,
) -> bool {
    let rules = &context.policy.rules;
    let release = launch.release.as_str();
    // A policy that lists compose files means VMs that run nothing else.
    if rules.images == ImageRule::Dstack {
        findings.refuse("images", "sealtune", Code::ImagesOther, "");
    }
    if !context.references.iter().any(|values| values.release == release) {
        findings.refuse("release", release, Code::ReleaseOther, "");
        return false;
    }
    if !rules.releases.is_empty() && !rules.releases.iter().any(|allowed| allowed == release) {
        findings.refuse("release", release, Code::ReleaseNotAllowed, "");
    } else {
        findings.affirm("release", release, "reference values", "a release that you trust");
    }
    true
}

/// A dev image is admitted under a simulated anchor only; a policy cannot say otherwise.
pub(super) fn judge_profile(
    values: &ReferenceValues,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) {
    let profile = values.profile.as_str();
    match (values.profile, anchor) {
        (Profile::Prod, _) => {
            findings.affirm("profile", profile, "reference values", "no console, no shell");
        }
        (Profile::Dev, Some(Anchor::Simulated(_))) => {
            findings.warn("profile", profile, Code::ProfileDev, "");
        }
        (Profile::Dev, _) => findings.refuse("profile", profile, Code::ProfileDev, ""),
    }
}

pub(super) fn judge_layers(
    values: &ReferenceValues,
    launch: &LaunchConfiguration,
    expectation: &Expectation,
    findings: &mut Findings,
) {
    let unknown: Vec<&str> = launch
        .layers
        .iter()
        .filter(|layer| {
            !values.layers.contains(layer) && !expectation.layer_roots.contains(&layer.root)
        })
        .map(|layer| layer.name.as_str())
        .collect();
    if unknown.is_empty() {
        let names: Vec<&str> = launch.layers.iter().map(|layer| layer.name.as_str()).collect();
        let value = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        findings.affirm("layers", value, "launch", "of the release, or pinned by you");
    } else {
        findings.refuse("layers", unknown.join(", "), Code::LayerUnknown, "");
    }
}

fn short(hex: &str) -> &str {
    hex.get(..16).unwrap_or(hex)
}
