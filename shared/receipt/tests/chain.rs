//! Whole receipts in the simulated TEE: accepted as made, refused with one thing changed.

mod scene;

use scene::{Boot, DATASET, JOB, NOW, OWNER_NONCE, RESULT, SPEC, commitment_key, completed, job};
use sealtune_evidence::{Anchors, Context, FixedHex, JudgeTime, Policy, codes as evidence};
use sealtune_job::TrainingExit;
use sealtune_receipt::{
    Code, Envelope, PackageError, Predicate, ReceiptPackage, ReceiptVerdict, Request, Statement,
    StatementError, verify_package,
};
use sealtune_seal::commitment::Opening;

fn request() -> Request {
    Request { nonce: Some(OWNER_NONCE), job: Some(JOB), spec: Some(SPEC), ..Request::default() }
}

fn verify(package: &ReceiptPackage, request: &Request) -> ReceiptVerdict {
    let root = Boot::new(1).platform.root_der();
    let anchors = Anchors { simulated_root: Some(root), ..Anchors::default() };
    let references = [scene::references()];
    let context = Context {
        policy: &Policy::strict(),
        references: &references,
        anchors: &anchors,
        collateral: None,
        snp_collateral: None,
        gpu_collateral: None,
        time: JudgeTime::Now(NOW),
    };
    verify_package(package, request, &context)
}

fn refused(package: &ReceiptPackage, code: &str) {
    let verdict = verify(package, &request()).verdict;
    assert!(!verdict.is_accepted(), "accepted; expected {code}");
    assert!(verdict.codes().any(|found| found == code), "expected {code}\n{}", verdict.render());
}

#[test]
fn a_job_from_offer_to_receipt_is_accepted() {
    let (_, package) = job();
    let bytes = package.to_bytes().expect("writes");
    let package = ReceiptPackage::parse(&bytes).expect("reads");
    let result = verify(&package, &request());
    assert!(result.verdict.is_accepted(), "{}", result.verdict.render());
    assert!(result.verdict.simulated);
    assert_eq!(result.statement.expect("signed").predicate.job, JOB);
}

#[test]
fn anybody_can_check_a_receipt_without_knowing_the_job() {
    let (_, package) = job();
    let verdict = verify(&package, &Request::default()).verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.has(evidence::Code::NonceNotGiven) && verdict.has(evidence::Code::JobNotGiven));
    assert!(verdict.has(evidence::Code::TimeUnanchored));
}

#[test]
fn a_failure_record_is_signed_and_says_so() {
    let result = verify(&scene::failed_job(), &request());
    assert!(result.verdict.is_accepted() && result.verdict.has(Code::JobFailed));
    assert_eq!(result.verdict.subject, "failure record");
    assert_eq!(result.statement.expect("signed").result_sha256(), None);
}

#[test]
fn a_package_without_its_offer_says_what_is_missing() {
    let (_, mut package) = job();
    package.evidence.offer = None;
    let verdict = verify(&package, &request()).verdict;
    assert!(verdict.is_accepted() && verdict.has(Code::OfferAbsent));
}

#[test]
fn each_part_of_the_package_counts() {
    type Case = (&'static str, fn(&mut ReceiptPackage));
    let cases: [Case; 7] = [
        (Code::SignatureInvalid.as_str(), |p| p.statement.0.signatures[0].sig.0[9] ^= 1),
        (Code::SignatureInvalid.as_str(), |p| p.statement.0.payload.0[9] ^= 1),
        (evidence::Code::PayloadOther.as_str(), |p| p.statement.0.payload.0[9] ^= 1),
        (Code::KeyOther.as_str(), |p| p.statement.0.signatures[0].keyid = "00".repeat(32)),
        (Code::NoClaims.as_str(), |p| p.evidence.receipt.claims.0.clear()),
        (evidence::Code::PreviousOther.as_str(), |p| {
            p.evidence.start.quote.0[600] ^= 1;
        }),
        (evidence::Code::PreviousOther.as_str(), |p| {
            if let Some(offer) = &mut p.evidence.offer {
                offer.quote.0[600] ^= 1;
            }
        }),
    ];
    for (code, change) in cases {
        let (_, mut package) = job();
        change(&mut package);
        refused(&package, code);
    }
}

/// An agent that signs a wrong statement with the right key.
#[test]
fn a_statement_about_something_else_is_refused() {
    type Change = fn(&mut Predicate);
    let cases: [(Code, Change); 5] = [
        (Code::StatementJob, |p| p.job = FixedHex([9; 16])),
        (Code::StatementJob, |p| p.attempt = 2),
        (Code::StatementLaunch, |p| p.launch = FixedHex([9; 32])),
        (Code::StatementLaunch, |p| p.agent.release = "9.9.9".into()),
        (Code::StatementPrevious, |p| p.previous = FixedHex([9; 32])),
    ];
    for (code, change) in cases {
        let mut boot = Boot::new(1);
        let offer = boot.offer();
        let start = boot.start(&offer);
        let mut statement = completed(&boot, &start);
        change(&mut statement.predicate);
        refused(&boot.package(Some(offer), start, &statement), code.as_str());
    }
}

#[test]
fn evidence_of_another_boot_cannot_stand_in() {
    let (_, package) = job();
    let mut other = Boot::new(2);
    let other_offer = other.offer();
    let other_start = other.start(&other_offer);
    let statement = completed(&other, &other_start);
    let foreign = other.package(Some(other_offer.clone()), other_start.clone(), &statement);

    let mut mixed = package.clone();
    mixed.evidence.offer = Some(other_offer);
    refused(&mixed, evidence::Code::InstanceOther.as_str());
    refused(&mixed, evidence::Code::PreviousOther.as_str());

    let mut mixed = package.clone();
    mixed.evidence.start = other_start;
    refused(&mixed, evidence::Code::InstanceOther.as_str());

    let mut mixed = package;
    mixed.evidence.receipt = foreign.evidence.receipt;
    refused(&mixed, Code::KeyOther.as_str());
}

#[test]
fn evidence_cannot_stand_in_for_another_purpose() {
    let (_, package) = job();
    let mut swapped = package.clone();
    swapped.evidence.receipt = package.evidence.start.clone();
    refused(&swapped, evidence::Code::PurposeOther.as_str());
    let mut swapped = package.clone();
    swapped.evidence.start = package.evidence.receipt.clone();
    refused(&swapped, evidence::Code::PurposeOther.as_str());
    let mut swapped = package.clone();
    swapped.evidence.offer = Some(package.evidence.start);
    refused(&swapped, evidence::Code::LogJobStartEarly.as_str());
}

#[test]
fn the_verifiers_own_knowledge_decides() {
    let (_, package) = job();
    type Change = fn(&mut Request);
    let cases: [(evidence::Code, Change); 3] = [
        (evidence::Code::NonceOther, |r| r.nonce = Some(FixedHex([9; 32]))),
        (evidence::Code::JobOther, |r| r.job = Some(FixedHex([9; 16]))),
        (evidence::Code::SpecOther, |r| r.spec = Some(FixedHex([9; 32]))),
    ];
    for (code, change) in cases {
        let mut request = request();
        change(&mut request);
        let verdict = verify(&package, &request).verdict;
        assert!(!verdict.is_accepted() && verdict.has(code), "{}", code.as_str());
    }
}

#[test]
fn openings_and_the_result_are_held_against_the_statement() {
    let (_, package) = job();
    let mut request = request();
    request.openings = vec![Opening::new(&commitment_key(), "dataset", DATASET)];
    request.result_sha256 = Some(scene::sha256(RESULT));
    let verdict = verify(&package, &request).verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(
        verdict.finding("opening.dataset").is_some() && verdict.finding("result-file").is_some()
    );

    request.result_sha256 = Some(scene::sha256(b"another"));
    assert!(verify(&package, &request).verdict.has(Code::ResultOther));
    request.result_sha256 = None;
    request.openings = vec![Opening::new(&commitment_key(), "dataset", b"another")];
    assert!(verify(&package, &request).verdict.has(Code::OpeningMismatch));
    request.openings = vec![Opening::new(&commitment_key(), "other", DATASET)];
    assert!(verify(&package, &request).verdict.has(Code::OpeningUnknown));
}

#[test]
fn only_exit_code_zero_leads_to_a_result() {
    let mut boot = Boot::new(1);
    let offer = boot.offer();
    let start = boot.start(&offer);
    for exit in [None, Some(TrainingExit::Code(1)), Some(TrainingExit::Timeout)] {
        let mut predicate = boot.predicate(&start);
        predicate.exit = exit;
        let error = Statement::completed(scene::sha256(RESULT), None, predicate);
        assert!(matches!(error, Err(StatementError::Field { field: "exit", .. })));
    }
    let other = Statement::completed(scene::sha256(b"x"), None, boot.predicate(&start));
    assert!(matches!(other, Err(StatementError::Field { field: "subject", .. })));
}

#[test]
fn documents_with_repeated_or_unknown_fields_are_not_read() {
    let (boot, package) = job();
    let text = String::from_utf8(package.to_bytes().expect("writes")).expect("text");
    for extra in ["\"note\":\"\",", "\"version\":1,"] {
        let changed = text.replacen('{', &format!("{{{extra}"), 1);
        assert!(matches!(ReceiptPackage::parse(changed.as_bytes()), Err(PackageError::Parse(_))));
    }
    // A signed statement with an unknown field is not a statement.
    let payload = String::from_utf8(package.statement.0.payload.0.clone()).expect("text");
    let padded = payload.replacen('{', "{\"$extra\":1,", 1).into_bytes();
    let mut changed = package;
    changed.statement = Envelope::sign(padded, &boot.key);
    refused(&changed, Code::StatementUnreadable.as_str());
}

#[test]
fn decoders_survive_their_own_output_and_noise() {
    let (_, package) = job();
    let bytes = package.to_bytes().expect("writes");
    sealtune_receipt::package::fuzz_package(&bytes);
    sealtune_receipt::statement::fuzz_statement(&package.statement.0.payload.0);
    for end in (0..bytes.len()).step_by(997) {
        sealtune_receipt::package::fuzz_package(&bytes[..end]);
        sealtune_receipt::envelope::fuzz_envelope(&bytes[..end]);
        sealtune_receipt::statement::fuzz_statement(&bytes[..end]);
    }
}
