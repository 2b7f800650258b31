//! A whole verdict on a real TDX VM (28 events) beside dcap-qvl's own verification of the same quote, in one run.
//! `SEALTUNE_VECTORS=… cargo bench -p sealtune-evidence --bench verdict`

use std::{hint::black_box, path::PathBuf};

use dcap_qvl::{QuoteCollateralV3, QuotePolicy, verify::QuoteVerifier};
use divan::Bencher;
use sealtune_evidence::{
    Anchors, BootRegisters, Collateral, Context, FileDigests, Hex48, ImageFacts, JudgeTime, Policy,
    Profile, ReferenceValues, Shape, TdxQuote,
    appraise::{DstackReport, appraise_dstack},
    logs::{DstackIdentity, DstackLog},
    policy::ListedImages,
    reference::RegisterRow,
};

/// The collateral is up to date at this time.
const THEN: u64 = 1_772_708_331;

fn main() {
    divan::main();
}

struct Scene {
    file: Vec<u8>,
    quote: Vec<u8>,
    report_data: [u8; 64],
    collateral: Collateral,
    policy: Policy,
    references: Vec<ReferenceValues>,
}

impl Scene {
    /// With what the VM shows on the verifier's lists; `None` where the vectors are not.
    fn read() -> Option<Self> {
        let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
            PathBuf::from,
        );
        let vector = |name: &str| std::fs::read(root.join("tdx").join(name)).ok();
        let file = vector("gpu-vm-local-sgx.quote-report.json")?;
        let collateral = vector("gpu-vm-local-sgx.collateral.json")?;
        let quote = DstackReport::parse(&file).ok()?.as_bundle().quote.0;
        let parsed = TdxQuote::parse(&quote).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&file).ok()?;
        let log = DstackLog::parse(json["event_log"].as_str()?.as_bytes()).ok()?;
        let identity = DstackIdentity::read(&log).ok()?;
        let listed = ListedImages {
            compose_hashes: vec![identity.compose_hash],
            os_images: vec![[1; 32].into()],
        };
        let registers = BootRegisters {
            mrtd: parsed.mrtd,
            rtmr0: parsed.rtmr[0],
            rtmr1: parsed.rtmr[1],
            rtmr2: parsed.rtmr[2],
        };
        let shape = Shape { vcpus: 1, memory_mib: 1024 };
        let row = RegisterRow::recorded(Hex48::from([7; 48]), shape, &registers);
        let facts = ImageFacts {
            release: "dstack".to_owned(),
            profile: Profile::Prod,
            cmdline: String::new(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        Some(Self {
            collateral: Collateral::parse(&collateral).ok()?,
            policy: Policy::by_name("dstack", &listed)?.ok()?,
            references: vec![ReferenceValues::from_rows(facts, vec![row], vec![]).ok()?],
            report_data: parsed.report_data,
            quote,
            file,
        })
    }
}

#[divan::bench]
fn bare_quote(bencher: Bencher<'_, '_>) {
    let Some(scene) = Scene::read() else { return println!("skipped: no vectors") };
    let collateral = QuoteCollateralV3::from(&scene.collateral);
    let policy = QuotePolicy::claims_only(THEN);
    bencher.bench(|| {
        let verifier = QuoteVerifier::new_prod();
        let done = verifier.verify_with_policy(black_box(&scene.quote), &collateral, THEN, &policy);
        assert!(done.is_ok());
    });
}

/// From the file's bytes to the verdict, on one thread and on two.
#[divan::bench(threads = [1, 2])]
fn whole_verdict(bencher: Bencher<'_, '_>) {
    let Some(scene) = Scene::read() else { return println!("skipped: no vectors") };
    let anchors = Anchors::default();
    let context = Context {
        policy: &scene.policy,
        references: &scene.references,
        anchors: &anchors,
        collateral: Some(&scene.collateral),
        snp_collateral: None,
        gpu_collateral: None,
        time: JudgeTime::At(THEN),
    };
    bencher.bench(|| {
        let report = DstackReport::parse(black_box(&scene.file));
        let verdict =
            report.map(|report| appraise_dstack(&report, Some(&scene.report_data), &context));
        assert!(verdict.is_ok_and(|verdict| verdict.is_accepted()));
    });
}
