//! Evidence of a dstack VM, made with the simulated platform: good for every purpose, and one change for each rule.

use serde_json::{Value, json};

use super::{
    hardware::vector,
    scene::{NOW, SPEC, Scene},
};
use crate::{
    BootRegisters, Collateral, EventLog, EvidenceBundle, FixedHex, Hex32, Hex48, JudgeTime, Policy,
    Profile, Purpose, ReferenceValues, Shape, Status, Tee,
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
    reference::{FileDigests, ImageFacts, RegisterRow},
    simulated::QuoteRequest,
    verdict::{Cause, Verdict},
};

const COMPOSE: [u8; 32] = [0xc0; 32];
const OS_IMAGE: [u8; 32] = [0x05; 32];
const SHAPE: Shape = crate::layout1::tests::SHAPE;
const MRTD: Hex48 = FixedHex([0xd7; 48]);

/// A dstack VM before its quote: what a test changes.
struct Vm {
    scene: Scene,
    version: DigestVersion,
    compose: [u8; 32],
    os_image: Option<[u8; 32]>,
    mr_config_id: Hex48,
    /// Behind the boot.
    events: Vec<(&'static str, Vec<u8>)>,
    /// Among the boot's.
    early: Option<(&'static str, Vec<u8>)>,
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
            version: DigestVersion::V1,
            compose: COMPOSE,
            os_image: Some(OS_IMAGE),
            mr_config_id: Hex48::ZERO,
            events,
            early: None,
            listed: ListedImages {
                compose_hashes: vec![FixedHex(COMPOSE)],
                os_images: vec![FixedHex(OS_IMAGE)],
            },
            policy: "dstack",
        }
    }

    fn event(&self, name: &str, payload: &[u8]) -> Value {
        let preimage = self.version.preimage(name, payload).expect("a preimage");
        let mut event = json!({"imr": 3, "event_type": 0x0800_0001, "event": name,
            "digest": self.version.digest(name, payload).expect("digest").to_string(),
            "event_payload": hex::encode(payload)});
        if self.version == DigestVersion::V2 {
            event["version"] = json!(2);
            event["preimage"] = json!(hex::encode(preimage));
        }
        event
    }

    fn log(&self) -> Vec<u8> {
        let separator = |imr: u32| {
            let digest = crate::logs::payload::sha384(&[0; 4]).to_string();
            json!({"imr": imr, "event_type": 4, "digest": digest, "event": "", "event_payload": "00000000"})
        };
        let kernel = json!({"imr": 2, "event_type": 6, "digest": hex::encode([2; 48]), "event": "", "event_payload": ""});
        let mut log = vec![separator(0), separator(1), kernel];
        let mut push = |name: &str, payload: &[u8]| log.push(self.event(name, payload));
        push("system-preparing", &[]);
        push("app-id", &self.compose[..20]);
        push("compose-hash", &self.compose);
        if let Some((name, payload)) = &self.early {
            push(name, payload);
        }
        push("instance-id", &[]);
        push("boot-mr-done", &[]);
        if let Some(digest) = self.os_image {
            push("os-image-hash", &digest);
        }
        push("key-provider", br#"{"name":"none","id":""}"#);
        push("system-ready", &[]);
        for (name, payload) in &self.events {
            push(name, payload);
        }
        serde_json::to_vec(&log).expect("JSON")
    }

    fn registers(log: &[u8]) -> [Hex48; 4] {
        DstackLog::parse(log).map_or([Hex48::ZERO; 4], |log| log.replay())
    }

    fn bundle(&self, purpose: Purpose) -> EvidenceBundle {
        let log = self.log();
        let rtmr = Self::registers(&log);
        let claims = self.scene.claims(purpose).canonical_bytes().expect("claims");
        let request = QuoteRequest {
            mrtd: MRTD,
            rtmr,
            mr_config_id: self.mr_config_id,
            report_data: crate::claims::report_data(&claims),
        };
        EvidenceBundle {
            version: 1,
            tee: Tee::Dstack,
            quote: Base64Bytes(self.scene.platform.quote(&request).expect("a quote")),
            event_log: EventLog::default(),
            dstack_log: Some(Base64Bytes(log)),
            launch: Base64Bytes(self.scene.launch.canonical_bytes().expect("valid")),
            claims: Base64Bytes(claims),
            image: crate::ImageIdentity { name: "dstack".into(), version: "0.5.5".into() },
            gpu: vec![],
            ccel: None,
            collateral: Some(self.scene.platform.collateral(NOW).expect("collateral")),
            snp_collateral: None,
            gpu_collateral: None,
        }
    }

    /// What the verifier knows of the VM's boot; the log of a good VM has its registers.
    fn references(&self) -> Vec<ReferenceValues> {
        let rtmr = Self::registers(&Self::new(Purpose::Identity).log());
        let registers =
            BootRegisters { mrtd: MRTD, rtmr0: rtmr[0], rtmr1: rtmr[1], rtmr2: rtmr[2] };
        let row = RegisterRow::recorded(FixedHex([7; 48]), SHAPE, &registers);
        let facts = ImageFacts {
            release: "dstack-0.5.5".into(),
            profile: Profile::Prod,
            cmdline: String::new(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        vec![ReferenceValues::from_rows(facts, vec![row], vec![]).expect("values")]
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
        vm.version = version;
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
        vm.events.clear();
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
    vm.events.insert(0, ("app-started", b"x".to_vec()));
    vm.events.push(("job-started", SPEC.0.to_vec()));
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
        value.0[1..33].copy_from_slice(&vm.compose);
        value
    };
    let good = {
        let mut vm = Vm::new(before);
        vm.mr_config_id = of_it(&vm);
        vm.verdict(before)
    };
    assert!(good.is_accepted(), "{}", good.render());
    let cases: &[(&str, Purpose, &str, Change)] = &[
        ("compose", before, Code::ComposeUnlisted.code(), |vm| vm.compose[0] ^= 1),
        ("os image", before, Code::OsImageUnlisted.code(), |vm| vm.os_image = Some([9; 32])),
        ("config id", before, Code::LaunchMismatch.code(), |vm| vm.mr_config_id.0[0] = 1),
        ("sealtune's config id", before, Code::LaunchMismatch.code(), |vm| {
            vm.mr_config_id = vm.scene.launch.mr_config_id().expect("valid");
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
            vm.early = vm.events.pop();
        }),
        ("late identity", before, LogCode::LateIdentity.code(), |vm| {
            vm.events.push(("compose-hash", COMPOSE.to_vec()));
        }),
        ("two launches", before, Code::LogLaunchRepeated.code(), |vm| {
            vm.events.push(vm.events[0].clone());
        }),
        ("another launch", before, Code::LogLaunchPayload.code(), |vm| vm.events[0].1[0] ^= 1),
        ("short launch", before, Code::LogLaunchPayload.code(), |vm| {
            vm.events[0].1.pop();
        }),
        ("a job before", before, Code::LogJobStartEarly.code(), |vm| {
            vm.events.push((JOB_START_EVENT, SPEC.0.to_vec()));
        }),
        ("no job", after, Code::LogJobStartMissing.code(), |vm| {
            vm.events.pop();
        }),
        ("two jobs", after, Code::LogJobStartRepeated.code(), |vm| {
            vm.events.push(vm.events[1].clone());
        }),
        ("another job", after, Code::LogJobStartPayload.code(), |vm| vm.events[1].1[0] ^= 1),
        ("order", after, DstackCode::EventOrder.code(), |vm| vm.events.swap(0, 1)),
        ("job alone", after, DstackCode::EventOrder.code(), |vm| {
            vm.events.remove(0);
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
            DstackLog::parse(&changed).ok().map(|log| log.replay()) == Some(Vm::registers(&log));
        assert!(same || !verdict.is_accepted(), "byte {at}\n{}", verdict.render());
    }
    let _: Hex32 = good.digest();
}
