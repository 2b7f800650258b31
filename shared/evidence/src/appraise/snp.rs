//! An SEV-SNP report within a bundle.

use super::{Context, Expectation, Parts};
use crate::{
    anchor::Anchor,
    bundle::EvidenceBundle,
    claims::report_data as data_of_claims,
    fixed_hex::Hex48,
    snp::{Report, SnpContext, SnpExpectation, judge as judge_report},
    verdict::Findings,
};

/// What a report was made over, if it is one.
pub(super) fn report_data(report: &[u8]) -> Option<[u8; 64]> {
    Report::parse(report).ok().map(|report| report.report_data)
}

/// The anchor, if certificates and signature verified.
pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    context: &Context<'_>,
    expectation: &Expectation,
    findings: &mut Findings,
) -> Option<Anchor> {
    let measurements: Vec<Hex48> = match &parts.launch {
        Some(launch) => context
            .references
            .iter()
            .filter(|values| values.release == launch.release)
            .flat_map(|values| &values.snp)
            .filter(|row| row.covers(launch.shape))
            .map(|row| row.measurement)
            .collect(),
        None => vec![],
    };
    let expected = SnpExpectation {
        purpose: expectation.purpose,
        report_data: data_of_claims(&bundle.claims.0),
        host_data: parts.launch_digest.host_data(),
        measurements: &measurements,
    };
    let judging = SnpContext {
        rules: &context.policy.rules.snp,
        roots: &context.anchors.snp,
        now: context.time.seconds(),
    };
    let collateral = context.snp_collateral.or(bundle.snp_collateral.as_ref());
    judge_report(&bundle.quote.0, collateral, &expected, &judging, findings)
        .map(|judged| judged.anchor.into())
}
