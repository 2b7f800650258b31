//! The machine: signatures, anchor, TCB, attributes.

use ring::digest;

use super::{Context, Expectation, JudgeTime, OFFER_COLLATERAL_SECONDS, Parts};
use crate::{
    anchor::{Anchor, VerifiedQuote, verify_quote},
    bundle::EvidenceBundle,
    claims::Purpose,
    codes::Code,
    quote::TdxQuote,
    time::rfc3339,
    verdict::Findings,
};

/// The anchor, if the quote's chain verified.
pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    context: &Context<'_>,
    expectation: &Expectation,
    findings: &mut Findings,
) -> Option<Anchor> {
    let Some(quote) = &parts.quote else {
        for claim in ["attributes", "platform", "tcb", "collateral"] {
            findings.unjudged(claim, Code::NotChecked, "the quote did not parse");
        }
        return None;
    };
    judge_form(quote, findings);
    let verified = judge_signatures(bundle, context, findings)?;
    let anchor = verified.anchor;
    findings.affirm(
        "quote",
        anchor.to_string(),
        "signature",
        "signed by a genuine quoting enclave of this anchor",
    );
    if anchor.is_simulated() {
        findings.warn("hardware", "SIMULATED", Code::Simulated, "");
    } else {
        findings.affirm("hardware", "TDX", anchor.to_string(), "a genuine TDX machine");
    }
    judge_tcb(&verified, context, findings);
    judge_collateral(bundle, parts, &verified, context, expectation, findings);
    judge_machine(&verified, context, findings);
    Some(anchor)
}

fn judge_form(quote: &TdxQuote, findings: &mut Findings) {
    let checks = quote
        .check_attributes()
        .and_then(|()| quote.check_xfam())
        .and_then(|()| quote.check_measured());
    match checks {
        Ok(()) => findings.affirm(
            "attributes",
            format!("{:#018x}", quote.attributes),
            "quote",
            "not in debug mode, isolation complete, boot measured",
        ),
        Err(error) => findings.refuse("attributes", "", error.entry(), error.to_string()),
    }
    match quote.check_owner() {
        Ok(()) => findings.affirm("owner-registers", "zero", "quote", "unused, as they must be"),
        Err(error) => findings.refuse("owner-registers", "", error.entry(), error.to_string()),
    }
}

fn judge_signatures(
    bundle: &EvidenceBundle,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<VerifiedQuote> {
    let verified = match context.collateral.or(bundle.collateral.as_ref()) {
        None => Err((Code::CollateralMissing, String::new())),
        Some(collateral) if !collateral.is_within_bounds() => {
            Err((Code::CollateralUnreadable, String::new()))
        }
        Some(collateral) => {
            verify_quote(&bundle.quote.0, collateral, context.anchors, context.time.seconds())
                .map_err(|error| (error.entry(), error.to_string()))
        }
    };
    verified
        .map_err(|(code, detail)| {
            let refused = if code == Code::TcbStatus { "tcb" } else { "quote" };
            findings.refuse(refused, "", code, detail);
            for claim in ["quote", "tcb", "collateral", "platform"] {
                if claim != refused {
                    findings.unjudged(claim, Code::NotChecked, "the quote did not verify");
                }
            }
        })
        .ok()
}

fn judge_tcb(verified: &VerifiedQuote, context: &Context<'_>, findings: &mut Findings) {
    let rules = &context.policy.rules;
    let tcb = &verified.platform.tcb;
    let status = tcb.status.to_string();
    let refused: Vec<&str> = tcb
        .advisory_ids
        .iter()
        .filter(|advisory| !rules.allow_advisories.contains(advisory))
        .map(String::as_str)
        .collect();
    if !rules.tcb_statuses.iter().any(|allowed| allowed.as_str() == status) {
        findings.refuse("tcb", status, Code::TcbStatus, tcb.advisory_ids.join(", "));
    } else if !refused.is_empty() {
        findings.refuse("tcb", status, Code::TcbAdvisory, refused.join(", "));
    } else {
        findings.affirm(
            "tcb",
            status,
            verified.anchor.to_string(),
            "the platform's status is one that the policy allows",
        );
    }
}

fn judge_collateral(
    bundle: &EvidenceBundle,
    parts: &Parts,
    verified: &VerifiedQuote,
    context: &Context<'_>,
    expectation: &Expectation,
    findings: &mut Findings,
) {
    let platform = &verified.platform;
    let number = platform.tcb.eval_data_number;
    let source = if context.collateral.is_some() { "yours" } else { "the sender's" };
    let date = |seconds| rfc3339(seconds).unwrap_or_default();
    let value = format!(
        "{source}, number {number}, issued {}, expires {}",
        date(platform.latest_issue_date),
        date(platform.earliest_expiration_date)
    );
    let stale = match context.time {
        JudgeTime::Now(now) => {
            expectation.purpose == Purpose::Offer
                && !expectation.archived
                && context.collateral.is_none()
                && bundle.collateral.as_ref().is_none_or(|sent| {
                    sent.tcb_issued()
                        .is_none_or(|issued| now.saturating_sub(issued) > OFFER_COLLATERAL_SECONDS)
                })
        }
        JudgeTime::At(_) => false,
    };
    if number < context.policy.rules.min_evaluation_number {
        findings.refuse("collateral", value, Code::TcbEvaluation, "");
    } else if stale {
        findings.refuse("collateral", value, Code::CollateralStale, "");
    } else {
        findings.affirm("collateral", value, verified.anchor.to_string(), "valid at this time");
    }
    let claimed = parts.claims.as_ref().and_then(|claims| claims.collateral);
    if let (Some(claimed), Some(sent)) = (claimed, &bundle.collateral) {
        match sent.digest() {
            Ok(digest) if digest == claimed => findings.affirm(
                "collateral-claim",
                claimed.to_string(),
                "claims",
                "the evidence is not older than its collateral",
            ),
            _ => {
                findings.refuse("collateral-claim", claimed.to_string(), Code::CollateralOther, "")
            }
        }
    }
}

/// Persistent machine identities are shown as digests only.
fn judge_machine(verified: &VerifiedQuote, context: &Context<'_>, findings: &mut Findings) {
    let pins = &context.policy.rules.platforms;
    let ppid = digest::digest(&digest::SHA256, &verified.platform.platform.pck.ppid);
    let value = hex::encode(ppid.as_ref());
    if pins.is_empty() {
        findings.warn("platform", value, Code::PlatformNotPinned, "");
    } else if pins.iter().any(|pin| pin.as_bytes() == ppid.as_ref()) {
        findings.affirm("platform", value, "policy", "one of the machines that you pinned");
    } else {
        findings.refuse("platform", value, Code::PlatformUnlisted, "");
    }
}
