//! The VM: what its host may do with it, what it was started with, and what SNP cannot say about it.

use super::{Code, Findings, FixedHex, Hex48, Report, Rule, SnpContext, SnpExpectation, unmet};

pub(super) fn judge(
    report: &Report,
    expectation: &SnpExpectation<'_>,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    judge_policy(report, context, findings);
    judge_identity(report, context, findings);
    judge_binding(report, expectation, findings);
    judge_measurement(report, expectation, findings);
    judge_limits(expectation, context, findings);
}

fn judge_policy(report: &Report, context: &SnpContext<'_>, findings: &mut Findings) {
    const CLAIM: &str = "attributes";
    let rules = context.rules;
    let value = || format!("{:#018x}", report.policy.0);
    let mut good = true;
    for (bad, code) in [
        (report.policy.allows_debug(), Code::Debug),
        (report.policy.allows_migration(), Code::Migration),
        (report.policy.abi() < rules.min_policy_abi, Code::PolicyAbi),
    ] {
        if bad {
            good = false;
            findings.refuse(CLAIM, value(), code, "");
        }
    }
    if good {
        findings.affirm(CLAIM, value(), "report", "not in debug mode, not migratable");
    }
    if report.policy.allows_smt() {
        unmet(rules.no_smt, "smt", "allowed", Code::Smt, findings);
    } else {
        findings.affirm("smt", "forbidden", "report", "cores are not shared with other VMs");
    }
    if report.vmpl == rules.vmpl {
        let value = report.vmpl.to_string();
        findings.affirm("vmpl", value, "report", "asked for at the level that you expect");
    } else {
        let detail = format!("expected {}", rules.vmpl);
        findings.refuse("vmpl", report.vmpl.to_string(), Code::Vmpl, detail);
    }
}

/// Identity blocks mean nothing here unless you listed their key, so they may say nothing.
fn judge_identity(report: &Report, context: &SnpContext<'_>, findings: &mut Findings) {
    const CLAIM: &str = "identity-block";
    let rules = context.rules;
    let fits = |digest: &Hex48, known: &[Hex48]| digest.is_zero() || known.contains(digest);
    let zero_ids = report.family_id == [0; 16] && report.image_id == [0; 16];
    if !fits(&report.id_key_digest, &rules.id_keys) {
        findings.refuse(CLAIM, report.id_key_digest.to_string(), Code::IdKey, "");
    } else if report.id_key_digest.is_zero() && (!zero_ids || report.guest_svn != 0) {
        let detail = "no key, but a family, an image or a security version";
        findings.refuse(CLAIM, "", Code::IdKey, detail);
    } else if !fits(&report.author_key_digest, &rules.author_keys)
        || (report.author_key_digest.is_zero() && report.author_key_enabled)
    {
        findings.refuse(CLAIM, report.author_key_digest.to_string(), Code::AuthorKey, "");
    } else if report.id_key_digest.is_zero() {
        findings.affirm(CLAIM, "none", "report", "unused, as it must be");
    } else {
        let value = report.id_key_digest.to_string();
        findings.affirm(CLAIM, value, "policy", "of a key that you listed");
    }
}

fn judge_binding(report: &Report, expectation: &SnpExpectation<'_>, findings: &mut Findings) {
    if report.report_data == expectation.report_data {
        let value = hex::encode(report.report_data.first_chunk::<8>().copied().unwrap_or_default());
        findings.affirm("report-data", value, "quote", "made over exactly these claims");
    } else {
        findings.refuse("report-data", "", Code::ReportData, "");
    }
    let value = report.host_data.to_string();
    if report.host_data.is_zero() {
        findings.refuse("launch", value, Code::HostDataZero, "");
    } else if report.host_data != expectation.host_data {
        findings.refuse("launch", value, Code::HostData, "");
    } else {
        let text = "the CPU measured this launch configuration";
        findings.affirm("launch", value, "HOST_DATA", text);
    }
}

fn judge_measurement(report: &Report, expectation: &SnpExpectation<'_>, findings: &mut Findings) {
    const CLAIM: &str = "boot";
    let value = report.measurement.to_string();
    if expectation.measurements.is_empty() {
        findings.refuse(CLAIM, value, Code::MeasurementNotGiven, "");
    } else if report.measurement == FixedHex::ZERO
        || !expectation.measurements.contains(&report.measurement)
    {
        findings.refuse(CLAIM, value, Code::MeasurementUnknown, "");
    } else {
        findings.affirm(
            CLAIM,
            value,
            "MEASUREMENT",
            "firmware, processors, kernel, command line and initramfs are what you expect",
        );
    }
}

/// What SNP has no means to measure is never affirmed.
fn judge_limits(
    expectation: &SnpExpectation<'_>,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) {
    let rules = context.rules;
    unmet(rules.measured_acpi, "acpi", "the host's", Code::HostAcpi, findings);
    if expectation.purpose.follows_job_start() && rules.measured_job_start == Rule::Required {
        findings.unjudged("job-started", Code::JobStartedUnknown, "");
    } else {
        findings.open("job-started", "unknown", Code::JobStartedUnknown, "");
    }
}
