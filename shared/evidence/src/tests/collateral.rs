//! Collateral as services answer it, and what is remembered of it, with the simulated platform's and real collateral.

use serde_json::Value;

use super::{hardware, scene};
use crate::{
    Anchors, Collateral, EvidenceBundle, HexBytes, Policy, Tee,
    anchor::{VerifiedQuote, verify_quote},
    claims::Purpose,
    collateral::{
        Answer, Answers, Asking, AtHand, Brought, Code, CollateralFacts, CollateralMemory,
        Documents, Lesson, MakerInquiry, PckCa, QuoteSubject, Services, Update,
        answers::{MAX_BODY, fuzz_answers},
        urls::CrlForm,
    },
    nvidia::{NvidiaCollateral, tests::bundle::Whole},
    policy::GpuRule,
    quote::without_padding,
    verdict::Findings,
};

const UPPER: &str = "0123456789ABCDEF";

/// As services write PEM into a header.
fn percent_encode(text: &str) -> String {
    let digit = |value: u8| UPPER.chars().nth(usize::from(value)).expect("a digit");
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            _ => format!("%{}{}", digit(byte >> 4), digit(byte & 15)),
        })
        .collect()
}

fn answers(collateral: &Collateral) -> Answers {
    let answer = |name: &str, chain: &str, body: Vec<u8>| Answer {
        headers: vec![
            ("Content-Length".into(), body.len().to_string()),
            (name.into(), percent_encode(chain)),
        ],
        body,
    };
    let signed = |name: &str, inner: &str, signature: &HexBytes| {
        format!("{{\"{name}\":{inner},\"signature\":\"{signature:?}\"}}").into_bytes()
    };
    Answers {
        pck_crl: answer(
            "sgx-pck-crl-issuer-chain",
            &collateral.pck_crl_issuer_chain,
            collateral.pck_crl.0.clone(),
        ),
        tcb_info: answer(
            "TCB-Info-Issuer-Chain",
            &collateral.tcb_info_issuer_chain,
            signed("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature),
        ),
        qe_identity: answer(
            "SGX-Enclave-Identity-Issuer-Chain",
            &collateral.qe_identity_issuer_chain,
            signed("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature),
        ),
        root_crl: answer("X-Other", "", collateral.root_ca_crl.0.clone()),
        root_crl_form: CrlForm::Der,
    }
}

fn simulated() -> Collateral {
    let mut collateral = scene::platform(1).collateral(scene::NOW).expect("collateral");
    // Not needed to verify, and the simulated platform has none.
    collateral.pck_certificate_chain = None;
    if collateral.pck_crl_issuer_chain.is_empty() {
        collateral.pck_crl_issuer_chain = collateral.tcb_info_issuer_chain.clone();
    }
    collateral
}

#[test]
fn answers_become_the_collateral_that_was_signed() {
    let collateral = simulated();
    assert_eq!(answers(&collateral).into_collateral(), Ok(collateral.clone()));
    let mut cached = answers(&collateral);
    cached.root_crl_form = CrlForm::Hex;
    cached.root_crl.body = format!("{}\n", hex::encode(&cached.root_crl.body)).into_bytes();
    assert_eq!(cached.into_collateral(), Ok(collateral));
}

#[test]
fn answers_of_another_form_are_refused() {
    type Change = fn(&mut Answers);
    let cases: [Change; 14] = [
        |a| a.pck_crl.headers.clear(),
        |a| a.tcb_info.headers[1].1 = "%".into(),
        |a| a.tcb_info.headers[1].1 = "%zz".into(),
        |a| a.tcb_info.headers[1].1 = "%1B%5B2J".into(),
        |a| a.tcb_info.headers[1].1 = percent_encode("no certificate"),
        |a| a.tcb_info.headers[1].1.push_str(&"%20".repeat(16 * 1024)),
        |a| a.qe_identity.headers = vec![("a".into(), "b".into()); 65],
        |a| a.tcb_info.body.truncate(100),
        |a| a.tcb_info.body.extend(vec![b' '; MAX_BODY]),
        |a| a.qe_identity.body = a.tcb_info.body.clone(),
        |a| {
            let text = String::from_utf8(a.tcb_info.body.clone()).expect("text");
            a.tcb_info.body = text.replace("\"signature\":\"", "\"signature\":\"00").into_bytes();
        },
        |a| a.root_crl.body = b"<html>".to_vec(),
        |a| a.pck_crl.body.clear(),
        |a| a.root_crl_form = CrlForm::Hex,
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let mut changed = answers(&simulated());
        change(&mut changed);
        let error = changed.into_collateral().expect_err(&number.to_string());
        assert_eq!(error.entry(), Code::Answer, "{number}");
    }
    fuzz_answers(b"%2D\n{\"tcbInfo\":{},\"signature\":\"00\"}");
}

fn verified(quote: &[u8], collateral: &Collateral, anchors: &Anchors, now: u64) -> VerifiedQuote {
    verify_quote(quote, collateral, anchors, now).expect("verifies")
}

#[test]
fn facts_come_from_what_verified() {
    let mut scene = scene::Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    let collateral = bundle.collateral.clone().expect("collateral");
    let quote = bundle.quote.0.as_slice();
    let verified = verified(quote, &collateral, &scene.anchors, scene::NOW);
    let facts = CollateralFacts::of(quote, &collateral, &verified).expect("facts");
    assert_eq!(facts.root, scene.platform.root_key_id());
    assert_eq!(facts.subject.fmspc.to_string(), "511d00000000");
    let mut other = collateral.clone();
    other.tcb_info =
        other.tcb_info.replace("\"tcbEvaluationDataNumber\":1", "\"tcbEvaluationDataNumber\":0");
    assert_ne!(other, collateral);
    let error = CollateralFacts::of(quote, &other, &verified).expect_err("not what verified");
    assert_eq!(error.entry(), Code::Facts);
    assert_eq!(QuoteSubject::of(&quote[..1000]).expect_err("cut").entry(), Code::Subject);
    for place in (0..quote.len()).step_by(97) {
        let mut changed = quote.to_vec();
        changed[place] ^= 0x55;
        let _ = QuoteSubject::of(&changed);
        let _ = QuoteSubject::of(&quote[..place]);
    }
}

#[test]
fn a_real_machine_is_named_and_its_numbers_are_remembered() {
    let (Some(report), Some(collateral)) = (
        hardware::vector("tdx/gpu-vm-local-sgx.quote-report.json"),
        hardware::vector("tdx/gpu-vm-local-sgx.collateral.json"),
    ) else {
        return;
    };
    let padded = hardware::quote_of(&report, "quote");
    let quote = without_padding(&padded).expect("zero padding");
    let collateral = Collateral::parse(&collateral).expect("collateral");
    let now = hardware::UP_TO_DATE_AT;
    let verified = verified(quote, &collateral, &Anchors::default(), now);
    let facts = CollateralFacts::of(quote, &collateral, &verified).expect("facts");
    let number = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("JSON");
        value["tcbEvaluationDataNumber"].as_u64().expect("a number")
    };
    assert_eq!(facts.root, crate::anchor::INTEL_ROOT_KEY_ID);
    assert_eq!(facts.subject.fmspc.to_string(), "90c06f000000");
    assert_eq!(facts.subject.ca, PckCa::Platform);
    assert_eq!(u64::from(facts.tcb_evaluation), number(&collateral.tcb_info));
    assert_eq!(u64::from(facts.qe_evaluation), number(&collateral.qe_identity));
    assert!(facts.root_crl > 0 && facts.pck_crl > 0, "{facts:?}");
    let memory = CollateralMemory::default().check_and_update(&facts).expect("first");
    let older = CollateralFacts { pck_crl: facts.pck_crl - 1, ..facts };
    assert_eq!(memory.check_and_update(&older).expect_err("older").entry(), Code::PckCrlFell);
    // The real issuer chains survive the way through a header.
    let mut expected = collateral.clone();
    expected.pck_certificate_chain = None;
    let mut sent = expected.clone();
    if sent.pck_crl_issuer_chain.is_empty() {
        sent.pck_crl_issuer_chain.clone_from(&sent.tcb_info_issuer_chain);
        expected.pck_crl_issuer_chain.clone_from(&sent.pck_crl_issuer_chain);
    }
    assert_eq!(answers(&sent).into_collateral(), Ok(expected));
}

fn asked(bundle: &EvidenceBundle, own: AtHand<'_>, gpu: GpuRule) -> Vec<&'static str> {
    let (services, anchors) = (Services::default(), Anchors::default());
    let asking = Asking { services: &services, update: Update::Early, gpu, anchors: &anchors };
    let inquiries = asking.about(&[bundle], own);
    let name = |inquiry: &Result<MakerInquiry<'_>, _>| match inquiry {
        Ok(MakerInquiry::Intel(_)) => "intel",
        Ok(MakerInquiry::Amd(_)) => "amd",
        Ok(MakerInquiry::Gpu(_)) => "gpu",
        Err(_) => "nobody knows what",
    };
    inquiries.iter().map(name).collect()
}

#[test]
fn each_maker_is_asked_for_what_is_not_at_hand() {
    use GpuRule::{Unverified, Verified};
    let with_gpu = Whole::new(1).bundle;
    let intel = with_gpu.collateral.clone().expect("sent");
    let gpu = NvidiaCollateral::default();
    let none = AtHand::default();
    let own = Documents { intel: Some(intel), ..Documents::default() };
    let more = Documents { gpu: Some(gpu), ..Documents::default() };
    let dstack = EvidenceBundle { tee: Tee::Dstack, ..with_gpu.clone() };
    let bare = EvidenceBundle { gpu: vec![], ..with_gpu.clone() };
    let snp = EvidenceBundle { tee: Tee::Snp, ..with_gpu.clone() };
    for (bundle, own, rule, expected) in [
        (&with_gpu, none, Verified, &["intel", "gpu"][..]),
        (&with_gpu, none, Unverified, &["intel"]),
        (&with_gpu, own.at_hand(), Verified, &["gpu"]),
        (&with_gpu, own.at_hand().or(more.at_hand()), Verified, &[]),
        (&dstack, none, Verified, &["intel", "gpu"]),
        (&bare, none, Verified, &["intel"]),
        (&bare, own.at_hand(), Verified, &[]),
        // Intel's collateral helps no report of AMD's; this one does not parse.
        (&snp, own.at_hand(), Unverified, &["nobody knows what"]),
    ] {
        assert_eq!(asked(bundle, own, rule), expected, "{:?} {rule:?}", bundle.tee);
    }
}

#[test]
fn no_maker_hears_of_a_simulated_machine_and_nothing_is_learnt_of_it() {
    let mut scene = scene::Scene::new();
    let sent = scene.evidence(Purpose::Offer);
    let bare = EvidenceBundle { collateral: None, ..sent.clone() };
    let (services, gpu) = (Services::default(), GpuRule::Verified);
    let asking =
        Asking { services: &services, update: Update::Early, gpu, anchors: &scene.anchors };
    let real = |bundle| asking.about_real(&[bundle], AtHand::default(), scene::NOW).len();
    assert_eq!((real(&sent), real(&bare)), (0, 1), "nobody knows what it is without collateral");
    let own = Documents { intel: sent.collateral.clone(), ..Documents::default() };
    assert!(asking.about_real(&[&bare], own.at_hand(), scene::NOW).is_empty());
    assert!(asking.about_real(&[], AtHand::default(), scene::NOW).is_empty());

    let verdict = |simulated| {
        let mut findings = Findings::default();
        findings.affirm("quote", "", "test", "");
        findings.into_verdict("test", simulated, Policy::strict().identity(), scene::NOW)
    };
    for (simulated, accepted) in [(true, true), (false, false)] {
        let mut verdict = verdict(simulated);
        let brought = Brought::default();
        let parts = [("", &sent)];
        let lesson = Lesson::of(parts, brought, &scene.anchors, scene::NOW, &verdict);
        let Lesson::Nothing(findings) = lesson else { panic!("it has a lesson") };
        verdict.add(findings);
        assert_eq!(verdict.is_accepted(), accepted, "a yes about a real machine needs numbers");
    }
}
