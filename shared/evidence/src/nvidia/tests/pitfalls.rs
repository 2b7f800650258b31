//! The known ways to get GPU evidence wrong, one after the other: each has its own code, and nothing else changes.

use super::scene::{NONCE, NOW, Scene};
use crate::{
    claims::Purpose,
    fixed_hex::FixedHex,
    nvidia::{
        Guest, Readiness,
        codes::Code,
        evidence::{
            Architecture, CcEnvironment, CcFeature, MigMode, MultiGpuMode, NvidiaEvidence,
            Virtualization,
        },
        nonce::gpu_nonce,
        rules::Presence,
        simulated::{
            Report, SimulatedGpu, SimulatedNvidia, dice, firmware_digest,
            pki::{Authority, Draft},
        },
        transcript::Transcript,
    },
    verdict::Status,
};

#[test]
fn whole_evidence_holds_and_says_that_it_is_simulated() {
    let scene = Scene::new(2);
    let judged = scene.judge(&[scene.evidence(0), scene.evidence(1)]);
    let verdict = &judged.verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(judged.simulated && verdict.simulated && verdict.has(Code::Simulated));
    for claim in ["chain", "signature", "nonce", "device", "fwid", "mode", "firmware", "revocation"]
    {
        for gpu in 0..2 {
            let finding = verdict.finding(&format!("gpu.{gpu}.{claim}")).expect(claim);
            assert_eq!(finding.status, Status::Affirming, "{claim}");
            assert!(finding.anchor.contains("simulated-gpu:"), "{claim}");
        }
    }
    assert_eq!(verdict.finding("gpu").map(|it| it.status), Some(Status::Affirming));
    assert_eq!(judged.devices.len(), 2);
    assert_ne!(judged.devices[0].device, judged.devices[1].device);
    let shown = verdict.render();
    // The GPUs' own numbers appear as digests only.
    assert!(!shown.contains("410000000000000001"), "{shown}");
}

/// Row 56: nonce of another request, VM or key.
#[test]
fn evidence_for_another_nonce_is_refused() {
    let mut scene = Scene::new(1);
    let judged = scene.judge_report(&Report::new([1; 32]));
    assert!(judged.verdict.has(Code::NonceOther) && !judged.verdict.is_accepted());
    let nonces = [
        gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([2; 32]), b"key"),
        gpu_nonce(Purpose::Start, &FixedHex([1; 32]), &FixedHex([2; 32]), b"key"),
        gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([3; 32]), b"key"),
        gpu_nonce(Purpose::Offer, &FixedHex([1; 32]), &FixedHex([2; 32]), b"other"),
    ];
    for (at, made_for) in nonces.iter().enumerate() {
        for (expected_at, expected) in nonces.iter().enumerate() {
            scene.nonce = Some(*expected);
            let judged = scene.judge_report(&Report::new(*made_for));
            assert_eq!(judged.verdict.is_accepted(), at == expected_at);
        }
    }
    scene.nonce = None;
    let judged = scene.judge(&[scene.evidence(0)]);
    assert!(judged.verdict.has(Code::NonceMissing) && !judged.verdict.is_accepted());
}

/// Row 57: a genuine GPU means nothing without the guest.
#[test]
fn the_guest_comes_first() {
    let mut scene = Scene::new(1);
    scene.guest = Guest::NotVerified;
    let judged = scene.judge(&[scene.evidence(0)]);
    assert!(judged.verdict.has(Code::GuestUnverified) && !judged.verdict.is_accepted());
}

/// Row 58: count, distinct devices, one nonce.
#[test]
fn every_gpu_once_and_all_for_one_request() {
    let mut scene = Scene::new(3);
    let all = [scene.evidence(0), scene.evidence(1), scene.evidence(2)];
    assert!(scene.judge(&all).verdict.is_accepted());

    let removed = scene.judge(&all[..2]).verdict;
    assert!(removed.has(Code::CountOther) && !removed.is_accepted());
    scene.expected = 2;
    let more = scene.judge(&all).verdict;
    assert!(more.has(Code::CountOther) && !more.is_accepted());
    scene.expected = 3;

    let twice = NvidiaEvidence { device: "gpu-2".into(), ..all[0].clone() };
    let twice = scene.judge(&[all[0].clone(), all[1].clone(), twice]).verdict;
    assert!(twice.has(Code::DeviceTwice) && !twice.is_accepted());

    // Signed twice: the same GPU under another name.
    let again = NvidiaEvidence { device: "gpu-2".into(), ..scene.evidence(0) };
    let again = scene.judge(&[all[0].clone(), all[1].clone(), again]).verdict;
    assert!(again.has(Code::DeviceTwice) && !again.is_accepted());

    let exchanged = scene.judge(&[all[1].clone(), all[0].clone(), all[2].clone()]).verdict;
    assert!(exchanged.has(Code::DeviceNameOther) && !exchanged.is_accepted());

    let other = scene.evidence_over(2, &Report::new([9; 32]));
    let other = scene.judge(&[all[0].clone(), all[1].clone(), other]).verdict;
    assert!(other.has(Code::NoncesDiffer) && other.has(Code::NonceOther) && !other.is_accepted());

    let none = scene.judge(&[]).verdict;
    assert!(none.has(Code::CountOther) && !none.is_accepted());
    let bytes = serde_json::to_vec(&all[0]).expect("JSON");
    let same_name = scene.judge_bytes(&[("gpu-0", &bytes), ("gpu-0", &bytes), ("gpu-0", &bytes)]);
    assert!(same_name.verdict.has(Code::DeviceTwice));
}

/// Rows 59, 60, 68 and 70: the mode, as the driver and as the GPU say it.
#[test]
fn every_other_mode_has_its_code() {
    type Change = fn(&mut NvidiaEvidence);
    let cases: &[(Code, Change)] = &[
        (Code::CcOff, |e| e.cc.feature = CcFeature::Off),
        (Code::Devtools, |e| e.cc.feature = CcFeature::Devtools),
        (Code::Environment, |e| e.cc.environment = CcEnvironment::Sim),
        (Code::Environment, |e| e.cc.environment = CcEnvironment::Unavailable),
        (Code::PcieMixed, |e| e.cc.multi_gpu = MultiGpuMode::ProtectedPcie),
        (Code::MultiGpu, |e| e.cc.multi_gpu = MultiGpuMode::NvlinkEncryption),
        (Code::Mig, |e| e.mig = MigMode::On),
        (Code::Mig, |e| e.mig = MigMode::Unknown),
        (Code::Vgpu, |e| e.virtualization = Virtualization::Vgpu),
        (Code::Vgpu, |e| e.virtualization = Virtualization::HostVgpu),
        (Code::Vgpu, |e| e.virtualization = Virtualization::HostVsga),
        (Code::Vgpu, |e| e.virtualization = Virtualization::None),
        (Code::Vgpu, |e| e.virtualization = Virtualization::Unknown),
        (Code::ReadyEarly, |e| e.cc.gpus_ready = true),
        (Code::ArchitectureOther, |e| e.architecture = Architecture::Blackwell),
    ];
    let mut scene = Scene::new(1);
    for (code, change) in cases {
        let mut evidence = scene.evidence(0);
        change(&mut evidence);
        let verdict = scene.judge(&[evidence]).verdict;
        let finding = verdict.finding("gpu.0.mode").expect("judged");
        assert_eq!(finding.code, Some(code.as_str()), "{}", verdict.render());
        assert!(!verdict.is_accepted());
    }
    for (field, value, code) in [
        (21, &[0xaa][..], Code::PcieMixed),
        (21, &[0xab], Code::FeatureFlag),
        (36, &[1], Code::MultiGpu),
        (36, &[2], Code::PcieMixed),
        (36, &[3], Code::FeatureFlag),
        (36, &[], Code::FeatureFlag),
    ] {
        let verdict = scene.judge_report(&Report::new(NONCE).with(field, value)).verdict;
        let finding = verdict.finding("gpu.0.mode").expect("judged");
        assert_eq!(finding.code, Some(code.as_str()), "field {field} = {value:?}");
        assert!(!verdict.is_accepted());
    }
    assert!(scene.judge_report(&Report::new(NONCE).with(36, &[0, 0])).verdict.is_accepted());
    scene.readiness = Readiness::Either;
    let mut evidence = scene.evidence(0);
    evidence.cc.gpus_ready = true;
    assert!(scene.judge(&[evidence]).verdict.is_accepted());
    scene.rules.architectures = vec![Architecture::Blackwell];
    assert!(scene.judge(&[scene.evidence(0)]).verdict.has(Code::ArchitectureOther));
}

/// Row 62: a signature without reference values says little, and the verdict says so.
#[test]
fn without_rims_the_firmware_is_unknown() {
    let mut scene = Scene::new(1);
    scene.collateral.rims.clear();
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    assert!(verdict.has(Code::FirmwareUnknown) && !verdict.is_accepted());
    scene.rules.rim = Presence::Optional;
    let verdict = scene.judge(&[scene.evidence(0)]).verdict;
    let finding = verdict.finding("gpu.0.firmware").expect("judged");
    assert_eq!(
        (finding.status, finding.code),
        (Status::Warning, Some(Code::FirmwareUnknown.as_str()))
    );
    assert!(verdict.is_accepted());
}

/// Row 64: certificates and report are of one firmware.
#[test]
fn the_firmware_digest_must_be_the_certified_one() {
    let scene = Scene::new(1);
    let verdict = scene.judge_report(&Report::new(NONCE).with(20, &[3; 48])).verdict;
    assert!(verdict.has(Code::FwidOther) && !verdict.is_accepted());
    for report in [Report::new(NONCE).without(20), Report::new(NONCE).with(20, &[3; 47])] {
        let verdict = scene.judge_report(&report).verdict;
        assert!(verdict.has(Code::FwidMissing) && !verdict.is_accepted());
    }
    let unnamed = SimulatedGpu::make(&scene.maker, 7, None).expect("a GPU");
    let evidence = unnamed.evidence("gpu-0", &Report::new(NONCE)).expect("evidence");
    let verdict = scene.judge(&[evidence]).verdict;
    assert_eq!(
        verdict.finding("gpu.0.chain").and_then(|it| it.code),
        Some(Code::FwidMissing.as_str())
    );
}

/// Row 71, and everything else about the bytes that are signed.
#[test]
fn the_transcript_is_read_exactly() {
    let scene = Scene::new(1);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut evidence = scene.evidence(0);
        change(&mut evidence.transcript.0);
        scene.judge(&[evidence]).verdict
    };
    for (code, change) in [
        (Code::TranscriptTrailing, (|t| t.push(0)) as fn(&mut Vec<u8>)),
        (Code::TranscriptMalformed, |t| t.truncate(t.len() - 1)),
        (Code::TranscriptMalformed, Vec::clear),
        (Code::TranscriptMessage, |t| t[0] = 0x12),
        (Code::TranscriptMessage, |t| t[3] = 0),
        (Code::TranscriptMessage, |t| t[38] = 0x61),
        (Code::TranscriptMalformed, |t| t[41] = 63),
        (Code::TranscriptMalformed, |t| t[45] = 2),
        (Code::Signature, |t| t[36] = 1),
        (Code::Signature, |t| t[60] ^= 1),
        (Code::Signature, |t| *t.last_mut().expect("bytes") ^= 1),
    ] {
        let verdict = changed(change);
        assert!(
            verdict.has(code) && !verdict.is_accepted(),
            "{}\n{}",
            code.as_str(),
            verdict.render()
        );
        assert!(verdict.has(Code::NotChecked), "what rests on the signature is not judged");
    }
    for (report, code) in [
        (Report::new(NONCE).without(3), Code::TranscriptField),
        (Report::new(NONCE).with(3, b"not a version"), Code::TranscriptField),
        (Report::new(NONCE).without(6), Code::TranscriptField),
        (Report::new(NONCE).without(17), Code::TranscriptField),
        (Report::new(NONCE).with(11, &[1]), Code::TranscriptField),
    ] {
        let verdict = scene.judge_report(&report).verdict;
        assert!(verdict.has(code) && !verdict.is_accepted(), "{}", verdict.render());
    }
    let mut raw = Report::new(NONCE);
    raw.measurements.remove(&8);
    assert_eq!(
        Transcript::parse(&scene.gpus[0].sign(&raw).expect("signs"))
            .expect("parses")
            .measurements
            .len(),
        63
    );
    let verdict = scene.judge_report(&raw).verdict;
    assert!(verdict.has(Code::MeasurementMissing) && !verdict.is_accepted());
}

#[test]
fn stated_versions_must_be_the_signed_ones() {
    let scene = Scene::new(1);
    for change in [
        (|e: &mut NvidiaEvidence| e.driver_version = "550.90.08".into()) as fn(&mut NvidiaEvidence),
        |e| e.vbios_version = "96.00.9F.00.02".into(),
    ] {
        let mut evidence = scene.evidence(0);
        change(&mut evidence);
        let verdict = scene.judge(&[evidence]).verdict;
        assert!(verdict.has(Code::VersionOther) && !verdict.is_accepted());
    }
}

#[test]
fn every_broken_chain_has_its_code() {
    let scene = Scene::new(1);
    let gpu = &scene.gpus[0];
    let with = |chain: Vec<Vec<u8>>| {
        let mut evidence = scene.evidence(0);
        evidence.certificates.0 = crate::nvidia::simulated::pem(&chain).into_bytes();
        scene.judge(&[evidence]).verdict
    };
    let whole = gpu.chain.clone();
    assert!(with(whole.clone()).is_accepted());
    assert!(with(whole[..4].to_vec()).is_accepted(), "the root may be left out");
    let without = |at: usize| {
        let mut chain = whole.clone();
        chain.remove(at);
        chain
    };
    let other = SimulatedNvidia::create(NOW).expect("a maker");
    let other_gpu = other.gpu(1).expect("a GPU");
    let mut mixed = whole.clone();
    mixed[4] = other.device_root.der.clone();
    for (code, chain) in [
        (Code::ChainLength, whole[..3].to_vec()),
        (Code::ChainLength, [whole.clone(), vec![whole[4].clone()]].concat()),
        (Code::ChainLink, without(1)),
        (Code::ChainLink, without(2)),
        (Code::ChainLink, without(3)),
        (Code::ChainLink, mixed),
        (Code::ChainRoot, other_gpu.chain.clone()),
        (Code::ChainUnreadable, vec![vec![0x30]; 4]),
    ] {
        let verdict = with(chain);
        let finding = verdict.finding("gpu.0.chain").expect("judged");
        assert_eq!(finding.code, Some(code.as_str()), "{}", verdict.render());
        assert!(!verdict.is_accepted() && verdict.has(Code::NotChecked));
    }
    let mut evidence = scene.evidence(0);
    evidence.certificates.0 = b"no certificates".to_vec();
    assert!(scene.judge(&[evidence]).verdict.has(Code::ChainUnreadable));
    // Certificates of another GPU of the same maker: the signature is not theirs.
    let neighbour = scene.maker.gpu(2).expect("a GPU");
    let verdict = with(neighbour.chain.clone());
    assert!(verdict.has(Code::Signature) && !verdict.is_accepted());
}

/// A GPU's identity, or its leaf, made in every way that it may not be.
#[test]
fn certificates_that_may_not_sign_are_refused() {
    use rcgen::{BasicConstraints, CustomExtension, IsCa, KeyUsagePurpose};
    let mut scene = Scene::new(1);
    let (from, to) = (NOW - 1000, NOW + 1000);
    let fwid = firmware_digest();
    let identity = || Draft::authority("GH100 SIMULATED GSP BROM", &[0x41, 1], from, to);
    let leaf = || Draft::signer("GH100 SIMULATED GSP FMC LF", &[5], from, to);
    let finding = |scene: &Scene, gpu: &SimulatedGpu| {
        let evidence = gpu.evidence("gpu-0", &Report::new(NONCE)).expect("evidence");
        let verdict = scene.judge(&[evidence]).verdict;
        verdict.finding("gpu.0.chain").expect("judged").code
    };
    let with_identity = |scene: &Scene, draft: Draft| {
        let identity = scene.maker.provisioner.issue(draft).expect("a certificate");
        SimulatedGpu::under(&scene.maker, identity, Some(fwid)).expect("a GPU")
    };
    assert_eq!(finding(&scene, &with_identity(&scene, identity())), None);
    type Change = fn(&mut Draft);
    let changes: &[(Code, Change)] = &[
        (Code::ChainAuthority, |draft| draft.params.is_ca = IsCa::NoCa),
        (Code::ChainAuthority, |draft| draft.params.is_ca = IsCa::ExplicitNoCa),
        (Code::ChainAuthority, |draft| draft.params.key_usages = vec![KeyUsagePurpose::CrlSign]),
        (Code::ChainAuthority, |draft| {
            let mut unknown = CustomExtension::from_oid_content(&[2, 5, 29, 99], vec![5, 0]);
            unknown.set_criticality(true);
            draft.params.custom_extensions = vec![unknown];
        }),
    ];
    for (at, (code, change)) in changes.iter().enumerate() {
        let mut draft = identity();
        change(&mut draft);
        let gpu = with_identity(&scene, draft);
        assert_eq!(finding(&scene, &gpu), Some(code.as_str()), "identity {at}");
    }
    for (from, to) in [(NOW - 1000, NOW - 1), (NOW + 1, NOW + 1000)] {
        let draft = Draft::authority("GH100 SIMULATED GSP BROM", &[0x41, 1], from, to);
        let gpu = with_identity(&scene, draft);
        assert_eq!(finding(&scene, &gpu), Some(Code::ChainTime.as_str()));
    }

    let with_leaf = |scene: &Scene, draft: fn(Draft, &Authority) -> Draft| {
        let identity = scene.maker.provisioner.issue(identity()).expect("a certificate");
        let leaf = identity.issue(draft(leaf(), &identity)).expect("a certificate");
        let mut gpu = SimulatedGpu::under(&scene.maker, identity, Some(fwid)).expect("a GPU");
        gpu.chain[0] = leaf.der.clone();
        gpu.leaf = leaf;
        gpu
    };
    let good =
        with_leaf(&scene, |leaf, above| leaf.with_dice(dice(&above.point(), &firmware_digest())));
    assert_eq!(finding(&scene, &good), None);
    let other_identity =
        with_leaf(&scene, |leaf, _| leaf.with_dice(dice(&[4; 97], &firmware_digest())));
    assert_eq!(finding(&scene, &other_identity), Some(Code::ChainAuthority.as_str()));
    let authority = with_leaf(&scene, |mut leaf, above| {
        leaf.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        leaf.with_dice(dice(&above.point(), &firmware_digest()))
    });
    assert_eq!(finding(&scene, &authority), Some(Code::ChainAuthority.as_str()));
    let no_signer = with_leaf(&scene, |mut leaf, above| {
        leaf.params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        leaf.with_dice(dice(&above.point(), &firmware_digest()))
    });
    assert_eq!(finding(&scene, &no_signer), Some(Code::ChainAuthority.as_str()));

    // One authority below the provisioner, where it allows none.
    let mut draft = Draft::authority("SIMULATED GH100 Provisioner ICA 2", &[9], from, to);
    draft.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    scene.maker.provisioner = scene.maker.identity.issue(draft).expect("a certificate");
    let gpu = with_identity(&scene, identity());
    assert_eq!(finding(&scene, &gpu), Some(Code::ChainAuthority.as_str()));
}

#[test]
fn chains_are_judged_at_the_given_time() {
    let mut scene = Scene::new(1);
    for time in [NOW - 2 * 365 * 86_400, NOW + 21 * 365 * 86_400] {
        scene.time = time;
        let verdict = scene.judge(&[scene.evidence(0)]).verdict;
        assert!(verdict.has(Code::ChainTime) && !verdict.is_accepted());
    }
}

#[test]
fn nvidias_own_roots_refuse_everything_simulated() {
    let mut scene = Scene::new(1);
    scene.roots = crate::nvidia::NvidiaRoots::nvidia();
    let judged = scene.judge(&[scene.evidence(0)]);
    assert!(
        judged.verdict.has(Code::ChainRoot) && !judged.verdict.is_accepted() && !judged.simulated
    );
}
