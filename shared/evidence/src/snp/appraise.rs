//! The judgement of an SNP report: certificates, signature, platform, and what the VM is.
//!
//! Pure: everything that a report is held against comes in. Nothing is affirmed before the signature verified.

use super::{
    certificates::{VerifiedChain, verify_chain},
    codes::Code,
    collateral::SnpCollateral,
    product::Product,
    report::{Report, SigningKey},
    revocation::{Crl, CrlNumber, VerifiedCrl},
    roots::{Roots, SnpAnchor},
    rules::{Rule, SnpRules},
};
use crate::{
    claims::Purpose,
    fixed_hex::{FixedHex, Hex32, Hex48},
    time::rfc3339,
    verdict::Findings,
};

mod platform;
mod vm;

/// What the verifier expects the report to say.
#[derive(Debug, Clone, Copy)]
pub struct SnpExpectation<'a> {
    pub purpose: Purpose,
    /// Computed from the claims as they were received.
    pub report_data: [u8; 64],
    /// Digest of the launch configuration as it was received.
    pub host_data: Hex32,
    /// Launch digests of the releases and shapes that the verifier trusts.
    pub measurements: &'a [Hex48],
}

/// Everything else that a judgement depends on.
#[derive(Debug, Clone, Copy)]
pub struct SnpContext<'a> {
    pub rules: &'a SnpRules,
    pub roots: &'a Roots,
    /// Unix seconds.
    pub now: u64,
}

/// What was read on the way. To be believed only if the verdict is `Accepted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpJudged {
    pub anchor: SnpAnchor,
    pub report: Report,
    /// Of the list that was judged with.
    pub crl: Option<CrlNumber>,
    /// When the first of certificates and list ends.
    pub expires: u64,
}

const AFTER_SIGNATURE: [&str; 6] =
    ["tcb", "attributes", "platform", "report-data", "launch", "boot"];

/// Adds findings for every check. `None` if the report, its chain or its signature did not verify.
pub fn judge(
    report: &[u8],
    collateral: Option<&SnpCollateral>,
    expectation: &SnpExpectation<'_>,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) -> Option<SnpJudged> {
    let verified = verify(report, collateral, context, findings);
    let Some((report, chain)) = verified else {
        for claim in AFTER_SIGNATURE {
            findings.unjudged(claim, Code::NotChecked, "the report did not verify");
        }
        return None;
    };
    let anchor = chain.anchor();
    findings.affirm(
        "quote",
        anchor.to_string(),
        "signature",
        "signed by the firmware of a genuine processor of this anchor",
    );
    if anchor.is_simulated() {
        findings.warn("hardware", "SIMULATED", Code::Simulated, "");
    } else {
        let value = format!("SEV-SNP, {}", chain.product());
        findings.affirm("hardware", value, anchor.to_string(), "a genuine SEV-SNP machine");
    }
    let crl = judge_revocation(collateral, &chain, context, findings);
    platform::judge(&report, &chain, context, findings);
    vm::judge(&report, expectation, context, findings);
    let expires = crl.as_ref().map_or(chain.expires(), |crl| chain.expires().min(crl.expires()));
    Some(SnpJudged { anchor, report, crl: crl.map(|crl| crl.number()), expires })
}

/// Form, chain and signature, in the order in which each makes the next worth looking at.
fn verify(
    bytes: &[u8],
    collateral: Option<&SnpCollateral>,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) -> Option<(Report, VerifiedChain)> {
    let mut refuse = |code: Code, detail: String| {
        findings.refuse("quote", "", code, detail);
        None
    };
    let report = match Report::parse(bytes) {
        Ok(report) => report,
        Err(error) => return refuse(error.entry(), error.to_string()),
    };
    let Some(collateral) = collateral else {
        return refuse(Code::CollateralMissing, String::new());
    };
    if let Err(error) = collateral.check_bounds() {
        return refuse(error.entry(), error.to_string());
    }
    let chain = match verify_chain(collateral, context.roots, context.now) {
        Ok(chain) => chain,
        Err(error) => return refuse(error.entry(), error.to_string()),
    };
    if report.signing_key != chain.vek().kind() {
        let detail = format!(
            "the report names a {}, the certificate is of a {}",
            report.signing_key.as_str(),
            chain.vek().kind().as_str()
        );
        return refuse(Code::SigningKeyOther, detail);
    }
    if let Err(error) = chain.vek().verify_report(bytes) {
        return refuse(error.entry(), error.to_string());
    }
    Some((report, chain))
}

fn judge_revocation(
    collateral: Option<&SnpCollateral>,
    chain: &VerifiedChain,
    context: &SnpContext<'_>,
    findings: &mut Findings,
) -> Option<VerifiedCrl> {
    const CLAIM: &str = "collateral";
    let date = |seconds| rfc3339(seconds).unwrap_or_default();
    let Some(der) = collateral.and_then(|collateral| collateral.crl.as_ref()) else {
        let value = format!("no revocation list, expires {}", date(chain.expires()));
        unmet(context.rules.revocation_list, CLAIM, value, Code::CrlMissing, findings);
        return None;
    };
    // A list that is there must be good, also where none is required.
    let crl = match Crl::read(&der.0).and_then(|crl| crl.verify(chain, context.now)) {
        Ok(crl) => crl,
        Err(error) => {
            findings.refuse(CLAIM, "", error.entry(), error.to_string());
            return None;
        }
    };
    let value = format!(
        "revocation list {}, issued {}, expires {}",
        short_number(crl.number()),
        date(crl.issued()),
        date(chain.expires().min(crl.expires()))
    );
    if crl.revoked().is_empty() {
        findings.affirm(CLAIM, value, chain.anchor().to_string(), "valid, and nothing revoked");
    } else {
        findings.refuse(CLAIM, value, Code::Revoked, crl.revoked().join(", "));
    }
    Some(crl)
}

/// A finding for something that does not hold, as heavy as the rule says.
fn unmet(rule: Rule, claim: &str, value: impl Into<String>, code: Code, findings: &mut Findings) {
    match rule {
        Rule::Required => findings.refuse(claim, value, code, ""),
        Rule::Wished => findings.warn(claim, value, code, ""),
        Rule::Ignored => findings.open(claim, value, code, ""),
    }
}

fn short_number(number: CrlNumber) -> String {
    let text = number.to_string();
    let digits = text.trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}
