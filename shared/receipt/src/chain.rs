//! Checking a receipt: offer, start and end are one VM and one job, and its key signed this statement.
//!
//! ```text
//! offer  <- previous - start  <- previous - receipt - payload -> statement
//!   same instance, same receipt key, same launch configuration, same specification
//! ```

use sealtune_evidence::{
    Appraisal, Claims, Context, EvidenceBundle, Expectation, Hex16, Hex32, Purpose, Verdict,
    appraise, verdict::Findings,
};
use sealtune_seal::commitment::Opening;

use crate::{
    codes::Code,
    package::ReceiptPackage,
    statement::{ReceiptOutcome, Statement},
};

/// What the verifier knows and asks, from his own command line.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The owner's nonce from the job specification.
    pub nonce: Option<Hex32>,
    pub job: Option<Hex16>,
    /// Digest of the job specification.
    pub spec: Option<Hex32>,
    /// Verity roots that are trusted besides those of the release.
    pub layer_roots: Vec<Hex32>,
    pub openings: Vec<Opening>,
    /// SHA-256 of the result file at hand.
    pub result_sha256: Option<Hex32>,
}

/// The verdict and, if its signature held, the statement.
#[derive(Debug, Clone)]
pub struct ReceiptVerdict {
    pub verdict: Verdict,
    pub statement: Option<Statement>,
}

pub fn verify_package(
    package: &ReceiptPackage,
    request: &Request,
    context: &Context<'_>,
) -> ReceiptVerdict {
    let mut findings = Findings::default();
    let evidence = &package.evidence;
    let claims = Claims::parse(&evidence.receipt.claims.0).ok();
    let statement = read_statement(package, claims.as_ref(), &mut findings);
    let end = appraise_end(package, request, statement.as_ref(), context);
    findings.include("receipt", &end.verdict);
    let start = appraise_start(package, request, claims.as_ref(), context);
    findings.include("start", &start.verdict);
    let mut simulated = end.verdict.simulated || start.verdict.simulated;
    if let Some(offer) = &evidence.offer {
        let offer = appraise_offer(offer, request, claims.as_ref(), context);
        findings.include("offer", &offer.verdict);
        simulated |= offer.verdict.simulated;
    } else {
        let previous = start.claims.as_ref().and_then(|claims| claims.previous);
        let value = previous.map(|digest| digest.to_string()).unwrap_or_default();
        findings.open("offer", value, Code::OfferAbsent, "");
    }
    if let (Some(statement), Some(claims)) = (&statement, &claims) {
        judge_statement(statement, claims, package, &end, &mut findings);
        judge_openings(statement, request, &mut findings);
    }
    let subject = match statement.as_ref().map(|statement| &statement.predicate.outcome) {
        Some(ReceiptOutcome::Failed { .. }) => "failure record",
        _ => "receipt",
    };
    let verdict = findings.into_verdict(
        subject,
        simulated,
        context.policy.identity(),
        context.time.seconds(),
    );
    ReceiptVerdict { verdict, statement }
}

fn read_statement(
    package: &ReceiptPackage,
    claims: Option<&Claims>,
    findings: &mut Findings,
) -> Option<Statement> {
    let Some(claims) = claims else {
        findings.unjudged("signature", Code::NoClaims, "");
        return None;
    };
    match package.statement.verify(&claims.receipt_key) {
        Ok(statement) => {
            findings.affirm(
                "signature",
                claims.receipt_key.to_string(),
                "receipt evidence",
                "signed by the receipt key that the evidence names",
            );
            Some(statement)
        }
        Err(error) => {
            findings.refuse("signature", "", error.entry(), error.to_string());
            None
        }
    }
}

fn appraise_end(
    package: &ReceiptPackage,
    request: &Request,
    statement: Option<&Statement>,
    context: &Context<'_>,
) -> Appraisal {
    let mut expectation = kept(Purpose::Receipt, request);
    expectation.nonce = request.nonce;
    expectation.job = request.job;
    expectation.attempt = statement.map(|statement| statement.predicate.attempt);
    expectation.spec = request.spec.or(statement.map(|statement| statement.predicate.spec));
    expectation.previous = Some(package.evidence.start.digest());
    expectation.payload = Some(package.statement.payload_digest());
    appraise(&package.evidence.receipt, &expectation, context)
}

fn appraise_start(
    package: &ReceiptPackage,
    request: &Request,
    claims: Option<&Claims>,
    context: &Context<'_>,
) -> Appraisal {
    let mut expectation = kept(Purpose::Start, request);
    // What the end says binds the start too, whether or not the verifier brought it.
    expectation.nonce = request.nonce.or(claims.map(|claims| claims.nonce));
    expectation.job = request.job.or(claims.and_then(|claims| claims.job));
    expectation.spec = request.spec.or(claims.and_then(|claims| claims.spec));
    expectation.attempt = claims.and_then(Claims::attempt_number);
    expectation.previous = package.evidence.offer.as_ref().map(EvidenceBundle::digest);
    same_vm(&mut expectation, claims);
    appraise(&package.evidence.start, &expectation, context)
}

fn appraise_offer(
    offer: &EvidenceBundle,
    request: &Request,
    claims: Option<&Claims>,
    context: &Context<'_>,
) -> Appraisal {
    let mut expectation = kept(Purpose::Offer, request);
    // An offer may be made before a job heads the queue; one that names a job must name this one.
    if Claims::parse(&offer.claims.0).is_ok_and(|claims| claims.job.is_some()) {
        expectation.job = request.job.or(claims.and_then(|claims| claims.job));
        expectation.attempt = claims.and_then(Claims::attempt_number);
    }
    same_vm(&mut expectation, claims);
    appraise(offer, &expectation, context)
}

fn kept(purpose: Purpose, request: &Request) -> Expectation {
    let mut expectation = Expectation::new(purpose, None);
    expectation.archived = true;
    expectation.layer_roots = request.layer_roots.clone();
    expectation
}

fn same_vm(expectation: &mut Expectation, claims: Option<&Claims>) {
    expectation.instance = claims.map(|claims| claims.instance);
    expectation.receipt_key = claims.map(|claims| claims.receipt_key);
    expectation.launch = claims.map(|claims| claims.launch);
}

fn judge_statement(
    statement: &Statement,
    claims: &Claims,
    package: &ReceiptPackage,
    end: &Appraisal,
    findings: &mut Findings,
) {
    let predicate = &statement.predicate;
    let job = format!("{} attempt {}", predicate.job, predicate.attempt);
    if claims.job != Some(predicate.job)
        || claims.attempt_number() != Some(predicate.attempt)
        || claims.spec != Some(predicate.spec)
    {
        findings.refuse("statement.job", job, Code::StatementJob, "");
    } else {
        findings.affirm("statement.job", job, "receipt evidence", "the job of the evidence");
    }
    let launch = end.launch.as_ref();
    let other_release = launch.is_some_and(|launch| launch.release != predicate.agent.release);
    if predicate.launch != claims.launch.0 || other_release {
        findings.refuse("statement.launch", "", Code::StatementLaunch, "");
    } else {
        findings.affirm(
            "statement.launch",
            predicate.launch.to_string(),
            "receipt evidence",
            "the launch configuration of the evidence",
        );
    }
    if predicate.previous == package.evidence.start.digest() {
        findings.affirm(
            "statement.previous",
            predicate.previous.to_string(),
            "start evidence",
            "follows the start in this package",
        );
    } else {
        findings.refuse("statement.previous", "", Code::StatementPrevious, "");
    }
    if predicate.gpu != claims.gpu {
        findings.refuse("statement.gpu", "", Code::StatementGpu, "");
    }
    match &predicate.outcome {
        ReceiptOutcome::Completed { result } => findings.affirm(
            "outcome",
            result.to_string(),
            "statement",
            "the job completed with this result (ciphertext)",
        ),
        ReceiptOutcome::Failed { reason } => {
            findings.warn("outcome", reason.code().to_owned(), Code::JobFailed, reason.sentence());
        }
    }
}

fn judge_openings(statement: &Statement, request: &Request, findings: &mut Findings) {
    for opening in &request.openings {
        let claim = format!("opening.{}", opening.name);
        let Some(commitment) = statement.predicate.commitments.get(&opening.name) else {
            findings.refuse(&claim, "", Code::OpeningUnknown, "");
            continue;
        };
        if opening.verify(commitment.as_bytes()).is_ok() {
            findings.affirm(
                &claim,
                format!("{} bytes", opening.value.len()),
                "statement",
                "the receipt commits to exactly this value",
            );
        } else {
            findings.refuse(&claim, "", Code::OpeningMismatch, "");
        }
    }
    if let Some(sha256) = request.result_sha256 {
        if statement.result_sha256() == Some(sha256) {
            findings.affirm("result-file", sha256.to_string(), "statement", "the receipt's result");
        } else {
            findings.refuse("result-file", sha256.to_string(), Code::ResultOther, "");
        }
    }
}
