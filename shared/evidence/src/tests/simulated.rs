//! The simulated TEE's evidence is accepted where it may be, and nowhere else.

use super::scene::{NOW, Scene, platform};
use crate::{
    Anchors, EvidenceBundle, JudgeTime, Policy, Profile, Purpose, Status,
    codes::Code,
    policy::STRICT,
    reference,
    simulated::{MARKER, PlatformFiles, SimulatedPlatform},
};

#[test]
fn evidence_for_each_purpose_is_accepted_and_marked() {
    for purpose in Purpose::ALL {
        let mut scene = Scene::new();
        let bundle = scene.evidence(purpose);
        let verdict = scene.appraise(&bundle, purpose).verdict;
        assert!(verdict.is_accepted(), "{}", verdict.render());
        assert!(verdict.simulated && verdict.has(Code::Simulated));
        let text = verdict.render();
        assert!(text.starts_with("SIMULATED") && text.ends_with("SIMULATED ACCEPTED\n"), "{text}");
    }
}

#[test]
fn a_bundle_reads_back_and_is_still_accepted() {
    let mut scene = Scene::new();
    let bytes = scene.evidence(Purpose::Offer).to_bytes().expect("writes");
    let bundle = EvidenceBundle::parse(&bytes).expect("reads");
    assert!(scene.appraise(&bundle, Purpose::Offer).verdict.is_accepted());
}

#[test]
fn without_the_option_simulated_evidence_is_refused() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    scene.anchors = Anchors::default();
    let verdict = scene.appraise(&bundle, Purpose::Offer).verdict;
    assert!(!verdict.is_accepted() && verdict.has(Code::AnchorUnknown), "{}", verdict.render());
}

#[test]
fn another_simulated_root_is_refused() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    scene.anchors.simulated_root = Some(platform(2).root_der());
    let verdict = scene.appraise(&bundle, Purpose::Offer).verdict;
    assert!(
        !verdict.is_accepted() && verdict.has(Code::SimulatedRootOther),
        "{}",
        verdict.render()
    );
}

#[test]
fn another_platform_with_its_own_collateral_is_refused() {
    let mut scene = Scene::new();
    let mut bundle = scene.evidence(Purpose::Offer);
    bundle.collateral = Some(platform(2).collateral(NOW).expect("collateral"));
    assert!(!scene.appraise(&bundle, Purpose::Offer).verdict.is_accepted());
}

/// A list that does not read, or that another root signed, says nothing about whose machine it is.
#[test]
fn a_bad_list_of_the_root_is_bad_collateral_and_no_other_root() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    let good = bundle.collateral.clone().expect("collateral");
    let other = platform(2).collateral(NOW).expect("collateral");
    let as_text = hex::encode(&good.root_ca_crl.0).into_bytes();
    for list in [vec![], vec![0x30, 0], as_text, good.pck_crl.0.clone(), other.root_ca_crl.0] {
        let mut bundle = bundle.clone();
        let mut bad = good.clone();
        bad.root_ca_crl = list.into();
        bundle.collateral = Some(bad);
        let verdict = scene.appraise(&bundle, Purpose::Offer).verdict;
        assert!(
            !verdict.is_accepted() && verdict.has(Code::QuoteSignature),
            "{}",
            verdict.render()
        );
        assert!(!verdict.has(Code::SimulatedRootOther) && !verdict.has(Code::AnchorUnknown));
    }
}

#[test]
fn no_policy_admits_simulated_evidence() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    scene.anchors = Anchors::default();
    // The friendliest policy that parses.
    let text = "vm_modes = [\"per-job\", \"shared\"]\ngpu = \"unverified\"\ntcb_statuses = [\"UpToDate\", \"OutOfDate\"]";
    scene.policy = Policy::parse(text.as_bytes()).expect("a policy");
    assert!(!scene.appraise(&bundle, Purpose::Offer).verdict.is_accepted());
    let root = hex::encode(scene.platform.root_der());
    let hostile = format!("{STRICT}\nsimulated_root = \"{root}\"\n");
    let error = Policy::parse(hostile.as_bytes()).expect_err("refused");
    assert_eq!(error.entry(), Code::PolicySimulated);
}

#[test]
fn the_dev_image_is_admitted_under_a_simulated_anchor_with_a_warning() {
    let mut scene = Scene::new();
    scene.references = vec![reference::tests::values(Profile::Dev)];
    let bundle = scene.evidence(Purpose::Identity);
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(verdict.is_accepted());
    assert_eq!(verdict.finding("profile").map(|f| f.status), Some(Status::Warning));
    scene.anchors = Anchors::default();
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(!verdict.is_accepted());
    assert_eq!(verdict.finding("profile").map(|f| f.status), Some(Status::Contraindicated));
}

#[test]
fn collateral_ages() {
    let day = 24 * 3600;
    let mut scene = Scene::new();
    let offer = scene.evidence(Purpose::Offer);
    let identity = scene.evidence(Purpose::Identity);
    scene.time = JudgeTime::Now(NOW + 2 * day);
    let verdict = scene.appraise(&offer, Purpose::Offer).verdict;
    assert!(verdict.has(Code::CollateralStale) && !verdict.is_accepted());
    assert!(scene.appraise(&identity, Purpose::Identity).verdict.is_accepted());
    scene.time = JudgeTime::Now(NOW + 31 * day);
    assert!(scene.appraise(&identity, Purpose::Identity).verdict.has(Code::CollateralTime));
    scene.time = JudgeTime::At(NOW + day);
    let verdict = scene.appraise(&identity, Purpose::Identity).verdict;
    assert!(verdict.is_accepted() && verdict.has(Code::TimeOnYourWord));
    scene.time = JudgeTime::Now(NOW - 400 * day);
    assert!(scene.appraise(&identity, Purpose::Identity).verdict.has(Code::ClockEarly));
}

/// Lists and certificates are issued often: a new one beside them does not make old TCB info new.
#[test]
fn collateral_is_as_old_as_what_it_says_of_the_tcb() {
    let day = 24 * 3600;
    let issued = |value: &mut serde_json::Value, at: u64| {
        value["issueDate"] = crate::time::rfc3339(at).expect("a time").into();
    };
    let mut scene = Scene::new();
    let mut offer = scene.evidence(Purpose::Offer);
    for (tcb, qe) in [(2 * day, 0), (0, 2 * day)] {
        let collateral =
            scene.platform.odd_collateral(NOW, &|value| issued(value, NOW - tcb), &|value| {
                issued(value, NOW - qe)
            });
        offer.collateral = Some(collateral.expect("signs"));
        let verdict = scene.appraise(&offer, Purpose::Offer).verdict;
        assert!(verdict.has(Code::CollateralStale), "{}", verdict.render());
    }
}

#[test]
fn an_offer_expires_ten_minutes_after_its_nonce() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    let mut expectation = scene.expectation(Purpose::Offer);
    expectation.asked_at = Some(NOW - 600);
    assert!(scene.appraise_for(&bundle, &expectation).verdict.is_accepted());
    expectation.asked_at = Some(NOW - 601);
    assert!(scene.appraise_for(&bundle, &expectation).verdict.has(Code::OfferExpired));
    // Two clocks of one verifier may differ a little; a question from the future is none.
    expectation.asked_at = Some(NOW + 60);
    assert!(!scene.appraise_for(&bundle, &expectation).verdict.has(Code::OfferExpired));
    expectation.asked_at = Some(NOW + 61);
    assert!(scene.appraise_for(&bundle, &expectation).verdict.has(Code::OfferExpired));
}

#[test]
fn a_receipt_is_never_dated_by_the_guest() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Receipt);
    let verdict = scene.appraise(&bundle, Purpose::Receipt).verdict;
    assert_eq!(verdict.finding("time").map(|f| f.value.as_str()), Some("unanchored"));
}

#[test]
fn pinned_platforms_are_the_only_ones() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Identity);
    let found = scene.appraise(&bundle, Purpose::Identity).verdict;
    let ppid = found.finding("platform").map(|f| f.value.clone()).expect("shown");
    assert!(found.has(Code::PlatformNotPinned));
    scene.policy.rules.platforms = vec![ppid.parse().expect("a digest")];
    let pinned = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(pinned.is_accepted() && !pinned.has(Code::PlatformNotPinned));
    scene.policy.rules.platforms = vec![crate::Hex32::ZERO];
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.has(Code::PlatformUnlisted));
}

#[test]
fn a_platform_is_the_same_after_a_restart() {
    let seed = sealtune_seal::Secret::new([7; 32]);
    let files = SimulatedPlatform::create(&seed, NOW).expect("creates");
    let json = files.to_json().expect("writes");
    let read = PlatformFiles::from_json(&json).expect("reads");
    let first = SimulatedPlatform::load(&files).expect("loads");
    let second = SimulatedPlatform::load(&read).expect("loads again");
    assert_eq!(first.root_der(), second.root_der());
    assert_eq!(first.root_key_id(), second.root_key_id());
    for certificate in [&files.root_pem, &files.pck_pem] {
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    }
    let root = first.root_der();
    assert!(root.windows(MARKER.len()).any(|part| part == MARKER.as_bytes()));
    let mut mixed = read;
    mixed.seed.0[0] ^= 1;
    assert_eq!(SimulatedPlatform::load(&mixed).expect_err("refused").entry(), Code::SimulatedFiles);
}

#[test]
fn the_anchor_is_named_by_the_root_key() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Identity);
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    let anchor = format!("simulated:{}", scene.platform.root_key_id());
    assert_eq!(verdict.finding("quote").map(|f| f.value.clone()), Some(anchor));
}
