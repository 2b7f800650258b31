//! Reference values: rows 61, 63, 66 and 67, and every way to sign something else than what is read.

use super::scene::{NONCE, NOW, Scene};
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        codes::Code,
        rim::{VerifiedRim, rim_digest},
        simulated::{DRIVER_RIM, Report, RimDraft, SimulatedNvidia, certificate_digest},
    },
    verdict::Status,
};

/// Exchanges the driver's RIM file.
fn with_driver_rim(scene: &mut Scene, file: Vec<u8>) {
    let rim = scene.collateral.rims.iter_mut().find(|rim| rim.id == DRIVER_RIM).expect("a RIM");
    rim.file = Base64Bytes(file);
}

fn judged_with(scene: &mut Scene, draft: &RimDraft) -> crate::verdict::Verdict {
    let file = scene.maker.sign_rim(&draft.to_xml()).expect("signs");
    with_driver_rim(scene, file);
    scene.judge(&[scene.evidence(0)]).verdict
}

/// Row 61.
#[test]
fn a_rim_for_another_release_or_chip_is_refused() {
    let mut scene = Scene::new(1);
    let draft = RimDraft { version: "550.90.12".into(), ..RimDraft::driver() };
    assert!(judged_with(&mut scene, &draft).has(Code::RimVersion));
    let draft = RimDraft { product: "GB100".into(), ..RimDraft::driver() };
    assert!(judged_with(&mut scene, &draft).has(Code::RimProduct));
    assert!(judged_with(&mut scene, &RimDraft::vbios()).has(Code::RimVersion));
    assert!(judged_with(&mut scene, &RimDraft::driver()).is_accepted());
    // The name of the file follows from what the GPU signed.
    let report = Report::new(NONCE).with(3, b"551.00\0");
    let mut evidence = scene.evidence_over(0, &report);
    evidence.driver_version = "551.00".into();
    let verdict = scene.judge(&[evidence]).verdict;
    let finding = verdict.finding("gpu.0.firmware").expect("judged");
    assert!(finding.text.contains("NV_GPU_DRIVER_GH100_551.00"), "{}", finding.text);
    assert_eq!(finding.code, Some(Code::FirmwareUnknown.as_str()));
}

/// Row 63.
#[test]
fn expired_rim_certificates_need_a_pin() {
    let maker = SimulatedNvidia::with_rim_validity(NOW, NOW - 10).expect("a maker");
    let mut scene = Scene::of(maker, 1);
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    assert!(verdict.has(Code::RimExpired) && !verdict.is_accepted());
    scene.rules.pinned_rims =
        scene.collateral.rims.iter().map(|rim| rim_digest(&rim.file.0)).collect();
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.has(Code::RimPinned), "a pin is never silent");
    // Nobody answers for certificates that are out of date; an answer that is there counts.
    scene.collateral.ocsp.retain(|answer| {
        let rims = [&scene.maker.rim_signer, &scene.maker.rim_ca];
        !rims.iter().any(|it| certificate_digest(&it.der) == answer.certificate)
    });
    assert_eq!(scene.collateral.ocsp.len(), 3);
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    assert!(verdict.is_accepted() && verdict.has(Code::OcspMissing));
    scene.rules.pinned_rims.pop();
    assert!(!scene.judge(&[scene.evidence(0)]).verdict.is_accepted());
}

/// Row 66: measurement 35 counts unless the decoder that it measures is off.
#[test]
fn measurement_35_is_skipped_with_the_decoder_off_only() {
    let scene = Scene::new(1);
    let with_nvdec0 = |value: Option<u8>| {
        let mut report = Report::new(NONCE).without(11);
        if let Some(value) = value {
            report = report.with(11, &[value]);
        }
        report.measurements.insert(36, [0; 48]);
        scene.judge_report(&report).verdict
    };
    assert!(with_nvdec0(Some(0x55)).is_accepted());
    assert!(with_nvdec0(Some(0xaa)).has(Code::MeasurementOther));
    assert!(with_nvdec0(None).has(Code::MeasurementOther));
    assert!(with_nvdec0(Some(0)).has(Code::TranscriptField));
}

/// Row 67.
#[test]
fn rims_that_overlap_are_refused() {
    let mut scene = Scene::new(1);
    let mut draft = RimDraft::driver();
    draft.rows[1].1 = true;
    let verdict = judged_with(&mut scene, &draft);
    assert!(verdict.has(Code::RimOverlap) && !verdict.is_accepted());
}

#[test]
fn any_other_measurement_is_refused() {
    let scene = Scene::new(1);
    for (index, listed) in [(7, true), (1, true), (12, true), (35, true), (20, false), (63, false)]
    {
        let mut report = Report::new(NONCE);
        report.measurements.insert(index + 1, [0x77; 48]);
        let verdict = scene.judge_report(&report).verdict;
        assert_eq!(verdict.has(Code::MeasurementOther), listed, "index {index}");
        assert_eq!(verdict.is_accepted(), !listed, "index {index}");
        if listed {
            let finding = verdict.finding("gpu.0.firmware").expect("judged");
            assert_eq!(finding.status, Status::Contraindicated);
        }
    }
    // An alternative is as good as the first value.
    let mut report = Report::new(NONCE);
    report.measurements.insert(13, [0; 48]);
    assert!(scene.judge_report(&report).verdict.is_accepted());
}

#[test]
fn reference_values_of_another_form_are_refused() {
    let mut scene = Scene::new(1);
    let plain = RimDraft::driver().to_xml();
    for (from, to) in [
        ("active=\"True\"", "active=\"true\""),
        ("index=\"7\"", "index=\"07\""),
        ("index=\"7\"", "index=\"8\""),
        ("index=\"7\"", "index=\"300\""),
        ("alternatives=\"1\"", "alternatives=\"2\""),
        ("alternatives=\"1\"", "alternatives=\"0\""),
        ("size=\"48\"", "size=\"32\""),
        ("h:Hash0", "Hash0"),
        ("h:Hash0", "h:Hash1"),
        ("h:Hash0=", "h:Hash9=\"00\" h:Hash0="),
        ("type=\"Measurement\"", "type=\"minSvn\""),
        ("colloquialVersion", "version"),
        ("swid:Meta", "Meta2"),
        ("<swid:Payload>", "<swid:Payload><swid:Payload/>"),
        ("True", "False"),
        (
            "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
            "<SoftwareIdentity xmlns=\"urn:x\"",
        ),
    ] {
        let changed = match from {
            "True" => plain.replace(from, to),
            _ => plain.replacen(from, to, 1),
        };
        assert_ne!(changed, plain, "{from}");
        let file = scene.maker.sign_rim(&changed).expect("signs");
        with_driver_rim(&mut scene, file);
        let verdict = scene.judge(&[scene.evidence(0)]).verdict;
        let finding = verdict.finding("gpu.0.firmware").expect("judged");
        assert_eq!(
            finding.code,
            Some(Code::RimContent.as_str()),
            "{from} → {to}: {}",
            finding.text
        );
    }
}

/// Nothing but the one form of signature, over the whole document.
#[test]
fn signatures_of_other_forms_are_refused() {
    let scene = Scene::new(1);
    let maker = &scene.maker;
    let root = maker.roots().rim;
    let plain = RimDraft::driver().to_xml();
    let signed = String::from_utf8(maker.sign_rim(&plain).expect("signs")).expect("text");
    let verify = |text: &str| VerifiedRim::verify(text.as_bytes(), &root, NOW, &[]);
    verify(&signed).expect("verifies");
    let code = |text: &str| verify(text).err().map(|error| error.entry());

    // Changes to the file after signing.
    let signature = &signed[signed.find("<d:Signature ").expect("one")
        ..signed.find("</SoftwareIdentity>").expect("one")];
    let bare = signed.replace(signature, "");
    for (what, text, expected) in [
        ("none", bare.clone(), Code::RimSignature),
        ("two", signed.replace(signature, &signature.repeat(2)), Code::RimSignature),
        (
            "not last",
            bare.replacen("  <swid:Meta", &format!("{signature}  <swid:Meta"), 1),
            Code::RimSignature,
        ),
        (
            "nested",
            bare.replacen("</swid:Payload>", &format!("{signature}</swid:Payload>"), 1),
            Code::RimSignature,
        ),
        ("comment", signed.replacen("<swid:Meta", "<!-- --><swid:Meta", 1), Code::RimMalformed),
        ("document type", format!("<!DOCTYPE x>{signed}"), Code::RimMalformed),
        ("entity", signed.replacen("GPU", "&x;", 1), Code::RimMalformed),
        ("version", signed.replacen("550.90.07", "550.90.08", 1), Code::RimSignature),
        (
            "attribute order is no difference",
            signed.replacen(
                "type=\"Measurement\" index=\"7\"",
                "index=\"7\" type=\"Measurement\"",
                1,
            ),
            Code::Simulated,
        ),
        (
            "added declaration",
            signed.replacen("<swid:Meta", "<swid:Meta xmlns:z=\"urn:z\"", 1),
            Code::RimSignature,
        ),
        (
            "signature attribute",
            signed.replacen("<d:Signature ", "<d:Signature Id=\"x\" ", 1),
            Code::RimSignature,
        ),
        (
            "object",
            signed.replacen("</d:KeyInfo>", "</d:KeyInfo><d:Object/>", 1),
            Code::RimSignature,
        ),
        (
            "text in the signature",
            signed.replacen("<d:KeyInfo>", "x<d:KeyInfo>", 1),
            Code::RimSignature,
        ),
        ("wrapped", format!("<SoftwareIdentity>{signed}</SoftwareIdentity>"), Code::RimSignature),
    ] {
        assert_ne!(text, signed, "{what}");
        match expected {
            Code::Simulated => verify(&text).map(|_| ()).expect(what),
            expected => assert_eq!(code(&text), Some(expected), "{what}"),
        }
    }

    // Signed, and still not the one form.
    let info = &signed[signed.find("<d:SignedInfo>").expect("one")
        ..signed.find("<d:SignatureValue>").expect("one")];
    assert!(
        verify(&String::from_utf8(maker.envelope(&plain, info).expect("signs")).expect("text"))
            .is_ok()
    );
    for (from, to) in [
        ("URI=\"\"", "URI=\"#a\""),
        ("URI=\"\"", "URI=\"\" Id=\"a\""),
        ("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        ("#ecdsa-sha384", "#ecdsa-sha256"),
        ("xmldsig-more#sha384\"/><d:DigestValue", "xmldsig-more#sha224\"/><d:DigestValue"),
        ("<d:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>", ""),
        (
            "<d:Transforms>",
            "<d:Transforms><d:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"/>",
        ),
        ("</d:Reference>", "</d:Reference><d:Reference URI=\"\"/>"),
        ("<d:DigestValue>", "<d:DigestValue>AAAA"),
    ] {
        let changed = info.replacen(from, to, 1);
        assert_ne!(changed, info, "{from}");
        let file = maker.envelope(&plain, &changed).expect("signs");
        assert_eq!(
            code(&String::from_utf8(file).expect("text")),
            Some(Code::RimSignature),
            "{from}"
        );
    }
    let other = SimulatedNvidia::create(NOW).expect("a maker");
    let file = other.sign_rim(&plain).expect("signs");
    assert_eq!(code(&String::from_utf8(file).expect("text")), Some(Code::RimChain));
    // A genuine chain around another key's signature.
    let theirs = signed.split_once("<d:KeyInfo>").expect("one").1;
    let file = String::from_utf8(other.sign_rim(&plain).expect("signs")).expect("text");
    let ours = file.split_once("<d:KeyInfo>").expect("one").0;
    assert_eq!(code(&format!("{ours}<d:KeyInfo>{theirs}")), Some(Code::RimSignature));
}
