//! Evidence of a dstack VM, made with the simulated platform: good for every purpose, and one change for each rule.

use serde_json::Value;

use super::{
    hardware::vector,
    scene::{NOW, SPEC, Scene},
};
use crate::{
    Collateral, EvidenceBundle, FixedHex, Hex32, Hex48, JudgeTime, Policy, Profile, Purpose,
    ReferenceValues, Shape, Status, Tee,
    anchor::Anchors,
    appraise::DstackReport,
    base64_bytes::Base64Bytes,
    bundle::BundleError,
    codes::Code,
    dstack::Code as DstackCode,
    event_log::{JOB_START_EVENT, LAUNCH_EVENT},
    logs::{Code as LogCode, DigestVersion, DstackLog},
    policy::ListedImages,
    quote::without_padding,
    reference::RegisterRow,
    simulated::SimulatedDstack,
    verdict::{Cause, Verdict},
};

const COMPOSE: [u8; 32] = SimulatedDstack::COMPOSE;
const OS_IMAGE: [u8; 32] = SimulatedDstack::OS_IMAGE;
const SHAPE: Shape = crate::layout1::tests::SHAPE;

/// A dstack VM before its quote: what a test changes.
struct Vm {
    scene: Scene,
    guest: SimulatedDstack,
    listed: ListedImages,
    policy: &'static str,
}

impl Vm {
    /// In the state that evidence for `purpose` needs, with a guest agent that can extend.
    fn new(purpose: Purpose) -> Self {
        let scene = Scene::new();
        let launch = scene.launch.digest().expect("valid").0;
        let mut events = vec![(LAUNCH_EVENT, launch.0.to_vec())];
        if purpose.follows_job_start() {
            events.push((JOB_START_EVENT, SPEC.0.to_vec()));
        }
        Self {
            scene,
            guest: SimulatedDstack::new(events),
            listed: ListedImages {
                compose_hashes: vec![FixedHex(COMPOSE)],
                os_images: vec![FixedHex(OS_IMAGE)],
            },
            policy: "dstack",
        }
    }

    fn bundle(&self, purpose: Purpose) -> EvidenceBundle {
        let Scene { platform, launch, .. } = &self.scene;
        let claims = self.scene.claims(purpose);
        self.guest.evidence(platform, launch, &claims, NOW).expect("evidence")
    }

    /// What the verifier knows of the VM's boot; the log of a good VM has its registers.
    fn references(&self) -> Vec<ReferenceValues> {
        vec![Self::new(Purpose::Identity).guest.references(SHAPE).expect("values")]
    }

    fn judge(&mut self, purpose: Purpose, bundle: &EvidenceBundle) -> Verdict {
        let listed = match self.policy {
            "dstack" => self.listed.clone(),
            _ => ListedImages::default(),
        };
        self.scene.policy = Policy::by_name(self.policy, &listed).expect("exists").expect("parses");
        if self.scene.references.iter().all(|values| values.release != "dstack-0.5.5") {
            self.scene.references = self.references();
        }
        self.scene.appraise(bundle, purpose).verdict
    }

    fn verdict(&mut self, purpose: Purpose) -> Verdict {
        let bundle = self.bundle(purpose);
        self.judge(purpose, &bundle)
    }
}

#[test]
fn evidence_for_each_purpose_is_accepted_in_both_digest_versions() {
    for (purpose, version) in
        Purpose::ALL.into_iter().flat_map(|it| [(it, DigestVersion::V1), (it, DigestVersion::V2)])
    {
        let mut vm = Vm::new(purpose);
        vm.guest.version = version;
        let bundle = vm.bundle(purpose);
        let read = EvidenceBundle::parse(&bundle.to_bytes().expect("writes")).expect("reads");
        assert_eq!(read, bundle);
        let verdict = vm.judge(purpose, &read);
        assert!(verdict.is_accepted(), "{purpose} {version:?}\n{}", verdict.render());
        let status = |claim| verdict.finding(claim).map(|found| found.status);
        assert_eq!(status("launch"), Some(Status::Warning), "never affirmed");
        for claim in ["report-data", "compose", "os-image", "boot", "profile", "shape", "layers"] {
            assert_eq!(status(claim), Some(Status::Affirming), "{claim}");
        }
        assert_eq!(status("runtime-events"), Some(Status::Affirming));
        assert!(verdict.has(DstackCode::LaunchBySoftware));
        assert!(verdict.policy.tolerates.iter().any(|text| text.contains("compose file binds")));
    }
}

/// Images without `EmitEvent`: the word of the compose file's software, and the verdict says so.
#[test]
fn without_events_it_is_unknown_whether_a_job_started() {
    for purpose in Purpose::ALL {
        let mut vm = Vm::new(purpose);
        vm.guest.events.clear();
        let verdict = vm.verdict(purpose);
        assert!(verdict.is_accepted(), "{}", verdict.render());
        let found = verdict.finding("job-started").expect("it is said");
        assert_eq!(found.status, Status::Unknown);
        assert!(verdict.has(DstackCode::RegisterClosed));
        assert!(verdict.finding("runtime-events").is_none());
    }
}

#[test]
fn events_of_other_software_are_shown_and_change_nothing() {
    let mut vm = Vm::new(Purpose::Start);
    vm.guest.events.insert(0, ("app-started", b"x".to_vec()));
    vm.guest.events.push(("job-started", SPEC.0.to_vec()));
    let verdict = vm.verdict(Purpose::Start);
    assert!(verdict.is_accepted(), "{}", verdict.render());
    let found = verdict.finding("other-events").map(|found| found.value.as_str());
    assert_eq!(found, Some("2 events of other software"));
}

#[test]
fn each_rule_has_its_code() {
    type Change = fn(&mut Vm);
    let before = Purpose::Offer;
    let after = Purpose::Receipt;
    let of_it = |vm: &Vm| {
        let mut value = Hex48::ZERO;
        value.0[0] = 1;
        value.0[1..33].copy_from_slice(&vm.guest.compose);
        value
    };
    let good = {
        let mut vm = Vm::new(before);
        vm.guest.mr_config_id = of_it(&vm);
        vm.verdict(before)
    };
    assert!(good.is_accepted(), "{}", good.render());
    let cases: &[(&str, Purpose, &str, Change)] = &[
        ("compose", before, Code::ComposeUnlisted.code(), |vm| vm.guest.compose[0] ^= 1),
        ("os image", before, Code::OsImageUnlisted.code(), |vm| vm.guest.os_image = Some([9; 32])),
        ("config id", before, Code::LaunchMismatch.code(), |vm| vm.guest.mr_config_id.0[0] = 1),
        ("sealtune's config id", before, Code::LaunchMismatch.code(), |vm| {
            vm.guest.mr_config_id = vm.scene.launch.mr_config_id().expect("valid");
        }),
        ("boot", before, Code::FirmwareUnknown.code(), |vm| {
            vm.scene.references = vm.references();
            vm.scene.references[0].registers[0].rtmr2.0[0] ^= 1;
        }),
        ("shape", before, Code::ShapeUnknown.code(), |vm| {
            vm.scene.references = vm.references();
            vm.scene.references[0].registers[0].vcpus += 1;
        }),
        ("profile of a real VM", before, Code::ProfileDev.code(), |vm| {
            vm.scene.references = vm.references();
            vm.scene.references[0].profile = Profile::Dev;
            vm.scene.anchors = Anchors::default();
        }),
        ("policy strict", before, Code::DstackNotAllowed.code(), |vm| vm.policy = "strict"),
        ("launch, strict", before, DstackCode::LaunchBySoftware.code(), |vm| vm.policy = "strict"),
        ("launch, 0g", before, DstackCode::LaunchBySoftware.code(), |vm| vm.policy = "0g"),
        ("early launch event", before, LogCode::EventUnknown.code(), |vm| {
            vm.guest.early = vm.guest.events.pop();
        }),
        ("late identity", before, LogCode::LateIdentity.code(), |vm| {
            vm.guest.events.push(("compose-hash", COMPOSE.to_vec()));
        }),
        ("two launches", before, Code::LogLaunchRepeated.code(), |vm| {
            vm.guest.events.push(vm.guest.events[0].clone());
        }),
        ("another launch", before, Code::LogLaunchPayload.code(), |vm| {
            vm.guest.events[0].1[0] ^= 1
        }),
        ("short launch", before, Code::LogLaunchPayload.code(), |vm| {
            vm.guest.events[0].1.pop();
        }),
        ("a job before", before, Code::LogJobStartEarly.code(), |vm| {
            vm.guest.events.push((JOB_START_EVENT, SPEC.0.to_vec()));
        }),
        ("no job", after, Code::LogJobStartMissing.code(), |vm| {
            vm.guest.events.pop();
        }),
        ("two jobs", after, Code::LogJobStartRepeated.code(), |vm| {
            vm.guest.events.push(vm.guest.events[1].clone());
        }),
        ("another job", after, Code::LogJobStartPayload.code(), |vm| vm.guest.events[1].1[0] ^= 1),
        ("order", after, DstackCode::EventOrder.code(), |vm| vm.guest.events.swap(0, 1)),
        ("job alone", after, DstackCode::EventOrder.code(), |vm| {
            vm.guest.events.remove(0);
        }),
    ];
    for (what, purpose, code, change) in cases {
        let mut vm = Vm::new(*purpose);
        change(&mut vm);
        let verdict = vm.verdict(*purpose);
        assert!(!verdict.is_accepted(), "{what}\n{}", verdict.render());
        assert!(verdict.codes().any(|found| found == *code), "{what}\n{}", verdict.render());
    }
}

#[test]
fn every_part_of_the_bundle_counts() {
    type Change = fn(&mut EvidenceBundle);
    let cases: &[(&str, &str, Change)] = &[
        ("claims", Code::ReportData.code(), |b| {
            let claims = String::from_utf8(b.claims.0.clone()).expect("text");
            b.claims.0 = claims.replacen("\"attempt\":\"1\"", "\"attempt\":\"2\"", 1).into_bytes();
        }),
        ("launch", Code::LaunchClaim.code(), |b| {
            let text = String::from_utf8(b.launch.0.clone()).expect("text");
            let at = text.find("\"token_hash\":\"").expect("there") + 14;
            let mut bytes = text.into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            b.launch.0 = bytes;
        }),
        ("log of another moment", LogCode::Replay.code(), |b| {
            let log = b.dstack_log.as_mut().expect("a log");
            let mut events: Vec<Value> = serde_json::from_slice(&log.0).expect("JSON");
            events.pop();
            log.0 = serde_json::to_vec(&events).expect("JSON");
        }),
        ("log that is none", LogCode::JsonUnreadable.code(), |b| {
            b.dstack_log = Some(Base64Bytes(b"{}".to_vec()));
        }),
        ("no log", Code::BundleLog.code(), |b| b.dstack_log = None),
        ("empty log", Code::BundleField.code(), |b| b.dstack_log = Some(Base64Bytes(vec![]))),
        ("long log", Code::BundleField.code(), |b| {
            b.dstack_log = Some(Base64Bytes(vec![b' '; (1 << 20) + 1]));
        }),
        ("two logs", Code::BundleLog.code(), |b| {
            b.event_log.push(crate::Event::new(0, "firmware", vec![1]));
        }),
        ("called tdx", Code::BundleLog.code(), |b| b.tee = Tee::Tdx),
        ("called tdx, without log", Code::LogReplay.code(), |b| {
            b.tee = Tee::Tdx;
            b.dstack_log = None;
        }),
        ("called snp", Code::BundleLog.code(), |b| b.tee = Tee::Snp),
        ("other collateral", Code::TeeOther.code(), |b| {
            b.snp_collateral = Some(foreign_collateral());
        }),
        ("quote", Code::QuoteSignature.code(), |b| b.quote.0[600] ^= 1),
    ];
    for (what, code, change) in cases {
        let purpose = Purpose::Receipt;
        let mut vm = Vm::new(purpose);
        let mut bundle = vm.bundle(purpose);
        change(&mut bundle);
        let verdict = vm.judge(purpose, &bundle);
        assert!(!verdict.is_accepted(), "{what}\n{}", verdict.render());
        assert!(verdict.codes().any(|found| found == *code), "{what}\n{}", verdict.render());
    }
    let mut bundle = Vm::new(Purpose::Identity).bundle(Purpose::Identity);
    bundle.dstack_log = None;
    assert!(matches!(bundle.to_bytes(), Err(BundleError::Log(_))));
}

fn foreign_collateral() -> crate::snp::SnpCollateral {
    let part = || Base64Bytes(vec![1]);
    crate::snp::SnpCollateral { version: 1, ark: part(), ask: part(), vek: part(), crl: None }
}

#[test]
fn any_listed_row_of_the_same_registers_may_have_the_shape() {
    let purpose = Purpose::Identity;
    let mut vm = Vm::new(purpose);
    vm.scene.references = vm.references();
    let rows = &mut vm.scene.references[0].registers;
    rows.insert(0, RegisterRow { vcpus: rows[0].vcpus + 1, ..rows[0] });
    let verdict = vm.verdict(purpose);
    assert!(verdict.is_accepted(), "{}", verdict.render());
}

/// A bundle of Sealtune's own image under the policy for dstack's, and the reverse.
#[test]
fn the_two_kinds_of_images_do_not_stand_in_for_each_other() {
    let mut vm = Vm::new(Purpose::Offer);
    let own = vm.scene.evidence(Purpose::Offer);
    vm.scene.references.extend(vm.references());
    let verdict = vm.judge(Purpose::Offer, &own);
    assert!(!verdict.is_accepted() && verdict.has(Code::ImagesOther), "{}", verdict.render());
}

/// A real VM's log and quote are understood in a bundle; what lacks is that they were made over Sealtune's claims.
#[test]
fn a_real_dstack_vm_is_judged_by_the_same_rules() {
    let (Some(bytes), Some(collateral)) = (
        vector("tdx/gpu-vm-local-sgx.quote-report.json"),
        vector("tdx/gpu-vm-local-sgx.collateral.json"),
    ) else {
        return;
    };
    let report = DstackReport::parse(&bytes).expect("a report");
    let purpose = Purpose::Identity;
    let mut vm = Vm::new(purpose);
    let mut bundle = vm.bundle(purpose);
    bundle.quote.0 = without_padding(report.quote()).expect("a quote").to_vec();
    bundle.dstack_log = Some(Base64Bytes(report.event_log().to_vec()));
    bundle.collateral = Some(Collateral::parse(&collateral).expect("collateral"));
    let log = DstackLog::parse(report.event_log()).expect("a log");
    let identity = crate::logs::DstackIdentity::read(&log).expect("an identity");
    vm.listed.compose_hashes = vec![identity.compose_hash];
    vm.listed.os_images.extend(identity.os_image_hash);
    vm.scene.time = JudgeTime::At(super::hardware::UP_TO_DATE_AT);
    let verdict = vm.judge(purpose, &bundle);
    assert!(!verdict.simulated && !verdict.is_accepted());
    let status = |claim| verdict.finding(claim).map(|found| found.status);
    for claim in ["quote", "tcb", "event-log", "compose", "config-id"] {
        assert_eq!(status(claim), Some(Status::Affirming), "{claim}\n{}", verdict.render());
    }
    assert!(verdict.has(Code::ReportData) && verdict.has(Code::FirmwareUnknown));
    assert_eq!(status("job-started"), Some(Status::Unknown));
}

/// Every byte of the log, and some of the quote: never accepted, never a panic.
#[test]
fn no_changed_byte_is_accepted() {
    let purpose = Purpose::Receipt;
    let mut vm = Vm::new(purpose);
    let good = vm.bundle(purpose);
    let log = good.dstack_log.clone().expect("a log").0;
    for at in (0..log.len()).step_by(7) {
        let mut bundle = good.clone();
        let mut changed = log.clone();
        changed[at] ^= 1;
        bundle.dstack_log = Some(Base64Bytes(changed.clone()));
        let verdict = vm.judge(purpose, &bundle);
        // Hex of the same value and names of firmware's events are comments; all else counts.
        let same =
            DstackLog::parse(&changed).ok().map(|log| log.replay()) == Some(vm.guest.registers());
        assert!(same || !verdict.is_accepted(), "byte {at}\n{}", verdict.render());
    }
    let _: Hex32 = good.digest();
}
