//! The claims: bound to the quote, and made for this question.

use super::{CLOCK_SKEW_SECONDS, Context, Expectation, JudgeTime, OFFER_SECONDS, Parts};
use crate::{
    bundle::{EvidenceBundle, Tee},
    claims::{Claims, Purpose, report_data},
    codes::Code,
    launch::VmMode,
    verdict::Findings,
};

pub(super) fn judge(
    bundle: &EvidenceBundle,
    parts: &Parts,
    expectation: &Expectation,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let (Some(quoted), Some(claims)) = (parts.report_data, &parts.claims) else {
        for claim in ["report-data", "purpose", "nonce", "role"] {
            findings.unjudged(claim, Code::NotChecked, "quote or claims did not parse");
        }
        return;
    };
    let covers = report_data(&bundle.claims.0) == quoted;
    match (bundle.tee, covers) {
        (Tee::Tdx | Tee::Dstack, true) => findings.affirm(
            "report-data",
            hex::encode(&quoted[..8]),
            "quote",
            "the quote was made over exactly these claims",
        ),
        (Tee::Tdx | Tee::Dstack, false) => findings.refuse("report-data", "", Code::ReportData, ""),
        // Said with the report, which is judged as a whole.
        (Tee::Snp, _) => {}
    }
    if !covers {
        for claim in ["purpose", "nonce", "role"] {
            findings.unjudged(claim, Code::NotChecked, "the quote does not cover these claims");
        }
        return;
    }
    judge_question(claims, expectation, context, findings);
    judge_job(claims, expectation, findings);
    judge_chain(claims, expectation, findings);
    judge_role(parts, claims, expectation, context, findings);
    judge_time(claims, context, findings);
}

fn judge_question(
    claims: &Claims,
    expectation: &Expectation,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let purpose = claims.purpose.as_str();
    if claims.purpose == expectation.purpose {
        findings.affirm("purpose", purpose, "claims", "what you asked for");
    } else {
        findings.refuse("purpose", purpose, Code::PurposeOther, expectation.purpose.as_str());
    }
    let nonce = claims.nonce.to_string();
    match expectation.nonce {
        Some(expected) if expected == claims.nonce => {
            findings.affirm("nonce", nonce, "you", "made for your nonce");
        }
        Some(_) => findings.refuse("nonce", nonce, Code::NonceOther, ""),
        None if expectation.archived || expectation.purpose.follows_job_start() => {
            findings.open("nonce", nonce, Code::NonceNotGiven, "");
        }
        None => findings.unjudged("nonce", Code::NonceNotGiven, ""),
    }
    if let (Purpose::Offer, Some(asked)) = (expectation.purpose, expectation.asked_at) {
        let now = context.time.seconds();
        let age = now.saturating_sub(asked);
        if asked > now.saturating_add(CLOCK_SKEW_SECONDS) {
            let detail = "you say that the nonce was made in the future";
            findings.refuse("age", "unknown", Code::OfferExpired, detail);
        } else if age > OFFER_SECONDS {
            findings.refuse("age", format!("{age} s"), Code::OfferExpired, "");
        } else {
            findings.affirm("age", format!("at most {age} s"), "your nonce", "still good");
        }
    }
}

fn judge_job(claims: &Claims, expectation: &Expectation, findings: &mut Findings) {
    if let Some(job) = claims.job {
        let value = format!("{job} attempt {}", claims.attempt.as_deref().unwrap_or("?"));
        let other_job = expectation.job.is_some_and(|expected| expected != job);
        let other_attempt =
            expectation.attempt.is_some_and(|expected| claims.attempt_number() != Some(expected));
        if other_job || other_attempt {
            findings.refuse("job", value, Code::JobOther, "");
        } else if expectation.job.is_some() {
            findings.affirm("job", value, "you", "your job");
        } else {
            findings.open("job", value, Code::JobNotGiven, "");
        }
    } else if expectation.job.is_some() {
        findings.refuse("job", "none", Code::JobOther, "");
    }
    expect_equal(findings, "specification", claims.spec, expectation.spec, Code::SpecOther);
    expect_equal(findings, "payload", claims.payload, expectation.payload, Code::PayloadOther);
}

fn judge_chain(claims: &Claims, expectation: &Expectation, findings: &mut Findings) {
    expect_equal(findings, "previous", claims.previous, expectation.previous, Code::PreviousOther);
    let instance = Some(claims.instance);
    expect_equal(findings, "instance", instance, expectation.instance, Code::InstanceOther);
    let key = Some(claims.receipt_key);
    expect_equal(findings, "receipt-key", key, expectation.receipt_key, Code::InstanceOther);
    let launch = Some(claims.launch.0);
    let expected = expectation.launch.map(|launch| launch.0);
    expect_equal(findings, "same-launch", launch, expected, Code::InstanceOther);
}

/// A value that the verifier knows must be the claimed one; one that he does not know is shown by whoever needs it.
fn expect_equal<T: PartialEq + std::fmt::Display>(
    findings: &mut Findings,
    claim: &str,
    claimed: Option<T>,
    expected: Option<T>,
    code: Code,
) {
    let Some(expected) = expected else { return };
    match claimed {
        Some(claimed) if claimed == expected => {
            findings.affirm(claim, claimed.to_string(), "you", "what you expected");
        }
        Some(claimed) => findings.refuse(claim, claimed.to_string(), code, ""),
        None => findings.refuse(claim, "none", code, ""),
    }
}

fn judge_role(
    parts: &Parts,
    claims: &Claims,
    expectation: &Expectation,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let value = format!("{}, {}", claims.role.as_str(), claims.vm_mode.as_str());
    let Some(launch) = &parts.launch else {
        findings.unjudged("role", Code::NotChecked, "the launch configuration did not parse");
        return;
    };
    let allowed = context.policy.rules.vm_modes.contains(&claims.vm_mode);
    if launch.role != claims.role || launch.vm_mode != claims.vm_mode {
        findings.refuse("role", value, Code::RoleOther, "claims and launch configuration differ");
    } else if claims.role != expectation.role {
        findings.refuse("role", value, Code::RoleOther, expectation.role.as_str());
    } else if !allowed {
        let detail = match claims.vm_mode {
            VmMode::Shared => "other jobs run in this VM",
            VmMode::PerJob => "the policy allows shared VMs only",
        };
        findings.refuse("role", value, Code::VmModeNotAllowed, detail);
    } else {
        findings.affirm("role", value, "launch", "as measured");
    }
}

fn judge_time(claims: &Claims, context: &Context<'_>, findings: &mut Findings) {
    if claims.purpose.follows_job_start() {
        // The owner's nonce is as old as the job; nothing in the evidence dates it from above.
        match context.time {
            JudgeTime::Now(_) => findings.open("time", "unanchored", Code::TimeUnanchored, ""),
            JudgeTime::At(_) => findings.open("time", "on your word", Code::TimeOnYourWord, ""),
        }
    }
    if let Some(time) = &claims.host_time {
        findings.open("host-time", time.clone(), Code::HostTime, "");
    }
}
