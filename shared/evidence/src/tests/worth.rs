//! What holds of evidence before there is collateral.

use super::{
    hardware::{quote_of, vector},
    scene::Scene,
};
use crate::{
    EvidenceBundle, GpuEvidence, Purpose,
    anchor::INTEL_ROOT,
    claims::{Claims, gpu_nonce},
    collateral::{Worth, keep_genuine_devices},
    nvidia::{
        NvidiaRoots,
        simulated::{Report as GpuReport, SimulatedNvidia},
    },
    pck_chain, quote_signature,
};

#[test]
fn a_quote_is_worth_it_only_as_its_machine_signed_it() {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Offer);
    let root = pck_chain::sha256(&scene.platform.root_der());
    let worth = |bundle: &EvidenceBundle| Worth::under(&root, bundle);
    assert_eq!(worth(&bundle), Worth::Signed);
    assert_eq!(Worth::of_platform(&bundle), Worth::Nothing, "the root is not Intel's");
    // Of a certificate the sender may change nothing either, and of another VM's evidence he has nothing.
    let length = bundle.quote.0.len();
    for at in (0..700).chain((700..length).step_by(7)) {
        let mut changed = bundle.clone();
        changed.quote.0[at] ^= 1;
        // Two bytes of the header, and the second form of a signature, are nobody's.
        assert_eq!(worth(&changed), Worth::Nothing, "byte {at}");
    }
    let mut claims = bundle.clone();
    claims.claims.0.push(b' ');
    let mut launch = bundle.clone();
    launch.launch.0.push(b' ');
    for changed in [claims, launch] {
        assert_eq!(worth(&changed), Worth::Nothing);
    }
}

#[test]
fn real_quotes_are_signed_under_intels_root() {
    let Some(report) = vector("tdx/gpu-vm-local-sgx.quote-report.json") else { return };
    let padded = quote_of(&report, "quote");
    let quote = crate::quote::without_padding(&padded).expect("zero padding");
    assert!(quote_signature::leads_to(&INTEL_ROOT, quote));
    let chain = quote.windows(10).position(|it| it == b"-----BEGIN").expect("certificates");
    // Everything before the certificates, and what is signed of the machine's own.
    for at in (0..chain + 1500).step_by(5) {
        let mut changed = quote.to_vec();
        changed[at] ^= 1;
        assert!(!quote_signature::leads_to(&INTEL_ROOT, &changed), "byte {at}");
    }
}

#[test]
fn only_genuine_devices_that_answer_this_bundle_are_asked_about() {
    let now = 1_795_000_000;
    let maker = SimulatedNvidia::create(now).expect("a maker");
    let gpu = maker.gpu(1).expect("a GPU");
    let mut bundle = Scene::new().evidence(Purpose::Offer);
    let claims = Claims::parse(&bundle.claims.0).expect("claims");
    let nonce = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, &claims.hpke.key.0);
    let evidence = |nonce: [u8; 32]| {
        let evidence = gpu.evidence("gpu-0", &GpuReport::new(nonce)).expect("evidence");
        let evidence = serde_json::to_vec(&evidence).expect("JSON").into();
        GpuEvidence { device: "gpu-0".into(), evidence }
    };
    let genuine = evidence(nonce);
    bundle.gpu = vec![evidence([7; 32]), genuine.clone()];
    let kept = |roots: &NvidiaRoots, now| {
        let mut bundle = bundle.clone();
        keep_genuine_devices(&mut bundle, roots, now);
        bundle.gpu
    };
    assert_eq!(kept(&maker.roots(), now), [genuine]);
    assert_eq!(kept(&NvidiaRoots::nvidia(), now), []);
    assert_eq!(kept(&maker.roots(), 0), [], "before its certificates begin");
    bundle.claims.0.clear();
    keep_genuine_devices(&mut bundle, &maker.roots(), now);
    assert_eq!(bundle.gpu, []);
}
