//! What was started: the launch configuration, the event log, and the registers against the reference values.

use super::{Context, Expectation, Parts};
use crate::{
    anchor::Anchor,
    bundle::EvidenceBundle,
    codes::Code,
    event_log::{EventLogError, RUNTIME_REGISTER, check_registers},
    launch::LaunchConfiguration,
    layout1::BootRegisters,
    logs::CcelLog,
    policy::ImageRule,
    quote::TdxQuote,
    reference::{Profile, ReferenceValues},
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
    judge_log(bundle, quote, parts, expectation, findings);
    let Some(launch) = &parts.launch else {
        for claim in ["boot", "release"] {
            let detail = "the launch configuration did not parse";
            findings.unjudged(claim, Code::NotChecked, detail);
        }
        return;
    };
    judge_release(quote, launch, expectation, context, anchor, findings);
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

fn judge_launch_claim(parts: &Parts, findings: &mut Findings) {
    let digest = parts.launch_digest;
    if let Some(claims) = parts.claims.as_ref().filter(|claims| claims.launch != digest) {
        findings.refuse("launch-claim", claims.launch.0.to_string(), Code::LaunchClaim, "");
    }
}

fn judge_log(
    bundle: &EvidenceBundle,
    quote: &TdxQuote,
    parts: &Parts,
    expectation: &Expectation,
    findings: &mut Findings,
) {
    match check_replay(bundle, quote) {
        Ok(Replayed::All(events)) => findings.affirm(
            "event-log",
            format!("{events} events"),
            "RTMR0-3",
            "replays to all four registers",
        ),
        // The others are held against reference values whole: see the finding `boot`.
        Ok(Replayed::Runtime(events)) => findings.affirm(
            "event-log",
            format!("{events} events"),
            "RTMR3",
            "replays to register 3; there is no log of the boot",
        ),
        Err((code, detail)) => findings.refuse("event-log", "", code, detail),
    }
    let log = &bundle.event_log;
    // The purpose is the one that was asked for: an offer with a job behind it is no offer, whatever its claims say.
    let spec = parts.claims.as_ref().and_then(|claims| claims.spec);
    match log.check_runtime(expectation.purpose, &parts.launch_digest, spec.as_ref()) {
        Ok(()) => findings.affirm(
            "runtime-events",
            if expectation.purpose.follows_job_start() { "one job" } else { "no job yet" },
            "RTMR3",
            "nothing else was extended",
        ),
        Err(error) => findings.refuse("runtime-events", "", error.entry(), error.to_string()),
    }
}

/// Which registers a log explains, and by how many events.
enum Replayed {
    All(usize),
    Runtime(usize),
}

/// The simulated TEE's log has all events in one list. A real machine's boot is in the log of its firmware, if it is
/// anywhere, and the list is the agent's own.
fn check_replay(bundle: &EvidenceBundle, quote: &TdxQuote) -> Result<Replayed, (Code, String)> {
    let log = &bundle.event_log;
    let own = |error: EventLogError| (error.entry(), error.to_string());
    log.check_events().map_err(own)?;
    let has_boot = log.events.iter().any(|event| usize::from(event.imr) != RUNTIME_REGISTER);
    let Some(bytes) = &bundle.ccel else {
        if has_boot {
            log.check_replay(&quote.rtmr).map_err(own)?;
            return Ok(Replayed::All(log.events.len()));
        }
        let [boot0, boot1, boot2, _] = quote.rtmr;
        let [.., replayed] = log.replay();
        let registers = [boot0, boot1, boot2, replayed];
        check_registers(&registers, &quote.rtmr).map_err(own)?;
        return Ok(Replayed::Runtime(log.events.len()));
    };
    let firmware = CcelLog::parse(&bytes.0)
        .map_err(|error| (Code::LogMalformed, format!("the firmware's log: {error}")))?;
    firmware.check_payloads().map_err(|error| (Code::LogDigest, error.to_string()))?;
    let [boot0, boot1, boot2, runtime] = firmware.replay();
    if has_boot || !runtime.is_zero() {
        return Err((Code::LogTwice, String::new()));
    }
    let [.., replayed] = log.replay();
    check_registers(&[boot0, boot1, boot2, replayed], &quote.rtmr).map_err(own)?;
    Ok(Replayed::All(firmware.events.len() + log.events.len()))
}

fn judge_release(
    quote: &TdxQuote,
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
    let code = departure.map_or(Code::NotChecked, |departure| departure.entry());
    findings.refuse("boot", "", code, "");
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
fn judge_profile(values: &ReferenceValues, anchor: Option<Anchor>, findings: &mut Findings) {
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

fn judge_layers(
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
