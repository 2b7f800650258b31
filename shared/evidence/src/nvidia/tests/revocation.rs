//! OCSP: rows 62 and 65.

use super::scene::{NONCE, NOW, Scene};
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        codes::Code,
        collateral::OcspAnswer,
        nonce::ocsp_nonce,
        rules::{HoldRule, OcspNonceRule, Presence},
        simulated::{OcspDraft, SaidStatus, Signer, certificate_digest},
        wanted,
    },
    verdict::Verdict,
};

/// Judges with another response about the GPU's identity.
fn judged(scene: &mut Scene, draft: &OcspDraft) -> Verdict {
    let subject = &scene.gpus[0].identity;
    let response = scene.maker.ocsp(subject, &scene.maker.provisioner, draft).expect("signs");
    let der = subject.der.clone();
    scene.say(&der, response);
    scene.judge(&[scene.evidence(0)]).verdict
}

#[test]
fn every_response_but_a_good_one_is_refused() {
    let mut scene = Scene::new(1);
    let good = scene.good();
    for (code, draft) in [
        (None, good.clone()),
        (None, OcspDraft { signer: Signer::Issuer, ..good.clone() }),
        (None, OcspDraft { nonce: Some(vec![1; 16]), ..good.clone() }),
        (
            Some(Code::OcspRevoked),
            OcspDraft { status: SaidStatus::Revoked(Some(1)), ..good.clone() },
        ),
        (Some(Code::OcspRevoked), OcspDraft { status: SaidStatus::Revoked(None), ..good.clone() }),
        (Some(Code::OcspHold), OcspDraft { status: SaidStatus::Revoked(Some(6)), ..good.clone() }),
        (Some(Code::OcspUnknown), OcspDraft { status: SaidStatus::Unknown, ..good.clone() }),
        (Some(Code::OcspSigner), OcspDraft { signer: Signer::Undelegated, ..good.clone() }),
        (Some(Code::OcspSigner), OcspDraft { signer: Signer::Stranger, ..good.clone() }),
        (Some(Code::OcspSigner), OcspDraft { signer: Signer::Ended, ..good.clone() }),
        (Some(Code::OcspTime), OcspDraft { next_update: Some(NOW - 1), ..good.clone() }),
        (Some(Code::OcspTime), OcspDraft { next_update: None, ..good.clone() }),
        (Some(Code::OcspTime), OcspDraft { this_update: NOW + 301, ..good.clone() }),
        (None, OcspDraft { this_update: NOW + 300, ..good.clone() }),
    ] {
        let verdict = judged(&mut scene, &draft);
        let finding = verdict.finding("gpu.0.revocation").expect("judged");
        assert_eq!(finding.code, code.map(Code::as_str), "{draft:?}\n{}", verdict.render());
        assert_eq!(verdict.is_accepted(), code.is_none());
    }
}

/// Row 65: hold.
#[test]
fn hold_is_a_warning_only_where_the_rules_say_so() {
    let mut scene = Scene::new(1);
    let hold = OcspDraft { status: SaidStatus::Revoked(Some(6)), ..scene.good() };
    assert!(!judged(&mut scene, &hold).is_accepted());
    scene.rules.hold = HoldRule::Warn;
    let verdict = judged(&mut scene, &hold);
    assert!(verdict.is_accepted() && verdict.has(Code::OcspHold));
    let revoked = OcspDraft { status: SaidStatus::Revoked(Some(1)), ..scene.good() };
    assert!(!judged(&mut scene, &revoked).is_accepted(), "revoked is revoked");
}

/// Row 62: no response is no answer.
#[test]
fn every_certificate_but_leaf_and_roots_needs_a_response() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.collateral.ocsp.len(), 5);
    for at in 0..5 {
        let taken = scene.collateral.ocsp.remove(at);
        let verdict = scene.judge(&[scene.evidence(0)]).verdict;
        assert!(verdict.has(Code::OcspMissing) && !verdict.is_accepted(), "{at}");
        scene.rules.ocsp = Presence::Optional;
        let verdict = scene.judge(&[scene.evidence(0)]).verdict;
        assert!(verdict.has(Code::OcspMissing) && verdict.is_accepted(), "{at}");
        scene.rules.ocsp = Presence::Required;
        scene.collateral.ocsp.insert(at, taken);
    }
    // What is there must hold even where it need not be there.
    scene.rules.ocsp = Presence::Optional;
    let revoked = OcspDraft { status: SaidStatus::Revoked(Some(1)), ..scene.good() };
    assert!(!judged(&mut scene, &revoked).is_accepted());
}

#[test]
fn a_revoked_rim_signer_is_refused() {
    let mut scene = Scene::new(1);
    let revoked = OcspDraft { status: SaidStatus::Revoked(Some(1)), ..scene.good() };
    let (subject, issuer) = (&scene.maker.rim_signer, &scene.maker.rim_ca);
    let response = scene.maker.ocsp(subject, issuer, &revoked).expect("signs");
    let der = subject.der.clone();
    scene.say(&der, response);
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    assert!(verdict.has(Code::OcspRevoked) && !verdict.is_accepted());
}

#[test]
fn a_response_about_another_certificate_is_refused() {
    let mut scene = Scene::new(2);
    let other = scene.maker.ocsp(&scene.gpus[1].identity, &scene.maker.provisioner, &scene.good());
    let der = scene.gpus[0].identity.der.clone();
    scene.say(&der, other.expect("signs"));
    let verdict = scene.judge(&[scene.evidence(0), scene.evidence(1)]).verdict;
    let finding = verdict.finding("gpu.0.revocation").expect("judged");
    assert_eq!(finding.code, Some(Code::OcspOther.as_str()));
    assert!(!verdict.is_accepted());
}

#[test]
fn no_flip_or_cut_of_a_response_is_accepted() {
    let mut scene = Scene::new(1);
    let draft = OcspDraft { signer: Signer::Issuer, ..scene.good() };
    let subject = &scene.gpus[0].identity;
    let response = scene.maker.ocsp(subject, &scene.maker.provisioner, &draft).expect("signs");
    let der = subject.der.clone();
    let chain: Vec<Vec<u8>> = scene.gpus[0].chain.clone();
    let certificates = crate::nvidia::chain::parse_all(&chain).expect("parses");
    let about = crate::nvidia::ocsp::IssuerOf {
        subject: &certificates[1],
        issuer_key: &certificates[2].point,
    };
    let verify = |bytes: &[u8]| crate::nvidia::ocsp::verify(bytes, about, NOW, None);
    assert!(verify(&response).is_ok());
    for at in 0..response.len() {
        for bit in [0, 5, 7] {
            let mut flipped = response.clone();
            flipped[at] ^= 1 << bit;
            assert!(verify(&flipped).is_err(), "byte {at}, bit {bit}");
        }
        assert!(verify(&response[..at]).is_err(), "{at} bytes");
    }
    assert!(verify(&[response.as_slice(), &[0]].concat()).is_err());
    for bytes in [vec![], vec![0x30, 3, 0x0a, 1, 6], vec![0; 9000]] {
        scene.say(&der, bytes);
        assert!(scene.judge(&[scene.evidence(0)]).verdict.has(Code::OcspMalformed));
    }
}

/// Responses can be tied to the very request for evidence.
#[test]
fn nonces_match_where_they_are_asked_for() {
    let mut scene = Scene::new(1);
    scene.rules.ocsp_nonce = OcspNonceRule::Required;
    assert!(scene.judge(&[scene.evidence(0)]).verdict.has(Code::OcspNonce));
    let maker = &scene.maker;
    let pairs = [
        (&scene.gpus[0].identity, &maker.provisioner),
        (&maker.provisioner, &maker.identity),
        (&maker.identity, &maker.device_root),
        (&maker.rim_signer, &maker.rim_ca),
        (&maker.rim_ca, &maker.rim_root),
    ];
    let answers = pairs.map(|(subject, issuer)| {
        let certificate = certificate_digest(&subject.der);
        let nonce = Some(ocsp_nonce(&NONCE, &certificate).to_vec());
        let draft = OcspDraft { nonce, ..scene.good() };
        let response = maker.ocsp(subject, issuer, &draft).expect("signs");
        OcspAnswer { certificate, response: Base64Bytes(response) }
    });
    scene.collateral.ocsp = answers.to_vec();
    assert!(scene.judge(&[scene.evidence(0)]).verdict.is_accepted());
    scene.collateral.ocsp[2].response.0 = {
        let draft = OcspDraft { nonce: Some(vec![0; 32]), ..scene.good() };
        scene.maker.ocsp(&scene.maker.identity, &scene.maker.device_root, &draft).expect("signs")
    };
    assert!(scene.judge(&[scene.evidence(0)]).verdict.has(Code::OcspNonce));
}

/// What is missing is named, and once it is there nothing is.
#[test]
fn what_to_fetch_follows_from_the_evidence() {
    let mut scene = Scene::new(1);
    let evidence = serde_json::to_vec(&scene.evidence(0)).expect("JSON");
    let whole = scene.collateral.clone();
    let ask = |scene: &Scene| wanted(&evidence, &scene.collateral, &scene.roots, Some(&NONCE));
    assert_eq!(ask(&scene), crate::nvidia::Wanted::default());
    scene.collateral.rims.clear();
    scene.collateral.ocsp.clear();
    let first = ask(&scene);
    let ids: Vec<&str> = whole.rims.iter().map(|rim| rim.id.as_str()).collect();
    assert_eq!(first.rims, ids);
    assert_eq!(first.ocsp.len(), 3);
    scene.collateral.rims = whole.rims.clone();
    let second = ask(&scene);
    assert!(second.rims.is_empty());
    assert_eq!(second.ocsp.len(), 5);
    for (certificate, request) in second.ocsp {
        assert!(whole.response(&certificate).is_some());
        assert!(request.len() < 300, "{}", request.len());
    }
    assert_eq!(wanted(b"{}", &whole, &scene.roots, None), crate::nvidia::Wanted::default());
}

/// Responses that OpenSSL's responder made to test keys (`openssl ocsp -index`), so that reader and writer here cannot
/// agree on an error.
#[test]
fn responses_of_another_implementation_are_read() {
    use crate::nvidia::{
        certificate::Certificate,
        ocsp::{CertificateStatus, IssuerOf, OcspError, verify},
    };
    /// 2026-11-22T14:30:00Z, within the day that the responses are for.
    const THEN: u64 = 1_795_357_800;
    let ca = Certificate::parse(include_bytes!("openssl/ca.der")).expect("parses");
    let leaf = Certificate::parse(include_bytes!("openssl/leaf.der")).expect("parses");
    let about = IssuerOf { subject: &leaf, issuer_key: &ca.point };
    for (response, expected) in [
        (include_bytes!("openssl/good.der").as_slice(), CertificateStatus::Good),
        (include_bytes!("openssl/direct.der"), CertificateStatus::Good),
        (include_bytes!("openssl/hold.der"), CertificateStatus::Hold),
        (include_bytes!("openssl/revoked.der"), CertificateStatus::Revoked),
        (include_bytes!("openssl/unknown.der"), CertificateStatus::Unknown),
    ] {
        assert_eq!(verify(response, about, THEN, None), Ok(expected));
        let late = verify(response, about, THEN + 86_400, None);
        assert!(matches!(late, Err(OcspError::Time { .. })), "{late:?}");
        let other = IssuerOf { subject: &ca, issuer_key: &ca.point };
        assert_eq!(verify(response, other, THEN, None), Err(OcspError::Other));
    }
}
