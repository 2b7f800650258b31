//! One wrong thing at a time: each is refused for its own cause, though every signature is good.

use super::{
    scene::{MEASUREMENT, NOW, REPORT_DATA, Scene},
    simulated::{ASK_SERIAL, CHIP, CrlPlan, Plan, Signer, extension, integer},
};
use crate::{
    FixedHex, Outcome, Purpose, Status,
    snp::{
        CpuSignature, Firmware, KernelHashes, LaunchShape, Product, Roots, Rule, SigningKey,
        SnpRules, Tcb, codes::Code, rules::MinimumTcb,
    },
};

/// A change to a good scene.
type Change = fn(&mut Scene);

fn crl(scene: &mut Scene) -> &mut CrlPlan {
    scene.plan.crl.get_or_insert_default()
}

fn vlek(scene: &mut Scene) {
    scene.plan.kind = SigningKey::Vlek;
    scene.set(0x048, &[1 << 2]);
}

fn lower(tcb: Tcb) -> Tcb {
    Tcb { microcode: tcb.microcode - 1, ..tcb }
}

#[rustfmt::skip]
const REFUSED: &[(&str, Code, Change)] = &[
    ("debug", Code::Debug, |s| s.set(0x00a, &[0x0a])),
    ("migration agent", Code::Migration, |s| s.set(0x00a, &[0x06])),
    ("SMT", Code::Smt, |s| s.set(0x00a, &[0x03])),
    ("ABI of the policy", Code::PolicyAbi, |s| {
        s.rules.min_policy_abi = (1, 55);
        s.set(0x008, &[54, 1]);
    }),
    ("unknown bit of the policy", Code::ReportReserved, |s| s.set(0x00b, &[0x04])),
    ("bit 17 of the policy is not one", Code::ReportReserved, |s| s.set(0x00a, &[0])),
    ("VMPL 1", Code::Vmpl, |s| s.set(0x030, &[1])),
    ("VMPL 0 where another is expected", Code::Vmpl, |s| s.rules.vmpl = 2),
    ("reported TCB", Code::TcbReported, |s| {
        s.plan.tcb = lower(s.plan.tcb);
        s.set(0x180, &[4, 0, 0, 0, 0, 0, 23, 212]);
    }),
    ("committed TCB", Code::TcbCommitted, |s| s.set(0x1e0, &[3])),
    ("launch TCB", Code::TcbLaunch, |s| s.set(0x1f6, &[22])),
    ("no lowest TCB", Code::TcbNoMinimum, |s| s.rules.minimum_tcb.clear()),
    ("reserved byte of a TCB", Code::TcbForm, |s| s.set(0x1e2, &[1])),
    ("firmware", Code::FirmwareLow, |s| s.rules.min_firmware = (1, 55, 30)),
    ("certificate of a newer TCB", Code::TcbCertificate, |s| s.plan.tcb.snp += 1),
    ("certificate of an older TCB", Code::TcbCertificate, |s| s.plan.tcb.snp -= 1),
    ("other chip", Code::ChipOther, |s| s.plan.chip_id[63] ^= 1),
    ("masked chip", Code::ChipMasked, |s| { s.set(0x048, &[2]); s.set(0x1a0, &[0; 64]) }),
    ("masked chip that is pinned", Code::ChipMasked, |s| {
        s.rules.chip_id = Rule::Ignored;
        s.rules.chips = vec![FixedHex([1; 32])];
        s.set(0x048, &[2]);
        s.set(0x1a0, &[0; 64]);
    }),
    ("half masked", Code::ChipMasked, |s| { s.rules.chip_id = Rule::Ignored; s.set(0x048, &[2]) }),
    ("chip not listed", Code::ChipUnlisted, |s| s.rules.chips = vec![FixedHex([1; 32])]),
    ("VLEK named, VCEK used", Code::SigningKeyOther, |s| s.set(0x048, &[1 << 2])),
    ("VCEK named, VLEK used", Code::SigningKeyOther, |s| s.plan.kind = SigningKey::Vlek),
    ("VLEK of a provider not listed", Code::VlekNotAllowed, vlek),
    ("signed by no key", Code::SigningKeyNone, |s| s.set(0x048, &[7 << 2])),
    ("signed by key 2", Code::SigningKeyNone, |s| s.set(0x048, &[2 << 2])),
    ("VCEK under the ASVK's name", Code::CertificateForm, |s| {
        s.plan.ask_name = Some("SEV-VLEK-Milan".into());
    }),
    ("ASK of another product", Code::CertificateForm, |s| {
        s.plan.ask_name = Some("SEV-Genoa".into());
    }),
    ("root is not AMD's", Code::RootUnknown, |s| s.roots = Some(Roots::amd())),
    ("root is another simulated one", Code::RootUnknown, |s| {
        s.roots = Some(Roots::with_simulated(Product::Milan, FixedHex([1; 48])));
    }),
    ("processor of another product", Code::ProductOther, |s| s.set(0x188, &[0x19, 0x11])),
    ("processor of no product", Code::ProductOther, |s| s.set(0x188, &[0x1a, 0x50])),
    ("leaf names another product", Code::CertificateForm, |s| {
        s.plan.leaf_product = Some("Genoa-B1");
    }),
    ("ASK not of the root", Code::CertificateSignature, |s| s.plan.ask_signer = Signer::Other),
    ("leaf not of the ASK", Code::CertificateSignature, |s| s.plan.leaf_signer = Signer::Other),
    ("leaf of the root", Code::CertificateSignature, |s| s.plan.leaf_signer = Signer::Ark),
    ("leaf names another issuer", Code::CertificateSignature, |s| {
        s.plan.leaf_issuer = Some("SEV-Genoa");
    }),
    ("ASK may not sign", Code::CertificateForm, |s| s.plan.ask_may_sign = false),
    ("critical extension", Code::CertificateForm, |s| {
        s.plan.extra_leaf_extension = Some(extension(&[0x55, 0x1d, 54], true, &integer(1)));
    }),
    ("extension twice", Code::CertificateForm, |s| {
        s.plan.extra_leaf_extension =
            Some(extension(&[0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 3, 1], false, &integer(9)));
    }),
    ("FMC on Milan", Code::CertificateForm, |s| s.plan.tcb.fmc = Some(0)),
    ("ARK expired", Code::CertificateTime, |s| {
        s.plan.ark_valid = ("200101000000Z", "250101000000Z");
    }),
    ("ASK expired", Code::CertificateTime, |s| {
        s.plan.ask_valid = ("200101000000Z", "250101000000Z");
    }),
    ("VCEK expired", Code::CertificateTime, |s| {
        s.plan.leaf_valid = ("200101000000Z", "250101000000Z");
    }),
    ("VCEK not yet valid", Code::CertificateTime, |s| {
        s.plan.leaf_valid = ("300101000000Z", "370101000000Z");
    }),
    ("no revocation list", Code::CrlMissing, |s| s.plan.crl = None),
    ("list expired", Code::CrlTime, |s| crl(s).valid = ("250101000000Z", "260101000000Z")),
    ("list of the future", Code::CrlTime, |s| crl(s).valid = ("270101000000Z", "280101000000Z")),
    ("list of another root", Code::CrlSignature, |s| crl(s).signer = Signer::Other),
    ("list of the ASK", Code::CrlSignature, |s| crl(s).signer = Signer::Ask),
    ("list of another name", Code::CrlSignature, |s| crl(s).issuer = Some("ARK-Genoa")),
    ("delta list", Code::CrlUnreadable, |s| {
        crl(s).extra_extension = Some(extension(&[0x55, 0x1d, 27], true, &integer(1)));
    }),
    ("list with two numbers", Code::CrlUnreadable, |s| {
        crl(s).extra_extension = Some(extension(&[0x55, 0x1d, 20], false, &integer(9)));
    }),
    ("ASK revoked", Code::Revoked, |s| crl(s).revoked = vec![1, ASK_SERIAL]),
    ("VLEK revoked", Code::Revoked, |s| {
        vlek(s);
        s.rules.cloud_providers = vec!["simulated-cloud".into()];
        s.plan.leaf_serial = 0x77;
    }),
    ("version 2", Code::ReportVersionLow, |s| { s.set(0, &[2]); s.set(0x188, &[0; 3]) }),
    ("version 3 where 5 is asked for", Code::ReportVersionLow, |s| s.rules.min_report_version = 5),
    ("version 6", Code::ReportVersion, |s| s.set(0, &[6])),
    ("version 1", Code::ReportVersion, |s| s.set(0, &[1])),
    ("processor in version 2", Code::ReportReserved, |s| s.set(0, &[2])),
    ("other algorithm", Code::ReportAlgorithm, |s| s.set(0x034, &[2])),
    ("mitigation vector in version 3", Code::ReportReserved, |s| s.set(0x1f8, &[1])),
    ("HOST_DATA is zero", Code::HostDataZero, |s| s.set(0x0c0, &[0; 32])),
    ("other HOST_DATA", Code::HostData, |s| s.set(0x0c0, &[1])),
    ("identity key", Code::IdKey, |s| s.set(0x0e0, &[1; 48])),
    ("image id without a key", Code::IdKey, |s| s.set(0x020, &[1])),
    ("security version without a key", Code::IdKey, |s| s.set(0x004, &[1])),
    ("author key", Code::AuthorKey, |s| s.set(0x110, &[1; 48])),
    ("author key enabled without one", Code::AuthorKey, |s| s.set(0x048, &[1])),
    ("other measurement", Code::MeasurementUnknown, |s| s.set(0x090, &[0])),
    ("measurement of zeros, though expected", Code::MeasurementUnknown, |s| {
        s.measurements = vec![FixedHex::ZERO];
        s.set(0x090, &[0; 48]);
    }),
    ("no measurement expected", Code::MeasurementNotGiven, |s| s.measurements.clear()),
    ("alias check", Code::AliasCheck, |s| s.set(0x040, &[0x01])),
    ("ciphertext hiding, required", Code::CiphertextHiding, |s| {
        s.rules.ciphertext_hiding = Rule::Required;
    }),
    ("other claims", Code::ReportData, |s| s.set(0x050, &[0])),
    ("ACPI, required", Code::HostAcpi, |s| s.rules.measured_acpi = Rule::Required),
    ("job start, required", Code::JobStartedUnknown, |s| {
        s.rules.measured_job_start = Rule::Required;
        s.purpose = Purpose::Receipt;
    }),
    ("job start, required of start evidence", Code::JobStartedUnknown, |s| {
        s.rules.measured_job_start = Rule::Required;
        s.purpose = Purpose::Start;
    }),
];

#[test]
fn the_good_scene_is_accepted() {
    for purpose in [Purpose::Identity, Purpose::Offer, Purpose::Start, Purpose::Receipt] {
        let mut scene = Scene::new();
        scene.purpose = purpose;
        let (verdict, judged) = scene.judge_parts(&scene.signed(), Some(&scene.plan.collateral()));
        assert!(verdict.is_accepted(), "{}", verdict.render());
        let judged = judged.expect("verified");
        assert!(judged.anchor.is_simulated());
        assert_eq!(judged.report.report_data, REPORT_DATA);
        assert_eq!(judged.crl.map(|number| number.0[19]), Some(7));
        assert!(judged.expires > NOW);
        let job = verdict.finding("job-started").expect("is shown");
        assert_eq!((job.status, job.required), (Status::Unknown, false));
        assert_eq!(verdict.finding("hardware").map(|f| f.value.as_str()), Some("SIMULATED"));
    }
}

#[test]
fn each_wrong_thing_is_refused_for_its_own_cause() {
    for (name, code, change) in REFUSED {
        let mut scene = Scene::new();
        change(&mut scene);
        let verdict = scene.judge();
        assert_eq!(verdict.outcome, Outcome::Rejected, "{name}\n{}", verdict.render());
        let causes: Vec<_> = verdict
            .claims
            .iter()
            .filter(|finding| finding.required && finding.status != Status::Affirming)
            .filter_map(|finding| finding.code)
            .filter(|found| *found != Code::NotChecked.as_str())
            .collect();
        assert_eq!(causes, [code.as_str()], "{name}\n{}", verdict.render());
    }
}

/// A rule that only wishes leaves a warning where it would have refused.
#[test]
fn what_is_only_wished_for_is_accepted_with_a_warning() {
    let wished: &[(Code, Change)] = &[
        (Code::Smt, |s| (s.rules.no_smt = Rule::Wished, s.set(0x00a, &[0x03])).1),
        (Code::AliasCheck, |s| (s.rules.alias_check = Rule::Wished, s.set(0x040, &[1])).1),
        (Code::CiphertextHiding, |_| {}),
        (Code::CrlMissing, |s| (s.rules.revocation_list = Rule::Wished, s.plan.crl = None).1),
        (Code::ChipNotPinned, |_| {}),
        (Code::HostAcpi, |_| {}),
        (Code::PlatformBits, |s| s.set(0x041, &[0x80])),
        (Code::ReportVersionLow, |s| {
            s.rules.min_report_version = 2;
            s.set(0, &[2]);
            s.set(0x188, &[0; 3]);
        }),
        (Code::ChipMasked, |s| {
            s.rules.chip_id = Rule::Wished;
            s.set(0x048, &[2]);
            s.set(0x1a0, &[0; 64]);
        }),
    ];
    for (code, change) in wished {
        let mut scene = Scene::new();
        change(&mut scene);
        let verdict = scene.judge();
        assert!(verdict.is_accepted() && verdict.has(*code), "{}", verdict.render());
        let of_code = |f: &&crate::verdict::Finding| f.code == Some(code.as_str());
        let finding = verdict.claims.iter().find(of_code).expect("is shown");
        assert_eq!(finding.status, Status::Warning);
    }
}

/// What machines in use report: SMT, TSME, ECC, alias check, and (Genoa and Turin of 2025 on) IOMMU safe against writes.
#[test]
fn platform_bits_that_amd_has_named_are_no_warning() {
    for platform in [0x20, 0x24, 0x27, 0x65, 0x67, 0xff] {
        let mut scene = Scene::new();
        scene.set(0x040, &[platform]);
        let verdict = scene.judge();
        assert!(verdict.is_accepted(), "{}", verdict.render());
        assert!(!verdict.has(Code::PlatformBits), "{platform:#x}\n{}", verdict.render());
    }
}

/// Every rule at its weakest: debug mode, migration and signatures are still not for rules to say.
#[test]
fn no_rule_allows_debug_or_migration() {
    let mut scene = Scene::new();
    let weakest = Rule::Ignored;
    scene.rules = SnpRules {
        min_report_version: 2,
        revocation_list: weakest,
        no_smt: weakest,
        alias_check: weakest,
        ciphertext_hiding: weakest,
        chip_id: weakest,
        measured_acpi: weakest,
        measured_job_start: weakest,
        ..scene.rules
    };
    assert!(scene.judge().is_accepted());
    for (policy, code) in [(0x0a, Code::Debug), (0x06, Code::Migration)] {
        scene.set(0x00a, &[policy]);
        let verdict = scene.judge();
        assert!(!verdict.is_accepted() && verdict.has(code), "{}", verdict.render());
    }
}

/// A revocation list that is there and bad is refused, also where none is required.
#[test]
fn a_bad_list_is_never_ignored() {
    let mut scene = Scene::new();
    scene.rules.revocation_list = Rule::Ignored;
    crl(&mut scene).signer = Signer::Other;
    let verdict = scene.judge();
    assert!(!verdict.is_accepted() && verdict.has(Code::CrlSignature));
}

/// The default rules: a good machine lacks what SNP cannot show, and a row of lowest numbers.
#[test]
fn strict_refuses_what_snp_cannot_show() {
    let mut scene = Scene::new();
    scene.rules = SnpRules::default();
    for (purpose, job) in [(Purpose::Offer, false), (Purpose::Receipt, true)] {
        scene.purpose = purpose;
        let verdict = scene.judge();
        assert!(!verdict.is_accepted());
        assert!(verdict.has(Code::TcbNoMinimum) && verdict.has(Code::HostAcpi));
        let finding = verdict.finding("job-started").expect("is shown");
        assert_eq!((finding.status, finding.required), (Status::Unknown, job));
    }
}

#[test]
fn a_listed_providers_key_is_accepted() {
    let mut scene = Scene::new();
    vlek(&mut scene);
    scene.plan.leaf_serial = 0x55;
    scene.rules.cloud_providers = vec!["simulated-cloud".into()];
    let verdict = scene.judge();
    assert!(verdict.is_accepted(), "{}", verdict.render());
    let key = verdict.finding("signing-key").map(|f| f.value.as_str());
    assert_eq!(key, Some("VLEK of simulated-cloud"));
}

#[test]
fn a_pinned_chip_and_listed_keys_are_accepted_and_shown_as_digests() {
    let mut scene = Scene::new();
    let digest = ring::digest::digest(&ring::digest::SHA256, &CHIP);
    let digest = FixedHex(digest.as_ref().try_into().expect("32 bytes"));
    scene.rules.chips = vec![digest];
    scene.rules.id_keys = vec![FixedHex([7; 48])];
    scene.rules.author_keys = vec![FixedHex([8; 48])];
    scene.set(0x0e0, &[7; 48]);
    scene.set(0x110, &[8; 48]);
    scene.set(0x048, &[1]);
    scene.plan.chip_id_wrapped = true;
    let verdict = scene.judge();
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert_eq!(verdict.finding("platform").map(|f| f.value.clone()), Some(digest.to_string()));
    let shown = serde_json::to_string(&verdict).expect("JSON");
    assert!(!shown.contains(&hex::encode(CHIP)));
}

/// Turin: other bytes of the TCB, a short chip id, and version 5 with its mitigation vectors.
#[test]
fn turins_layouts() {
    let tcb = Tcb { fmc: Some(1), boot_loader: 2, tee: 3, snp: 4, microcode: 200 };
    let mut scene = Scene::new();
    let mut chip_id = [0; 64];
    chip_id[..8].fill(0x3c);
    scene.plan = Plan { product: Product::Turin, tcb, chip_id, ..Plan::default() };
    scene.rules.minimum_tcb =
        vec![MinimumTcb { product: Product::Turin, reported: tcb, committed: tcb, launch: tcb }];
    scene.set(0, &[5]);
    scene.set(0x188, &[0x1a, 0x02, 0x01]);
    scene.set(0x1a0, &chip_id);
    scene.set(0x1f8, &[1, 0, 0, 0, 0, 0, 0, 0, 3]);
    for at in [0x038, 0x180, 0x1e0, 0x1f0] {
        scene.set(at, &[1, 2, 3, 4, 0, 0, 0, 200]);
    }
    let (verdict, judged) = scene.judge_parts(&scene.signed(), Some(&scene.plan.collateral()));
    assert!(verdict.is_accepted(), "{}", verdict.render());
    let mitigations = judged.and_then(|judged| judged.report.mitigations).expect("version 5");
    assert_eq!((mitigations.launch, mitigations.current), (1, 3));
    scene.set(0x1a8, &[1]);
    assert!(scene.judge().has(Code::ChipOther), "bytes after the chip id are compared too");
}

/// Versions 3 and 4 have one layout, 5 adds to it.
#[test]
fn versions_3_to_5_are_accepted() {
    for version in [3, 4, 5] {
        let mut scene = Scene::new();
        scene.set(0, &[version]);
        let (verdict, judged) = scene.judge_parts(&scene.signed(), Some(&scene.plan.collateral()));
        assert!(verdict.is_accepted(), "{}", verdict.render());
        let report = judged.expect("verified").report;
        assert_eq!(report.version, u32::from(version));
        assert_eq!(report.mitigations.is_some(), version == 5);
    }
}

/// The finding names what was revoked.
#[test]
fn a_revoked_asvk_is_named() {
    let mut scene = Scene::new();
    vlek(&mut scene);
    scene.rules.cloud_providers = vec!["simulated-cloud".into()];
    crl(&mut scene).revoked = vec![ASK_SERIAL];
    let verdict = scene.judge();
    assert!(!verdict.is_accepted() && verdict.has(Code::Revoked));
    assert!(verdict.finding("collateral").is_some_and(|f| f.text.ends_with("ASVK")));
}

/// A VM started without kernel hashes measures otherwise, and so does firmware that cannot check them.
#[test]
fn a_vm_without_kernel_hashes_is_refused() {
    let firmware = Firmware::parse(&super::measurement::synthetic(2, true)).expect("firmware");
    let shape = LaunchShape { vcpus: 2, cpu: CpuSignature(0x00a0_0f11), guest_features: 1 };
    let hashes = KernelHashes::of(b"kernel bytes", b"initramfs bytes", "panic=-1");
    let expected = firmware.launch_digest(&shape, Some(&hashes)).expect("a digest");
    let mut scene = Scene::new();
    scene.measurements = vec![expected];
    scene.set(0x090, expected.as_bytes());
    assert!(scene.judge().is_accepted());
    let without = firmware.launch_digest(&shape, None).expect("a digest");
    scene.set(0x090, without.as_bytes());
    assert!(scene.judge().has(Code::MeasurementUnknown));
    let other = Firmware::parse(&super::measurement::synthetic(2, false)).expect("firmware");
    let error = other.launch_digest(&shape, Some(&hashes)).expect_err("no page for hashes");
    assert_eq!(error.entry(), Code::FirmwareKernelHashes);
    assert_ne!(expected, MEASUREMENT);
}

/// The signature covers the bytes as received, not what was read out of them.
#[test]
fn nothing_is_written_back_before_the_signature_is_checked() {
    let scene = Scene::new();
    let collateral = scene.plan.collateral();
    let mut report = scene.signed();
    // Read, and of no other meaning to any check: guest-chosen report ids.
    report[0x140] ^= 1;
    let (verdict, judged) = scene.judge_parts(&report, Some(&collateral));
    assert!(verdict.has(Code::ReportSignature) && judged.is_none());
    let (verdict, judged) = scene.judge_parts(&scene.signed(), None);
    assert!(verdict.has(Code::CollateralMissing) && judged.is_none());
    let affirmed = |f: &crate::verdict::Finding| f.status == Status::Affirming;
    assert!(!verdict.claims.iter().any(affirmed), "nothing is affirmed before the signature");
}
