//! What real hardware and NVIDIA's signers made, from vectors beside the checkout.

use std::{collections::BTreeSet, path::PathBuf};

use super::scene::Scene;
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        NvidiaEvidence, NvidiaRoots,
        chain::{ChainError, DeviceChain, read_pem},
        codes::Code,
        evidence::Architecture,
        opaque::Switch,
        rim::{RimError, VerifiedRim, rim_digest},
        rules::Presence,
        transcript::{Transcript, without_padding},
        xml::signature::SignatureError,
    },
};

/// When the RIM signers' certificates were good: 2024-06-01.
const RIMS_VALID: u64 = 1_717_200_000;
/// 2026-11-22.
const TODAY: u64 = 1_795_333_794;
const NONCE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const VBIOS: &str = "gpu/1010_0200_882_96005E0001_PROD.swidtag";
const DRIVER: &str = "gpu/Driver_RIM_test_no_gpu.swidtag";

fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let path = root.join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

fn h100() -> Option<(Vec<u8>, Vec<u8>)> {
    let text = vector("gpu/hopperAttestationReport.txt")?;
    let text = String::from_utf8(text).expect("hex");
    Some((hex::decode(text.trim()).expect("hex"), vector("gpu/hopperCertChain.txt")?))
}

fn chain_of(name: &str) -> Option<Result<Vec<Vec<u8>>, ChainError>> {
    Some(read_pem(&String::from_utf8(vector(name)?).expect("PEM")))
}

#[test]
fn an_h100_report_reads_and_its_signature_verifies() {
    let Some((report, pem)) = h100() else { return };
    let transcript = Transcript::parse(&report).expect("parses, no padding");
    assert_eq!(hex::encode(transcript.nonce), NONCE);
    assert_eq!(transcript.measurements.len(), 64);
    let opaque = &transcript.opaque;
    assert_eq!(opaque.driver_version(), Ok("550.90.07"));
    assert_eq!(opaque.vbios_version().as_deref(), Ok("96.00.9f.00.01"));
    assert_eq!((opaque.project(), opaque.project_sku()), (Ok("1010"), Ok("0200")));
    assert_eq!((opaque.chip_sku(), opaque.chip_info()), (Ok("882"), Ok(None)));
    assert_eq!(
        (opaque.nvdec0(), opaque.protected_pcie()),
        (Ok(Some(Switch::Off)), Ok(Some(Switch::Off)))
    );
    assert_eq!((opaque.feature_flag(), opaque.switches()), (Ok(None), Ok(BTreeSet::new())));

    let ders = read_pem(&String::from_utf8(pem).expect("PEM")).expect("PEM");
    assert_eq!(ders.len(), 5);
    let root = NvidiaRoots::nvidia().device;
    let chain = DeviceChain::verify(&ders, &root, TODAY).expect("leads to the pinned root");
    assert_eq!(chain.chip, "GH100");
    assert_eq!(opaque.fwid(), Some(chain.fwid));
    assert!(transcript.is_signed_by(chain.leaf_point().expect("a leaf")));
    let without_root =
        DeviceChain::verify(&ders[..4], &root, TODAY).expect("the root may be left out");
    assert_eq!(without_root.device, chain.device);

    let before = DeviceChain::verify(&ders, &root, 1_600_000_000).expect_err("not yet valid");
    assert_eq!(before.entry(), Code::ChainTime);
    let other = DeviceChain::verify(&ders, &NvidiaRoots::nvidia().rim, TODAY);
    assert_eq!(other.expect_err("another root"), ChainError::Root);
}

/// The signature is over every byte before it: no flip survives, wherever it is.
#[test]
fn no_flip_in_an_h100_report_is_accepted() {
    let Some((report, pem)) = h100() else { return };
    let ders = read_pem(&String::from_utf8(pem).expect("PEM")).expect("PEM");
    let chain = DeviceChain::verify(&ders, &NvidiaRoots::nvidia().device, TODAY).expect("verifies");
    let leaf = *chain.leaf_point().expect("a leaf");
    for at in 0..report.len() {
        let mut flipped = report.clone();
        flipped[at] ^= 1 << (at % 8);
        let accepted = Transcript::parse(&flipped).is_ok_and(|read| read.is_signed_by(&leaf));
        assert!(!accepted, "byte {at}");
    }
    for length in 0..report.len() {
        assert!(Transcript::parse(&report[..length]).is_err(), "{length} bytes");
    }
    let padded = [report.as_slice(), &[0]].concat();
    assert_eq!(Transcript::parse(&padded).expect_err("padded").entry(), Code::TranscriptTrailing);
    assert_eq!(without_padding(&padded), Some(report.as_slice()));
    let other = [report.as_slice(), &[1]].concat();
    assert_eq!(without_padding(&other), None);
}

#[test]
fn no_flip_in_the_certificates_of_an_h100_is_accepted() {
    let Some((_, pem)) = h100() else { return };
    let ders = read_pem(&String::from_utf8(pem).expect("PEM")).expect("PEM");
    let root = NvidiaRoots::nvidia().device;
    for (index, der) in ders.iter().enumerate() {
        // The root's own signature says nothing: its key is pinned.
        let end = der.len();
        for at in (0..end).step_by(7) {
            let mut changed = ders.clone();
            changed[index][at] ^= 1 << (at % 8);
            let accepted = DeviceChain::verify(&changed, &root, TODAY).is_ok();
            assert!(!accepted, "certificate {index}, byte {at}");
        }
    }
}

#[test]
fn incomplete_chains_are_refused() {
    let root = NvidiaRoots::nvidia().device;
    if let Some(ders) = chain_of("gpu/hopper_cert_chain_case2.txt") {
        let ders = ders.expect("one certificate");
        let error = DeviceChain::verify(&ders, &root, TODAY).expect_err("the root alone");
        assert_eq!(error, ChainError::Length { found: 1 });
    }
    if let Some(ders) = chain_of("gpu/hopper_cert_chain_case3.txt") {
        let error = ders
            .and_then(|ders| DeviceChain::verify(&ders, &root, TODAY).map(|_| ()))
            .expect_err("a gap, or a certificate cut short");
        println!("case 3: {error}");
        assert!(matches!(
            error.entry(),
            Code::ChainLink | Code::ChainUnreadable | Code::ChainLength
        ));
    }
    if let Some(ders) = chain_of("gpu/verifier_device_root.pem") {
        let ders = ders.expect("one certificate");
        assert_eq!(
            crate::nvidia::certificate::Certificate::parse(&ders[0]).expect("parses").point,
            root
        );
    }
}

#[test]
fn rim_files_of_nvidia_verify_at_their_time_and_not_today() {
    let root = NvidiaRoots::nvidia().rim;
    for (name, version, active) in [(VBIOS, "96.00.5E.00.01", 12), (DRIVER, "545.00", 21)] {
        let Some(file) = vector(name) else { return };
        let verified = VerifiedRim::verify(&file, &root, RIMS_VALID, &[]).expect("verifies");
        assert_eq!(
            (verified.rim.version.as_str(), verified.rim.product.as_str()),
            (version, "GH100")
        );
        println!("{name}: {} active", verified.rim.golden.len());
        assert_eq!(verified.rim.golden.len(), active, "{name}");
        assert_eq!(verified.certificates.len(), 4);

        let today = VerifiedRim::verify(&file, &root, TODAY, &[]).expect_err("expired");
        assert_eq!(today.entry(), Code::RimExpired, "{today}");
        VerifiedRim::verify(&file, &root, TODAY, &[rim_digest(&file)]).expect("pinned");
        let other = VerifiedRim::verify(&file, &NvidiaRoots::nvidia().device, RIMS_VALID, &[]);
        assert_eq!(other.expect_err("another root").entry(), Code::RimChain);
    }
}

#[test]
fn a_changed_rim_file_is_refused() {
    let root = NvidiaRoots::nvidia().rim;
    let Some(file) = vector(VBIOS) else { return };
    let verify = |text: &str| VerifiedRim::verify(text.as_bytes(), &root, RIMS_VALID, &[]);
    let text = String::from_utf8(file).expect("text");
    verify(&text).expect("verifies");
    for (from, to) in [
        ("active=\"False\"", "active=\"True\""),
        ("colloquialVersion=\"96.00.5E.00.01\"", "colloquialVersion=\"96.00.5E.00.02\""),
        ("c3f65ef7", "c3f65ef8"),
        ("    <ns0:Entity", "     <ns0:Entity"),
        ("index=\"1\"", "index=\"0\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(
            verify(&changed).expect_err(from),
            RimError::Signature(SignatureError::Digest),
            "{from}"
        );
    }
    // Equal to XML, so equal here too.
    let respelled = text.replace("role=\"softwareCreator", "role='softwareCreator");
    assert!(verify(&respelled).is_err());
    let respelled = text.replace(" size=\"48\"/>", " size='48' />").replace('\n', "\r\n");
    verify(&respelled).expect("the canonical form is the same");
}

/// The driver's test file and the report are of different releases: signatures hold, measurements do not.
#[test]
fn real_evidence_is_judged_without_matching_rims() {
    let (Some((report, pem)), Some(driver), Some(vbios)) = (h100(), vector(DRIVER), vector(VBIOS))
    else {
        return;
    };
    let mut scene = Scene::new(1);
    scene.roots = NvidiaRoots::nvidia();
    scene.time = RIMS_VALID;
    let mut nonce = [0; 32];
    hex::decode_to_slice(NONCE, &mut nonce).expect("hex");
    scene.nonce = Some(nonce);
    scene.rules.rim = Presence::Optional;
    scene.rules.ocsp = Presence::Optional;
    let evidence = NvidiaEvidence {
        transcript: Base64Bytes(report.clone()),
        certificates: Base64Bytes(pem),
        ..scene.evidence(0)
    };
    let judged = scene.judge(std::slice::from_ref(&evidence));
    assert!(!judged.simulated);
    for claim in ["gpu.0.chain", "gpu.0.signature", "gpu.0.nonce", "gpu.0.fwid", "gpu.0.mode"] {
        let finding = judged.verdict.finding(claim).expect(claim);
        assert_eq!(finding.code, None, "{}", judged.verdict.render());
        assert!(finding.anchor.ends_with("nvidia"), "{claim}");
    }
    // Verdict under the lax rules is no: the collateral is another maker's.
    let firmware = judged.verdict.finding("gpu.0.firmware").expect("judged");
    assert_eq!(firmware.code, Some(Code::RimChain.as_str()));

    scene.collateral.rims.clear();
    let judged = scene.judge(std::slice::from_ref(&evidence));
    assert!(judged.verdict.is_accepted(), "{}", judged.verdict.render());
    assert!(judged.verdict.has(Code::FirmwareUnknown) && judged.verdict.has(Code::OcspMissing));
    assert_eq!(judged.devices[0].driver_version.as_deref(), Some("550.90.07"));

    let measured = Transcript::parse(&report).expect("parses").measurements;
    let root = NvidiaRoots::nvidia().rim;
    let driver = VerifiedRim::verify(&driver, &root, RIMS_VALID, &[]).expect("verifies").rim;
    let vbios = VerifiedRim::verify(&vbios, &root, RIMS_VALID, &[]).expect("verifies").rim;
    let error = crate::nvidia::compare::compare(&measured, &driver, &vbios, Some(Switch::Off))
        .expect_err("another release");
    println!("{error}");
    assert_eq!(error.entry(), Code::MeasurementOther);
}

#[test]
fn a_verdict_of_nvidias_tool_is_no_evidence() {
    let Some(verdict) = vector("gpu/nvattest-h100.json") else { return };
    let scene = Scene::new(1);
    let judged = scene.judge_bytes(&[("gpu-0", &verdict)]);
    assert!(judged.verdict.has(Code::VerdictInstead) && !judged.verdict.is_accepted());
    assert_eq!(scene.evidence(0).architecture, Architecture::Hopper);
}
