//! One change at a time: each has its own code, and none is accepted.

use serde_json::Value;

use super::scene::{NOW, Scene};
use crate::{
    Claims, EvidenceBundle, Hex48, Purpose, Role, VmMode,
    base64_bytes::Base64Bytes,
    bundle::GpuEvidence,
    claims::GpuClaim,
    codes::Code,
    event_log::Event,
    launch::Layer,
    policy::{GpuRule, TcbStatus},
    simulated::Oddities,
};

fn expect_code(scene: &Scene, bundle: &EvidenceBundle, purpose: Purpose, code: Code, what: &str) {
    let verdict = scene.appraise(bundle, purpose).verdict;
    assert!(!verdict.is_accepted(), "{what}: accepted");
    assert!(verdict.has(code), "{what}: expected {}\n{}", code.as_str(), verdict.render());
}

#[test]
fn every_part_of_the_bundle_counts() {
    type Change = fn(&mut EvidenceBundle);
    let cases: Vec<(&str, Code, Change)> = vec![
        ("version", Code::BundleVersion, |b| b.version = 2),
        ("image", Code::BundleField, |b| b.image.name.clear()),
        ("empty quote", Code::BundleField, |b| b.quote.0.clear()),
        ("cut quote", Code::QuoteMalformed, |b| b.quote.0.truncate(700)),
        ("padded quote", Code::QuoteTrailing, |b| b.quote.0.push(0)),
        ("quote version", Code::QuoteNotTdx, |b| b.quote.0[0] = 3),
        ("TEE type", Code::QuoteNotTdx, |b| b.quote.0[4] = 0),
        ("quoting enclave id", Code::QuoteSignature, |b| b.quote.0[30] ^= 1),
        ("TCB in the quote", Code::QuoteSignature, |b| b.quote.0[49] ^= 1),
        ("MRTD", Code::FirmwareUnknown, |b| b.quote.0[184] ^= 1),
        ("MRTD", Code::QuoteSignature, |b| b.quote.0[184] ^= 1),
        ("MRCONFIGID kind", Code::LaunchForm, |b| b.quote.0[232] ^= 1),
        ("MRCONFIGID digest", Code::LaunchMismatch, |b| b.quote.0[233] ^= 1),
        ("MRCONFIGID zero", Code::LaunchZero, |b| b.quote.0[232..280].fill(0)),
        ("MROWNER", Code::QuoteOwner, |b| b.quote.0[280] ^= 1),
        ("MROWNERCONFIG", Code::QuoteOwner, |b| b.quote.0[328] ^= 1),
        ("RTMR0", Code::ShapeUnknown, |b| b.quote.0[376] ^= 1),
        ("RTMR1", Code::KernelUnknown, |b| b.quote.0[424] ^= 1),
        ("RTMR2", Code::BootUnknown, |b| b.quote.0[472] ^= 1),
        ("RTMR2", Code::LogReplay, |b| b.quote.0[472] ^= 1),
        ("RTMR2 zero", Code::QuoteRegisterZero, |b| b.quote.0[472..520].fill(0)),
        ("RTMR3", Code::LogReplay, |b| b.quote.0[520] ^= 1),
        ("first byte of report data", Code::ReportData, |b| b.quote.0[568] ^= 1),
        ("last byte of report data", Code::ReportData, |b| b.quote.0[631] ^= 1),
        ("attestation signature", Code::QuoteSignature, |b| b.quote.0[640] ^= 1),
        ("attestation key", Code::QuoteSignature, |b| b.quote.0[700] ^= 1),
        ("QE report", Code::QuoteSignature, |b| b.quote.0[800] ^= 1),
        ("no collateral", Code::CollateralMissing, |b| b.collateral = None),
        ("long collateral", Code::CollateralUnreadable, |b| {
            if let Some(c) = &mut b.collateral {
                c.tcb_info = "x".repeat(300_000);
            }
        }),
        ("edited TCB info", Code::QuoteSignature, |b| {
            if let Some(c) = &mut b.collateral {
                c.tcb_info = c.tcb_info.replace("OutOfDate", "UpToDate ");
            }
        }),
        ("log without a boot event", Code::LogReplay, |b| {
            b.event_log.events.remove(1);
        }),
        ("log digest", Code::LogDigest, |b| b.event_log.events[1].digest.0[0] ^= 1),
        ("log payload", Code::LogDigest, |b| b.event_log.events[2].payload.0[0] ^= 1),
        ("log register", Code::LogMalformed, |b| b.event_log.events[0].imr = 4),
        ("log name", Code::LogDigest, |b| b.event_log.events[1].name = "kernel2".into()),
        ("no launch event", Code::LogLaunchMissing, |b| {
            b.event_log.events.pop();
        }),
        ("launch event twice", Code::LogLaunchRepeated, |b| {
            let last = b.event_log.events[4].clone();
            b.event_log.push(last);
        }),
        ("other launch event", Code::LogLaunchPayload, |b| {
            b.event_log.events[4] = Event::new(3, "sealtune-launch", vec![1; 32]);
        }),
        ("stray run-time event", Code::LogUnknownEvent, |b| {
            b.event_log.push(Event::new(3, "shell", vec![]));
        }),
        ("job-start in an offer", Code::LogJobStartEarly, |b| {
            b.event_log.push(Event::job_start(&super::scene::SPEC));
        }),
        ("launch bytes", Code::LaunchUnreadable, |b| b.launch.0[0] = b'['),
        ("launch text", Code::LaunchMismatch, |b| edit(&mut b.launch, "0.1.0", "0.1.1")),
        ("launch text", Code::ReleaseOther, |b| edit(&mut b.launch, "0.1.0", "0.1.1")),
        ("launch version", Code::LaunchVersion, |b| {
            edit(&mut b.launch, "version\":1", "version\":2")
        }),
        ("launch limits", Code::LaunchField, |b| edit(&mut b.launch, "vcpus\":2", "vcpus\":0")),
        ("launch claim", Code::LaunchClaim, |b| edit(&mut b.launch, "0.1.0", "0.1.1")),
        ("claims bytes", Code::ClaimsUnreadable, |b| b.claims.0.push(b' ')),
        ("claims text", Code::ReportData, |b| {
            edit(&mut b.claims, "\"role\":\"worker\"", "\"role\":\"signer\"")
        }),
    ];
    for (what, code, change) in cases {
        let mut scene = Scene::new();
        let mut bundle = scene.evidence(Purpose::Offer);
        change(&mut bundle);
        expect_code(&scene, &bundle, Purpose::Offer, code, what);
    }
}

fn edit(bytes: &mut Base64Bytes, from: &str, to: &str) {
    let text = String::from_utf8(bytes.0.clone()).expect("text");
    assert!(text.contains(from), "{from} is not in {text}");
    bytes.0 = text.replacen(from, to, 1).into_bytes();
}

/// Claims that the quote covers but that are not what was asked for: an honest quote over wrong claims.
#[test]
fn every_claim_counts_even_under_a_good_quote() {
    type Case = (&'static str, Purpose, Code, fn(&mut Claims));
    let cases: Vec<Case> = vec![
        ("purpose", Purpose::Offer, Code::PurposeOther, |c| {
            c.purpose = Purpose::Identity;
            c.job = None;
            c.attempt = None;
        }),
        ("nonce", Purpose::Identity, Code::NonceOther, |c| c.nonce.0[0] ^= 1),
        ("role", Purpose::Identity, Code::RoleOther, |c| c.role = Role::Signer),
        ("mode", Purpose::Identity, Code::RoleOther, |c| c.vm_mode = VmMode::Shared),
        ("launch", Purpose::Identity, Code::LaunchClaim, |c| c.launch.0.0[0] ^= 1),
        ("job", Purpose::Offer, Code::JobOther, |c| c.job = Some(crate::FixedHex([9; 16]))),
        ("no job", Purpose::Offer, Code::JobOther, |c| {
            c.job = None;
            c.attempt = None;
        }),
        ("spec", Purpose::Start, Code::SpecOther, |c| c.spec = Some(crate::FixedHex([9; 32]))),
        ("spec", Purpose::Start, Code::LogJobStartPayload, |c| {
            c.spec = Some(crate::FixedHex([9; 32]));
        }),
        ("previous", Purpose::Start, Code::PreviousOther, |c| {
            c.previous = Some(crate::FixedHex([9; 32]));
        }),
        ("payload", Purpose::Receipt, Code::PayloadOther, |c| {
            c.payload = Some(crate::FixedHex([9; 32]));
        }),
        ("gpu", Purpose::Identity, Code::GpuMissing, |c| {
            c.gpu = vec![GpuClaim { device: "gpu0".into(), digest: crate::Hex32::ZERO }];
        }),
        ("collateral", Purpose::Identity, Code::CollateralOther, |c| {
            c.collateral = Some(crate::FixedHex([9; 32]));
        }),
    ];
    for (what, purpose, code, change) in cases {
        let mut scene = Scene::new();
        let mut bundle = scene.evidence(purpose);
        let mut claims = scene.claims(purpose);
        change(&mut claims);
        let bytes = claims.canonical_bytes().expect("valid claims");
        scene.requote(&mut bundle, &bytes, &Oddities::default());
        expect_code(&scene, &bundle, purpose, code, what);
    }
}

/// Claims that break the rules of their purpose, under a good quote over exactly these bytes.
#[test]
fn claims_that_break_their_own_rules_are_refused() {
    type Change = fn(&mut Value);
    let edits: [(&str, Code, Change); 6] = [
        ("zero nonce", Code::ClaimsNonceZero, |c| c["nonce"] = "0".repeat(64).into()),
        ("no nonce", Code::ClaimsUnreadable, |c| c["nonce"] = "".into()),
        ("zero instance", Code::ClaimsInstanceZero, |c| c["instance"] = "0".repeat(64).into()),
        ("short key", Code::ClaimsHpkeKey, |c| c["hpke"]["key"] = "00".into()),
        ("payload in an identity", Code::ClaimsUnexpected, |c| {
            c["payload"] = "0".repeat(64).into()
        }),
        ("unknown field", Code::ClaimsUnreadable, |c| c["trusted"] = "yes".into()),
    ];
    for (what, code, change) in edits {
        let mut scene = Scene::new();
        let mut bundle = scene.evidence(Purpose::Identity);
        let mut value: Value = serde_json::from_slice(&bundle.claims.0).expect("JSON");
        change(&mut value);
        let bytes = sealtune_seal::canonical::to_vec(&value).expect("canonical");
        scene.requote(&mut bundle, &bytes, &Oddities::default());
        expect_code(&scene, &bundle, Purpose::Identity, code, what);
    }
}

#[test]
fn odd_machines_are_refused() {
    let debug = Oddities { debug: true, ..Oddities::default() };
    let owner = Oddities { mr_owner: Some(crate::FixedHex([1; 48])), ..Oddities::default() };
    let owner_config =
        Oddities { mr_owner_config: Some(crate::FixedHex([1; 48])), ..Oddities::default() };
    let no_ve = Oddities { without_sept_ve_disable: true, ..Oddities::default() };
    let attribute = |bit| Oddities { attribute_bit: Some(bit), ..Oddities::default() };
    let xfam = |bit| Oddities { xfam_bit: Some(bit), ..Oddities::default() };
    let old = Oddities { module_svn: Some(4), ..Oddities::default() };
    let cases = [
        ("debug", Code::QuoteDebug, debug),
        ("MROWNER", Code::QuoteOwner, owner),
        ("MROWNERCONFIG", Code::QuoteOwner, owner_config),
        ("SEPT_VE_DISABLE", Code::QuoteAttributes, no_ve),
        ("profiling", Code::QuoteAttributes, attribute(4)),
        ("reserved", Code::QuoteAttributes, attribute(1)),
        ("migratable", Code::QuoteAttributes, attribute(29)),
        ("key locker", Code::QuoteAttributes, attribute(31)),
        ("perfmon", Code::QuoteAttributes, attribute(63)),
        ("processor trace", Code::QuoteXfam, xfam(8)),
        ("branch records", Code::QuoteXfam, xfam(15)),
        ("old module", Code::TcbStatus, old.clone()),
    ];
    for (what, code, oddities) in cases {
        let mut scene = Scene::new();
        let mut bundle = scene.evidence(Purpose::Identity);
        let claims = bundle.claims.0.clone();
        scene.requote(&mut bundle, &claims, &oddities);
        expect_code(&scene, &bundle, Purpose::Identity, code, what);
    }
    // A policy may allow the status, and then must allow the advisory too.
    let mut scene = Scene::new();
    let mut bundle = scene.evidence(Purpose::Identity);
    let claims = bundle.claims.0.clone();
    scene.requote(&mut bundle, &claims, &old);
    scene.policy.rules.tcb_statuses.push(TcbStatus::OutOfDate);
    expect_code(&scene, &bundle, Purpose::Identity, Code::TcbAdvisory, "advisory");
    scene.policy.rules.allow_advisories.push("SIMULATED-SA-00001".into());
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.is_accepted());
}

#[test]
fn evidence_of_two_boots_cannot_be_spliced() {
    let mut first = Scene::new();
    let mut second = Scene::new();
    second.instance = crate::FixedHex([0x99; 32]);
    let offer = first.evidence(Purpose::Offer);
    let start = second.evidence(Purpose::Start);
    let mut expectation = second.expectation(Purpose::Start);
    let claims = first.appraise(&offer, Purpose::Offer).claims.expect("claims");
    expectation.instance = Some(claims.instance);
    let verdict = second.appraise_for(&start, &expectation).verdict;
    assert!(!verdict.is_accepted() && verdict.has(Code::InstanceOther));

    // Claims of one boot with the quote of the other.
    let mut mixed = first.evidence(Purpose::Offer);
    mixed.quote = second_offer().quote;
    expect_code(&first, &mixed, Purpose::Offer, Code::ReportData, "mixed");
}

fn second_offer() -> EvidenceBundle {
    let mut scene = Scene::new();
    scene.instance = crate::FixedHex([0x99; 32]);
    scene.evidence(Purpose::Offer)
}

#[test]
fn a_vm_that_ran_a_job_can_make_no_offer() {
    let mut scene = Scene::new();
    scene.start_job();
    let bundle = scene.evidence(Purpose::Offer);
    expect_code(&scene, &bundle, Purpose::Offer, Code::LogJobStartEarly, "used VM");
}

#[test]
fn a_start_needs_exactly_one_job() {
    let mut scene = Scene::new();
    scene.start_job();
    scene.start_job();
    let bundle = scene.evidence(Purpose::Start);
    expect_code(&scene, &bundle, Purpose::Start, Code::LogJobStartRepeated, "two jobs");

    let scene = Scene::new();
    let image = crate::ImageIdentity { name: "sealtune".into(), version: "0.1.0".into() };
    let early = scene
        .vm
        .evidence(&scene.platform, &scene.claims(Purpose::Start), image, NOW)
        .expect("evidence");
    expect_code(&scene, &early, Purpose::Start, Code::LogJobStartMissing, "no job");
}

#[test]
fn what_was_measured_must_be_what_the_verifier_knows() {
    let layer = Layer { name: "mine".into(), ..crate::launch::tests::example().layers[0].clone() };
    let mut scene = Scene::with(|launch| launch.layers = vec![layer.clone()]);
    let bundle = scene.evidence(Purpose::Identity);
    expect_code(&scene, &bundle, Purpose::Identity, Code::LayerUnknown, "layer");
    let mut pinned = scene.expectation(Purpose::Identity);
    pinned.layer_roots = vec![layer.root];
    assert!(scene.appraise_for(&bundle, &pinned).verdict.is_accepted());
    scene.references[0].layers = vec![layer];
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.is_accepted());

    scene.policy.rules.releases = vec!["9.9.9".into()];
    expect_code(&scene, &bundle, Purpose::Identity, Code::ReleaseNotAllowed, "release");
    scene.policy.rules.releases.clear();
    scene.policy.rules.min_evaluation_number = 2;
    expect_code(&scene, &bundle, Purpose::Identity, Code::TcbEvaluation, "old collateral");
    scene.references.clear();
    expect_code(&scene, &bundle, Purpose::Identity, Code::ReleaseOther, "no references");
}

#[test]
fn a_shape_without_reference_values_is_refused() {
    let mut scene = Scene::with(|launch| launch.shape.vcpus = 3);
    let bundle = scene.evidence(Purpose::Identity);
    expect_code(&scene, &bundle, Purpose::Identity, Code::ShapeUnknown, "shape");
}

#[test]
fn a_policy_for_dstacks_images_admits_none_of_ours() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Identity);
    let listed = crate::policy::ListedImages {
        compose_hashes: vec![crate::FixedHex([1; 32])],
        os_images: vec![crate::FixedHex([2; 32])],
    };
    scene.policy = crate::Policy::by_name("dstack", &listed).expect("exists").expect("parses");
    expect_code(&scene, &bundle, Purpose::Identity, Code::ImagesOther, "dstack");
}

#[test]
fn shared_vms_need_a_policy_that_says_so() {
    let mut scene = Scene::with(|launch| launch.vm_mode = VmMode::Shared);
    let bundle = scene.evidence(Purpose::Identity);
    expect_code(&scene, &bundle, Purpose::Identity, Code::VmModeNotAllowed, "shared");
    scene.policy.rules.vm_modes.push(VmMode::Shared);
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.is_accepted());
}

#[test]
fn gpu_evidence_is_bound_and_must_be_genuine() {
    let mut scene = Scene::with(|launch| launch.gpus = vec!["gpu0".into()]);
    let bare = scene.evidence(Purpose::Identity);
    expect_code(&scene, &bare, Purpose::Identity, Code::GpuMissing, "no GPU evidence");

    let sent = b"a GPU's report".to_vec();
    let digest = ring::digest::digest(&ring::digest::SHA256, &sent);
    let mut claims = scene.claims(Purpose::Identity);
    claims.gpu = vec![GpuClaim {
        device: "gpu0".into(),
        digest: crate::FixedHex(digest.as_ref().try_into().expect("32 bytes")),
    }];
    let mut bundle = bare;
    bundle.gpu = vec![GpuEvidence { device: "gpu0".into(), evidence: Base64Bytes(sent) }];
    scene.requote(&mut bundle, &claims.canonical_bytes().expect("claims"), &Oddities::default());
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(!verdict.is_accepted(), "strict");
    assert!(verdict.codes().any(|code| code.starts_with("ST-GPU-")), "{}", verdict.render());
    scene.policy.rules.gpu = GpuRule::Unverified;
    assert!(scene.appraise(&bundle, Purpose::Identity).verdict.is_accepted());
    bundle.gpu[0].evidence.0.push(0);
    expect_code(&scene, &bundle, Purpose::Identity, Code::GpuDigest, "edited GPU evidence");
}

#[test]
fn an_offer_needs_the_verifiers_own_nonce() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    let mut expectation = scene.expectation(Purpose::Offer);
    expectation.nonce = None;
    let verdict = scene.appraise_for(&bundle, &expectation).verdict;
    assert!(!verdict.is_accepted() && verdict.has(Code::NonceNotGiven));
}

#[test]
fn documents_with_repeated_or_unknown_fields_are_not_read() {
    let mut scene = Scene::new();
    let text = String::from_utf8(scene.evidence(Purpose::Offer).to_bytes().expect("writes"))
        .expect("text");
    for extra in ["\"anchor\":\"intel\",", "\"version\":1,"] {
        let changed = text.replacen('{', &format!("{{{extra}"), 1);
        let error = EvidenceBundle::parse(changed.as_bytes()).expect_err(extra);
        assert_eq!(error.entry(), Code::BundleUnreadable);
    }
    let long = vec![b' '; crate::bundle::MAX_BUNDLE_BYTES + 1];
    assert_eq!(EvidenceBundle::parse(&long).expect_err("long").entry(), Code::BundleTooLong);
    let other = text.replacen("\"tee\":\"tdx\"", "\"tee\":\"intel\"", 1);
    assert!(EvidenceBundle::parse(other.as_bytes()).is_err());
}

/// Whatever single bit of the quote's signed part flips, nothing is accepted.
#[test]
fn no_bit_of_the_signed_part_is_free() {
    let mut scene = Scene::new();
    let good = scene.evidence(Purpose::Offer);
    for at in (0..632).step_by(7) {
        let mut bundle = good.clone();
        bundle.quote.0[at] ^= 1 << (at % 8);
        assert!(!scene.appraise(&bundle, Purpose::Offer).verdict.is_accepted(), "byte {at}");
    }
    assert_eq!(scene.vm.registers()[3], scene.vm.request([0; 64]).rtmr[3]);
    assert_ne!(scene.vm.registers()[3], Hex48::ZERO);
}
