//! Judging an evidence bundle.
//!
//! Everything that a bundle says is held against something that the verifier brought: his roots, his reference values, his
//! policy, and from his own command line the nonce, the purpose and the job. Every check leaves a finding; what could not
//! be checked says so and counts as no.

mod binding;
mod boot;
mod dstack;
mod dstack_bundle;
mod gpu;
mod log;
mod platform;
mod snp;

pub use dstack::{
    DstackReport, DstackReportError, MAX_DSTACK_REPORT_BYTES, appraise_dstack, fuzz_dstack_report,
};

use crate::{
    anchor::{Anchor, Anchors},
    bundle::{EvidenceBundle, Tee},
    claims::{Claims, Purpose},
    codes::Code,
    collateral::Collateral,
    fixed_hex::{Hex16, Hex32},
    launch::{LaunchConfiguration, LaunchDigest, Role},
    nvidia::NvidiaCollateral,
    policy::Policy,
    quote::TdxQuote,
    reference::ReferenceValues,
    snp::SnpCollateral,
    verdict::{Findings, Verdict},
};

/// 2026-11-01. A clock that shows less is wrong, and a wrong clock makes old keys good again.
pub const EARLIEST_CLOCK: u64 = 1_793_491_200;
/// How long an offer may be used after its nonce was made.
pub const OFFER_SECONDS: u64 = 600;
/// How far a verifier's own clocks may differ.
pub const CLOCK_SKEW_SECONDS: u64 = 60;
/// How old collateral may be that the sender of an offer brought.
pub const OFFER_COLLATERAL_SECONDS: u64 = 24 * 3600;

/// When to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeTime {
    /// The verifier's clock.
    Now(u64),
    /// A time from the command line, for evidence of which something outside proves the age.
    At(u64),
}

impl JudgeTime {
    pub fn seconds(self) -> u64 {
        match self {
            Self::Now(seconds) | Self::At(seconds) => seconds,
        }
    }
}

/// What the verifier knows and asks, from his own command line and never from the bundle.
#[derive(Debug, Clone)]
pub struct Expectation {
    pub purpose: Purpose,
    /// His nonce; for `start` and `receipt` the owner's. Required for `identity` and `offer`.
    pub nonce: Option<Hex32>,
    pub job: Option<Hex16>,
    pub attempt: Option<u32>,
    pub spec: Option<Hex32>,
    /// Digest of the evidence that this one must follow.
    pub previous: Option<Hex32>,
    /// SHA-256 of the receipt's DSSE payload.
    pub payload: Option<Hex32>,
    /// Instance and receipt key of earlier evidence of the same boot.
    pub instance: Option<Hex32>,
    pub receipt_key: Option<Hex32>,
    pub launch: Option<LaunchDigest>,
    pub role: Role,
    /// Evidence that was kept with a receipt, not an answer to a question asked now: its nonce may be unknown, its age is
    /// judged by what follows it.
    pub archived: bool,
    /// When the nonce was made; offers expire by it.
    pub asked_at: Option<u64>,
    /// Verity roots of layers that are trusted besides those of the release: the owner's training image.
    pub layer_roots: Vec<Hex32>,
}

impl Expectation {
    pub fn new(purpose: Purpose, nonce: Option<Hex32>) -> Self {
        Self {
            purpose,
            nonce,
            job: None,
            attempt: None,
            spec: None,
            previous: None,
            payload: None,
            instance: None,
            receipt_key: None,
            launch: None,
            role: Role::Worker,
            archived: false,
            asked_at: None,
            layer_roots: vec![],
        }
    }
}

/// Everything that an appraisal depends on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub policy: &'a Policy,
    /// Reference values of the releases that the verifier trusts.
    pub references: &'a [ReferenceValues],
    pub anchors: &'a Anchors,
    /// Collateral that the verifier fetched himself; without it, that of the bundle.
    pub collateral: Option<&'a Collateral>,
    /// The same for an SNP report.
    pub snp_collateral: Option<&'a SnpCollateral>,
    /// The same for the GPUs' evidence.
    pub gpu_collateral: Option<&'a NvidiaCollateral>,
    pub time: JudgeTime,
}

/// A verdict, and what was read on the way to it. The parts are to be believed only if the verdict is `Accepted`.
#[derive(Debug, Clone)]
pub struct Appraisal {
    pub verdict: Verdict,
    pub claims: Option<Claims>,
    pub launch: Option<LaunchConfiguration>,
    pub evidence_digest: Hex32,
}

/// The parts of a bundle after parsing; each is absent if it did not parse.
struct Parts {
    /// Of a TDX VM; an SNP report is judged as a whole.
    quote: Option<TdxQuote>,
    /// What quote or report was made over, whether or not it verifies.
    report_data: Option<[u8; 64]>,
    claims: Option<Claims>,
    launch: Option<LaunchConfiguration>,
    launch_digest: LaunchDigest,
}

pub fn appraise(
    bundle: &EvidenceBundle,
    expectation: &Expectation,
    context: &Context<'_>,
) -> Appraisal {
    let mut findings = Findings::default();
    let digest = bundle.digest();
    let parts = read_parts(bundle, &mut findings);
    check_clock(context, &mut findings);
    let anchor = match bundle.tee {
        Tee::Tdx | Tee::Dstack => {
            platform::judge(bundle, &parts, context, expectation, &mut findings)
        }
        Tee::Snp => snp::judge(bundle, &parts, context, expectation, &mut findings),
    };
    binding::judge(bundle, &parts, expectation, context, &mut findings);
    match bundle.tee {
        Tee::Tdx => boot::judge(bundle, &parts, expectation, context, anchor, &mut findings),
        Tee::Snp => boot::judge_snp(bundle, &parts, expectation, context, anchor, &mut findings),
        Tee::Dstack => {
            dstack_bundle::judge(bundle, &parts, expectation, context, anchor, &mut findings);
        }
    }
    let simulated_gpu = gpu::judge(bundle, &parts, expectation, context, anchor, &mut findings);
    if anchor.is_none() {
        findings.withdraw(Code::NotChecked, "the quote did not verify");
    }
    // Until a chain has verified nothing is known about the anchor: then the user's own option decides.
    let simulated = simulated_gpu
        || anchor.map_or(context.anchors.simulated_root.is_some(), Anchor::is_simulated);
    let subject = format!("evidence for {}", expectation.purpose);
    let verdict = findings.into_verdict(
        &subject,
        simulated,
        context.policy.identity(),
        context.time.seconds(),
    );
    Appraisal { verdict, claims: parts.claims, launch: parts.launch, evidence_digest: digest }
}

fn read_parts(bundle: &EvidenceBundle, findings: &mut Findings) -> Parts {
    match bundle.validate() {
        Ok(()) => {
            let digest = bundle.digest().to_string();
            findings.affirm("bundle", digest, "form", "complete and within its limits");
        }
        Err(error) => findings.refuse("bundle", "", error.entry(), error.to_string()),
    }
    let (quote, report_data) = match bundle.tee {
        Tee::Tdx | Tee::Dstack => match TdxQuote::parse(&bundle.quote.0) {
            Ok(quote) => {
                let report_data = quote.report_data;
                (Some(quote), Some(report_data))
            }
            Err(error) => {
                findings.refuse("quote", "", error.entry(), error.to_string());
                (None, None)
            }
        },
        Tee::Snp => (None, snp::report_data(&bundle.quote.0)),
    };
    let foreign = match bundle.tee {
        Tee::Tdx | Tee::Dstack => bundle.snp_collateral.is_some(),
        Tee::Snp => bundle.collateral.is_some(),
    };
    if foreign {
        findings.refuse("collateral-kind", "", Code::TeeOther, "");
    }
    let claims = match Claims::parse(&bundle.claims.0) {
        Ok(claims) => Some(claims),
        Err(error) => {
            findings.refuse("claims", "", error.entry(), error.to_string());
            None
        }
    };
    let launch = match LaunchConfiguration::parse(&bundle.launch.0) {
        Ok(launch) => Some(launch),
        Err(error) => {
            findings.refuse("launch", "", error.entry(), error.to_string());
            None
        }
    };
    let launch_digest = LaunchDigest::of(&bundle.launch.0);
    Parts { quote, report_data, claims, launch, launch_digest }
}

fn check_clock(context: &Context<'_>, findings: &mut Findings) {
    match context.time {
        JudgeTime::Now(now) if now < EARLIEST_CLOCK => {
            findings.refuse("clock", now.to_string(), Code::ClockEarly, "");
        }
        JudgeTime::Now(_) => {}
        JudgeTime::At(_) => findings.warn("clock", "--at", Code::TimeOnYourWord, ""),
    }
}
