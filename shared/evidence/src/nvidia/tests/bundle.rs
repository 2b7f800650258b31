//! Simulated GPUs in a simulated VM: evidence as a verifier gets it.

use ring::digest;

use super::{machine::all_evidence, scene::Scene as Gpus};
use crate::{
    Context, EvidenceBundle, Expectation, FixedHex, JudgeTime, Purpose, appraise,
    base64_bytes::Base64Bytes,
    bundle::GpuEvidence,
    claims::{GpuClaim, gpu_nonce},
    nvidia::{
        DeviceEvidence, NvidiaEvidence,
        codes::Code,
        ocsp::valid_until,
        rules::OcspNonceRule,
        simulated::{Report, SimulatedNvidia},
    },
    simulated::Oddities,
    tests::scene::{NOW, Scene},
    verdict::Verdict,
};

pub(crate) struct Whole {
    scene: Scene,
    gpus: Gpus,
    pub(crate) bundle: EvidenceBundle,
    purpose: Purpose,
}

impl Whole {
    pub(crate) fn new(count: u64) -> Self {
        Self::of(count, Purpose::Identity, |_| {})
    }

    fn of(count: u64, purpose: Purpose, change: impl Fn(&mut NvidiaEvidence)) -> Self {
        let names: Vec<String> = (0..count).map(|at| format!("gpu-{at}")).collect();
        let mut scene = Scene::with(|launch| launch.gpus.clone_from(&names));
        let maker = SimulatedNvidia::create(NOW).expect("a simulated maker");
        let gpus = Gpus::of(maker, count);
        scene.anchors.nvidia = gpus.roots.clone();
        scene.time = JudgeTime::Now(NOW);
        let mut claims = scene.claims(purpose);
        let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
        let mut bundle = scene.evidence(purpose);
        for (at, name) in names.iter().enumerate() {
            let mut evidence = gpus.evidence_over(at, &Report::new(nonce));
            change(&mut evidence);
            let bytes = serde_json::to_vec(&evidence).expect("JSON");
            let digest = digest::digest(&digest::SHA256, &bytes);
            let digest = FixedHex(digest.as_ref().try_into().expect("32 bytes"));
            claims.gpu.push(GpuClaim { device: name.clone(), digest });
            let evidence = Base64Bytes(bytes);
            bundle.gpu.push(GpuEvidence { device: name.clone(), evidence });
        }
        bundle.gpu_collateral = Some(gpus.collateral.clone());
        let claims = claims.canonical_bytes().expect("claims");
        scene.requote(&mut bundle, &claims, &Oddities::default());
        Self { scene, gpus, bundle, purpose }
    }

    /// A whole machine in protected PCIe mode. The launch configuration lists its GPUs; `change` may add to what it lists.
    fn of_machine(change: impl Fn(&mut Vec<String>)) -> Self {
        let mut names: Vec<String> = (0..8).map(|at| format!("gpu-{at}")).collect();
        change(&mut names);
        let mut scene = Scene::with(|launch| launch.gpus.clone_from(&names));
        let mut gpus = Gpus::of(SimulatedNvidia::create(NOW).expect("a simulated maker"), 0);
        let machine = gpus.maker.machine(1).expect("a simulated machine");
        gpus.collateral = gpus.maker.machine_collateral(&machine).expect("collateral");
        scene.anchors.nvidia = gpus.roots.clone();
        scene.time = JudgeTime::Now(NOW);
        let purpose = Purpose::Start;
        let mut claims = scene.claims(purpose);
        let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
        let mut bundle = scene.evidence(purpose);
        let (sent, switches) = all_evidence(&machine, nonce);
        let sent = sent.into_iter().map(|one| (one.device.clone(), DeviceEvidence::Gpu(one)));
        let switches =
            switches.into_iter().map(|one| (one.device.clone(), DeviceEvidence::Switch(one)));
        for (device, evidence) in sent.chain(switches) {
            let bytes = evidence.to_bytes().expect("writes");
            let digest = digest::digest(&digest::SHA256, &bytes);
            let digest = FixedHex(digest.as_ref().try_into().expect("32 bytes"));
            claims.gpu.push(GpuClaim { device: device.clone(), digest });
            bundle.gpu.push(GpuEvidence { device, evidence: Base64Bytes(bytes) });
        }
        bundle.gpu_collateral = Some(gpus.collateral.clone());
        let claims = claims.canonical_bytes().expect("claims");
        scene.requote(&mut bundle, &claims, &Oddities::default());
        Self { scene, gpus, bundle, purpose }
    }

    /// As a part of a receipt: nobody asks for it now.
    fn kept(&self) -> Verdict {
        let expectation = Expectation { archived: true, ..self.scene.expectation(self.purpose) };
        self.judge_for(&self.bundle, &expectation)
    }

    fn verdict(&self) -> Verdict {
        self.judge(&self.bundle)
    }

    pub(crate) fn judge(&self, bundle: &EvidenceBundle) -> Verdict {
        self.judge_for(bundle, &self.scene.expectation(self.purpose))
    }

    fn judge_for(&self, bundle: &EvidenceBundle, expectation: &Expectation) -> Verdict {
        let context = Context {
            policy: &self.scene.policy,
            references: &self.scene.references,
            anchors: &self.scene.anchors,
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
            time: self.scene.time,
        };
        appraise(bundle, expectation, &context).verdict
    }
}

#[test]
fn every_listed_gpu_is_judged_under_the_strict_policy() {
    let whole = Whole::new(2);
    let verdict = whole.verdict();
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.simulated);
    for claim in ["gpu", "gpu.0.signature", "gpu.1.firmware", "gpu.1.revocation"] {
        assert!(verdict.finding(claim).is_some(), "{claim}: {}", verdict.render());
    }
    let bytes = whole.bundle.to_bytes().expect("writes");
    assert_eq!(EvidenceBundle::parse(&bytes).expect("reads"), whole.bundle);
}

#[test]
fn a_whole_machine_is_judged_in_a_bundle() {
    let whole = Whole::of_machine(|_| {});
    let verdict = whole.verdict();
    assert!(verdict.is_accepted() && verdict.simulated, "{}", verdict.render());
    for claim in ["gpu.topology", "gpu.7.mode", "switch.8.mode", "switch.11.revocation"] {
        assert!(verdict.finding(claim).is_some(), "{claim}: {}", verdict.render());
    }
    let bytes = whole.bundle.to_bytes().expect("writes");
    assert_eq!(EvidenceBundle::parse(&bytes).expect("reads"), whole.bundle);
}

#[test]
fn what_the_launch_does_not_list_is_a_switch_and_nothing_else() {
    // Seven GPUs are listed and eight are there; a switch is listed as if it were a GPU.
    let changes: [fn(&mut Vec<String>); 2] = [
        |names| {
            names.pop();
        },
        |names| names.push("switch-0".to_owned()),
    ];
    for change in changes {
        let verdict = Whole::of_machine(change).verdict();
        assert!(!verdict.is_accepted(), "{}", verdict.render());
        assert!(verdict.has(crate::Code::GpuMissing), "{}", verdict.render());
    }
}

#[test]
fn only_identity_and_receipts_may_be_of_gpus_that_take_work() {
    for purpose in Purpose::ALL {
        for ready in [false, true] {
            let whole = Whole::of(1, purpose, |evidence| evidence.cc.gpus_ready = ready);
            let is_early = ready && matches!(purpose, Purpose::Offer | Purpose::Start);
            let verdict = whole.verdict();
            assert_eq!(verdict.is_accepted(), !is_early, "{purpose} {ready}: {}", verdict.render());
            assert_eq!(verdict.has(Code::ReadyEarly), is_early, "{purpose} {ready}");
        }
    }
}

/// One response per certificate serves every part of a receipt; of evidence that is asked for now it must be made after.
#[test]
fn a_nonce_is_required_of_responses_to_a_question_of_now() {
    for purpose in Purpose::ALL {
        let mut whole = Whole::of(1, purpose, |_| {});
        assert!(whole.verdict().is_accepted() && whole.kept().is_accepted(), "{purpose}");
        whole.scene.policy.rules.nvidia.ocsp_nonce = OcspNonceRule::Required;
        let verdict = whole.verdict();
        assert!(!verdict.is_accepted(), "{purpose}: {}", verdict.render());
        assert_eq!(verdict.finding("gpu.0.revocation").and_then(|it| it.code), Some("ST-GPU-68"));
        let verdict = whole.kept();
        assert!(verdict.is_accepted(), "{purpose}: {}", verdict.render());
        // Its own time counts, and that it is there.
        let end = valid_until(&whole.gpus.collateral.ocsp[0].response.0).expect("ends");
        whole.scene.time = JudgeTime::Now(end + 1);
        assert!(whole.kept().has(Code::OcspTime), "{purpose}");
        whole.scene.time = JudgeTime::Now(NOW);
        whole.bundle.gpu_collateral.as_mut().expect("sent").ocsp.clear();
        assert!(whole.kept().has(Code::OcspMissing), "{purpose}");
    }
}

#[test]
fn parts_stand_in_the_order_of_the_claims_under_the_names_of_the_launch() {
    let mut whole = Whole::new(2);
    whole.bundle.gpu.reverse();
    let verdict = whole.verdict();
    assert!(!verdict.is_accepted() && verdict.has(crate::Code::GpuDigest), "{}", verdict.render());

    // An agent that says of two GPUs what no launch configuration lists.
    let mut whole = Whole::new(2);
    let mut claims = crate::Claims::parse(&whole.bundle.claims.0).expect("claims");
    for (claim, sent) in claims.gpu.iter_mut().zip(&mut whole.bundle.gpu) {
        claim.device.push('x');
        sent.device.clone_from(&claim.device);
    }
    let claims = claims.canonical_bytes().expect("claims");
    whole.scene.requote(&mut whole.bundle, &claims, &Oddities::default());
    let verdict = whole.verdict();
    assert!(!verdict.is_accepted() && verdict.has(crate::Code::GpuMissing), "{}", verdict.render());
}

#[test]
fn a_vm_that_is_not_believed_vouches_for_no_gpu() {
    let mut whole = Whole::new(1);
    whole.scene.references.clear();
    let verdict = whole.verdict();
    assert!(!verdict.is_accepted());
    assert!(verdict.has(Code::GuestUnverified), "{}", verdict.render());
}

#[test]
fn without_collateral_a_genuine_gpu_is_not_enough() {
    let mut whole = Whole::new(1);
    whole.bundle.gpu_collateral = None;
    let verdict = whole.verdict();
    assert!(!verdict.is_accepted());
    assert!(verdict.codes().any(|code| code.starts_with("ST-GPU-")), "{}", verdict.render());
}

#[test]
fn simulated_gpus_lead_to_no_root_of_nvidia() {
    let mut whole = Whole::new(1);
    whole.scene.anchors.nvidia = crate::nvidia::NvidiaRoots::nvidia();
    assert!(whole.gpus.roots.is_simulated());
    assert!(!whole.verdict().is_accepted());
}
