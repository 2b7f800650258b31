//! An SNP report as part of evidence: what the rest of a bundle must say beside it.

use super::scene::{self, HOST_DATA, MEASUREMENT, REPORT_DATA};
use crate::{
    Anchors, Appraisal, Code as Evid, Context, EvidenceBundle, JudgeTime, Policy, Purpose, Tee,
    appraise,
    base64_bytes::Base64Bytes,
    claims::report_data,
    collateral::AmdFacts,
    event_log::{Event, EventLog},
    reference::{ReferenceValues, SnpRow},
    snp::{Roots, SnpCollateral, SnpRules, codes::Code as SnpCode},
    tests::scene::Scene as BundleScene,
    verdict::Status,
};

pub(crate) struct Whole {
    snp: scene::Scene,
    scene: BundleScene,
    policy: Policy,
    references: Vec<ReferenceValues>,
    roots: Option<Roots>,
}

impl Whole {
    pub(crate) fn new() -> Self {
        let (snp, scene) = (scene::Scene::new(), BundleScene::new());
        let mut policy = Policy::strict();
        policy.rules.snp = snp.rules.clone();
        let mut references = scene.references.clone();
        references[0].snp = vec![SnpRow {
            firmware: references[0].registers[0].firmware,
            vcpus: scene.launch.shape.vcpus,
            measurement: MEASUREMENT,
        }];
        Self { snp, scene, policy, references, roots: None }
    }

    pub(crate) fn bundle(&mut self, purpose: Purpose) -> EvidenceBundle {
        let mut bundle = self.scene.evidence(purpose);
        let launch = self.scene.launch.host_data().expect("valid");
        self.snp.set(0x050, &report_data(&bundle.claims.0));
        self.snp.set(0x0c0, launch.as_bytes());
        bundle.tee = Tee::Snp;
        bundle.quote = Base64Bytes(self.snp.signed());
        bundle.event_log = EventLog::default();
        bundle.collateral = None;
        bundle.snp_collateral = Some(self.snp.plan.collateral());
        bundle
    }

    pub(crate) fn appraise(&self, bundle: &EvidenceBundle, purpose: Purpose) -> Appraisal {
        let roots = self.roots.clone().unwrap_or_else(|| self.snp.plan.roots());
        let context = Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &Anchors { snp: roots, ..Anchors::default() },
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::Now(self.snp.now),
        };
        appraise(bundle, &self.scene.expectation(purpose), &context)
    }
}

#[test]
fn a_whole_bundle_is_accepted_under_a_named_root_and_says_simulated() {
    let mut whole = Whole::new();
    let bundle = whole.bundle(Purpose::Offer);
    let read = EvidenceBundle::parse(&bundle.to_bytes().expect("writes")).expect("reads");
    let verdict = whole.appraise(&read, Purpose::Offer).verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert!(verdict.simulated && verdict.render().contains("SIMULATED"));
    whole.roots = Some(Roots::amd());
    let verdict = whole.appraise(&read, Purpose::Offer).verdict;
    assert!(!verdict.is_accepted(), "AMD's roots do not lead to a simulated chain");
    assert!(
        verdict
            .claims
            .iter()
            .all(|claim| { claim.status != Status::Affirming || claim.anchor == "form" })
    );
}

#[test]
fn strict_accepts_no_snp_vm_and_says_why() {
    let mut whole = Whole::new();
    let bundle = whole.bundle(Purpose::Offer);
    let minimum_tcb = whole.policy.rules.snp.minimum_tcb.clone();
    whole.policy.rules.snp = SnpRules { minimum_tcb, ..SnpRules::default() };
    let verdict = whole.appraise(&bundle, Purpose::Offer).verdict;
    assert!(!verdict.is_accepted());
    assert!(verdict.has(SnpCode::HostAcpi), "{}", verdict.render());
}

/// What a client remembers: only of lists that verify with report and chain, and of AMD's roots alone.
#[test]
fn the_number_of_a_list_counts_if_everything_verifies() {
    let mut scene = scene::Scene::new();
    let (report, roots) = (scene.signed(), scene.plan.roots());
    let collateral = scene.plan.collateral();
    let read = |report: &[u8], collateral: &SnpCollateral, now| {
        AmdFacts::verified(report, collateral, &roots, now).map(|(_, crl)| crl.0[19])
    };
    let now = scene.now;
    assert_eq!(read(&report, &collateral, now), Some(7));
    assert_eq!(AmdFacts::of_hardware(&report, &collateral, &roots, now), None, "simulated");
    assert_eq!(read(&report, &collateral, now + 366 * 86_400), None, "the list has ended");
    let mut other = report.clone();
    other[0x50] ^= 1;
    assert_eq!(read(&other, &collateral, now), None, "another report");
    scene.plan.crl = None;
    assert_eq!(read(&report, &scene.plan.collateral(), now), None, "no list");
}

#[test]
fn a_started_job_is_never_affirmed() {
    let mut whole = Whole::new();
    let bundle = whole.bundle(Purpose::Start);
    let verdict = whole.appraise(&bundle, Purpose::Start).verdict;
    let finding = verdict.finding("job-started").expect("it is said");
    assert_eq!(finding.status, Status::Unknown);
}

type Change = fn(&mut Whole, &mut EvidenceBundle);

#[test]
fn each_part_of_the_bundle_must_belong_to_the_report() {
    let changes: [(&str, &str, Change); 7] = [
        ("claims", SnpCode::ReportData.as_str(), |_, bundle| {
            let text = String::from_utf8(bundle.claims.0.clone()).expect("text");
            bundle.claims.0 = text.replacen("1111", "1112", 1).into_bytes();
        }),
        ("launch", SnpCode::HostData.as_str(), |whole, bundle| {
            let mut other = whole.scene.launch.clone();
            other.shape.memory_mib += 1;
            bundle.launch.0 = other.canonical_bytes().expect("valid");
        }),
        ("event log", Evid::RegistersNone.as_str(), |_, bundle| {
            bundle.event_log.push(Event::new(3, "job-start", vec![1; 32]));
        }),
        ("collateral of TDX", Evid::TeeOther.as_str(), |whole, bundle| {
            bundle.collateral = whole.scene.evidence(Purpose::Offer).collateral;
        }),
        ("no certificates", SnpCode::CollateralMissing.as_str(), |_, bundle| {
            bundle.snp_collateral = None;
        }),
        ("another release's launch digest", SnpCode::MeasurementUnknown.as_str(), |whole, _| {
            whole.references[0].snp[0].measurement.0[0] ^= 1;
        }),
        ("no launch digests", SnpCode::MeasurementNotGiven.as_str(), |whole, _| {
            whole.references[0].snp.clear();
        }),
    ];
    for (what, code, change) in changes {
        let mut whole = Whole::new();
        let mut bundle = whole.bundle(Purpose::Offer);
        assert!(whole.appraise(&bundle, Purpose::Offer).verdict.is_accepted());
        change(&mut whole, &mut bundle);
        let verdict = whole.appraise(&bundle, Purpose::Offer).verdict;
        assert!(!verdict.is_accepted(), "{what}");
        assert!(verdict.codes().any(|found| found == code), "{what}: {}", verdict.render());
    }
}

#[test]
fn one_kind_of_evidence_does_not_pass_as_the_other() {
    let mut whole = Whole::new();
    let mut bundle = whole.bundle(Purpose::Offer);
    bundle.tee = Tee::Tdx;
    assert!(!whole.appraise(&bundle, Purpose::Offer).verdict.is_accepted());
    let mut quote = whole.scene.evidence(Purpose::Offer);
    quote.tee = Tee::Snp;
    assert!(!whole.appraise(&quote, Purpose::Offer).verdict.is_accepted());
    // The scene of the report alone stands for other claims.
    let mut alone = scene::Scene::new();
    alone.set(0x050, &REPORT_DATA);
    alone.set(0x0c0, HOST_DATA.as_bytes());
    let mut bundle = whole.bundle(Purpose::Offer);
    bundle.quote = Base64Bytes(alone.signed());
    let verdict = whole.appraise(&bundle, Purpose::Offer).verdict;
    assert!(verdict.has(SnpCode::ReportData) && verdict.has(SnpCode::HostData));
}
