//! A good SNP VM on a simulated platform, and a verifier who accepts it; tests change one thing.

use super::simulated::{CHIP, Plan, sign_report};
use crate::{
    FixedHex, Hex32, Hex48, Purpose, Verdict,
    snp::{
        Product, Roots, Rule, SnpCollateral, SnpContext, SnpExpectation, SnpJudged, SnpRules,
        judge, report::REPORT_BYTES, rules::MinimumTcb,
    },
    verdict::{Findings, PolicyIdentity},
};

/// 2026-11-18.
pub(super) const NOW: u64 = 1_795_000_000;
pub(super) const REPORT_DATA: [u8; 64] = [0xd1; 64];
pub(super) const HOST_DATA: Hex32 = FixedHex([0x4d; 32]);
pub(super) const MEASUREMENT: Hex48 = FixedHex([0x3e; 48]);

#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) plan: Plan,
    /// Signed when it is judged.
    pub(super) report: Vec<u8>,
    pub(super) rules: SnpRules,
    pub(super) roots: Option<Roots>,
    pub(super) purpose: Purpose,
    pub(super) measurements: Vec<Hex48>,
    pub(super) now: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        let plan = Plan::default();
        let row = MinimumTcb {
            product: Product::Milan,
            reported: plan.tcb,
            committed: plan.tcb,
            launch: plan.tcb,
        };
        let rules = SnpRules {
            minimum_tcb: vec![row],
            measured_acpi: Rule::Wished,
            measured_job_start: Rule::Wished,
            ..SnpRules::default()
        };
        Self {
            plan,
            report: report(),
            rules,
            roots: None,
            purpose: Purpose::Offer,
            measurements: vec![FixedHex([0x11; 48]), MEASUREMENT],
            now: NOW,
        }
    }

    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.report[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn signed(&self) -> Vec<u8> {
        let mut report = self.report.clone();
        sign_report(&mut report);
        report
    }

    pub(super) fn judge(&self) -> Verdict {
        self.judge_parts(&self.signed(), Some(&self.plan.collateral())).0
    }

    pub(super) fn judge_parts(
        &self,
        report: &[u8],
        collateral: Option<&SnpCollateral>,
    ) -> (Verdict, Option<SnpJudged>) {
        let roots = self.roots.clone().unwrap_or_else(|| self.plan.roots());
        let expectation = SnpExpectation {
            purpose: self.purpose,
            report_data: REPORT_DATA,
            host_data: HOST_DATA,
            measurements: &self.measurements,
        };
        let context = SnpContext { rules: &self.rules, roots: &roots, now: self.now };
        verdict_of(report, collateral, &expectation, &context)
    }
}

pub(super) fn verdict_of(
    report: &[u8],
    collateral: Option<&SnpCollateral>,
    expectation: &SnpExpectation<'_>,
    context: &SnpContext<'_>,
) -> (Verdict, Option<SnpJudged>) {
    let mut findings = Findings::default();
    let judged = judge(report, collateral, expectation, context, &mut findings);
    let policy = PolicyIdentity { name: "test".into(), digest: String::new(), tolerates: vec![] };
    (findings.into_verdict("an SNP report", false, policy, context.now), judged)
}

/// A version 3 report of a Milan processor, not yet signed.
fn report() -> Vec<u8> {
    let mut report = vec![0; REPORT_BYTES];
    let mut set = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    let tcb = [4, 0, 0, 0, 0, 0, 23, 213];
    set(0x000, &[3]);
    set(0x008, &0x2_0000_u64.to_le_bytes());
    set(0x034, &[1]);
    set(0x040, &[0x21]);
    for at in [0x038, 0x180, 0x1e0, 0x1f0] {
        set(at, &tcb);
    }
    set(0x050, &REPORT_DATA);
    set(0x090, MEASUREMENT.as_bytes());
    set(0x0c0, HOST_DATA.as_bytes());
    set(0x140, &[0x1d; 32]);
    set(0x160, &[0xff; 32]);
    set(0x188, &[0x19, 0x01, 0x01]);
    set(0x1a0, &CHIP);
    set(0x1e8, &[29, 55, 1, 0, 29, 55, 1, 0]);
    report
}
