use super::*;
use crate::{
    Anchors, Collateral, FixedHex, JudgeTime, Outcome, Policy, ReferenceValues, Shape,
    policy::ListedImages,
    reference::{FileDigests, ImageFacts, Profile, RegisterRow},
};

/// Of the vectors: the collateral is up to date at this time.
const THEN: u64 = 1_772_708_331;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("SEALTUNE_VECTORS").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").to_owned()
    });
    let read = std::fs::read(format!("{folder}/tdx/{name}"));
    if read.is_err() {
        println!("skipped: no test vectors in {folder}");
    }
    read.ok()
}

struct Scene {
    file: serde_json::Value,
    collateral: Collateral,
    listed: ListedImages,
    references: Vec<ReferenceValues>,
    report_data: [u8; 64],
}

impl Scene {
    /// A real VM, with everything in the verifier's lists that it shows.
    fn new() -> Option<Self> {
        let bytes = vector("gpu-vm-local-sgx.quote-report.json")?;
        let collateral = vector("gpu-vm-local-sgx.collateral.json")?;
        let report = DstackReport::parse(&bytes).expect("a report");
        let quote = TdxQuote::parse(without_padding(&report.quote).expect("a quote"));
        let quote = quote.expect("a quote");
        let (identity, _) = read_log(&quote, &report.event_log).expect("a log");
        let registers = BootRegisters {
            mrtd: quote.mrtd,
            rtmr0: quote.rtmr[0],
            rtmr1: quote.rtmr[1],
            rtmr2: quote.rtmr[2],
        };
        let shape = Shape { vcpus: 1, memory_mib: 1024 };
        let row = RegisterRow::recorded(Hex48::from([7; 48]), shape, &registers);
        let facts = ImageFacts {
            release: "dstack".into(),
            profile: Profile::Prod,
            cmdline: String::new(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        Some(Self {
            file: serde_json::from_slice(&bytes).expect("JSON"),
            collateral: Collateral::parse(&collateral).expect("collateral"),
            listed: ListedImages {
                compose_hashes: vec![identity.compose_hash],
                os_images: vec![identity.os_image_hash.unwrap_or(FixedHex([1; 32]))],
            },
            references: vec![ReferenceValues::from_rows(facts, vec![row], vec![]).expect("rows")],
            report_data: quote.report_data,
        })
    }

    fn judge_with(&self, policy: &Policy, report_data: Option<&[u8; 64]>) -> Verdict {
        let report = DstackReport::parse(self.file.to_string().as_bytes()).expect("a report");
        let anchors = Anchors::default();
        let context = Context {
            policy,
            references: &self.references,
            anchors: &anchors,
            collateral: Some(&self.collateral),
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::At(THEN),
        };
        appraise_dstack(&report, report_data, &context)
    }

    fn judge(&self) -> Verdict {
        let policy = Policy::by_name("dstack", &self.listed).expect("exists").expect("parses");
        self.judge_with(&policy, Some(&self.report_data))
    }
}

#[test]
fn a_real_vm_passes_when_everything_it_shows_is_listed() {
    let Some(scene) = Scene::new() else { return };
    let verdict = scene.judge();
    assert_eq!(verdict.outcome(), Outcome::Accepted, "{}", verdict.render());
    assert!(!verdict.simulated);
    assert!(verdict.finding("event-log").is_some_and(|it| it.code.is_none()));
}

#[test]
fn each_thing_that_is_not_as_listed_is_named() {
    type Change = fn(&mut Scene);
    let changes: [(&str, Code, Change); 3] = [
        ("compose", Code::ComposeUnlisted, |s| s.listed.compose_hashes[0].0[0] ^= 1),
        ("boot", Code::FirmwareUnknown, |s| s.references.clear()),
        ("report data", Code::NonceOther, |s| s.report_data[63] ^= 1),
    ];
    for (what, code, change) in changes {
        let Some(mut scene) = Scene::new() else { return };
        change(&mut scene);
        let verdict = scene.judge();
        assert!(verdict.has(code) && !verdict.is_accepted(), "{what}: {}", verdict.render());
    }
    let Some(scene) = Scene::new() else { return };
    let verdict = scene.judge_with(&Policy::strict(), Some(&scene.report_data));
    assert!(verdict.has(Code::DstackNotAllowed) && !verdict.is_accepted());
    let policy = Policy::by_name("dstack", &scene.listed).expect("exists").expect("parses");
    assert!(scene.judge_with(&policy, None).has(Code::ReportDataNotGiven));
    // The release whose registers these are, not one that the VM names.
    let mut policy = policy;
    policy.rules.releases = vec!["another".into()];
    let verdict = scene.judge_with(&policy, Some(&scene.report_data));
    assert!(verdict.has(Code::ReleaseNotAllowed) && !verdict.is_accepted());
    policy.rules.releases = vec![scene.references[0].release.clone()];
    assert!(scene.judge_with(&policy, Some(&scene.report_data)).is_accepted());
}

#[test]
fn an_edited_log_or_quote_is_refused() {
    let Some(mut scene) = Scene::new() else { return };
    let log =
        scene.file["event_log"].as_str().expect("text").replacen("compose-hash", "compose-hasi", 1);
    scene.file["event_log"] = log.into();
    let verdict = scene.judge();
    assert!(!verdict.is_accepted());
    assert!(verdict.codes().any(|code| code.starts_with("ST-LOG-")), "{}", verdict.render());

    let Some(mut scene) = Scene::new() else { return };
    let mut quote = scene.file["quote"].as_str().expect("text").to_owned();
    quote.replace_range(400..402, if &quote[400..402] == "00" { "01" } else { "00" });
    scene.file["quote"] = quote.into();
    assert!(!scene.judge().is_accepted());
}

#[test]
fn what_is_no_report_is_refused() {
    for bad in ["", "{}", "[]", r#"{"quote":"zz","event_log":"[]"}"#, r#"{"quote":"00"}"#] {
        let error = DstackReport::parse(bad.as_bytes()).expect_err(bad);
        assert_eq!(error.entry(), Code::DstackReport);
        fuzz_dstack_report(bad.as_bytes());
    }
    assert!(DstackReport::parse(br#"{"quote":"00","event_log":[],"more":1}"#).is_ok());
    assert!(DstackReport::parse(&vec![b' '; MAX_DSTACK_REPORT_BYTES + 1]).is_err());
}

#[test]
fn mrconfigid_is_unset_or_of_the_compose_file() {
    let compose = FixedHex([7; 32]);
    let mut of_it = [0; 48];
    of_it[0] = 1;
    of_it[1..33].fill(7);
    let changed = |at: usize| {
        let mut value = of_it;
        value[at] ^= 2;
        value
    };
    for (value, good) in [
        ([0; 48], true),
        (of_it, true),
        (changed(0), false),
        (changed(1), false),
        (changed(32), false),
        (changed(47), false),
    ] {
        let mut findings = Findings::default();
        judge_config_id("launch", &FixedHex(value), &compose, &mut findings);
        assert_eq!(findings.hold_so_far(), good, "{value:02x?}");
    }
}
