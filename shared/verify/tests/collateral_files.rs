//! `--snp-collateral` and `--gpu-collateral` with evidence of real hardware: the user's file decides, also against the
//! sender's, and one of another machine is of no use.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::{
    EventLog, EvidenceBundle, Tee, base64_bytes::Base64Bytes, snp::SnpCollateral,
};
use sealtune_verify::{Failure, Surroundings};
use serde_json::{Value, json};

use desk::{Folder, vector};
use scene::{Boot, JOB, NOW, OFFER_NONCE};

fn judge(files: &Folder, rest: &str) -> Result<Value, Failure> {
    let line = format!(
        "--json evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
         --reference @reference.json {rest}"
    );
    let report = files.run(&line, &Surroundings::offline(NOW))?;
    let verdict = serde_json::from_str(&report.stdout).expect("JSON");
    // Nobody's evidence here is of the job: a real machine's parts stand in a made-up bundle.
    assert!(!report.accepted, "{verdict}");
    Ok(verdict)
}

/// Value and code of a claim.
fn claim(verdict: &Value, name: &str) -> (String, String) {
    let claims = verdict["claims"].as_array().expect("claims");
    let found = claims.iter().find(|claim| claim["claim"] == name).expect(name);
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("value"), text("code"))
}

fn milan(vek: &[u8]) -> Option<SnpCollateral> {
    let chain = vector("snp/cert_chain_milan")?;
    Some(SnpCollateral::from_service(&chain, vek, None).expect("AMD's answers"))
}

#[test]
fn certificates_for_a_real_snp_report() {
    let (Some(report), Some(own), Some(other), Some(turin), Some(turins_chain)) = (
        vector("snp/report_milan.hex"),
        vector("snp/vcek_milan.der"),
        vector("snp/test-vcek.der"),
        vector("snp/vcek_turin.der"),
        vector("snp/cert_chain_turin"),
    ) else {
        return;
    };
    let report = hex::decode(String::from_utf8(report).expect("hex").trim()).expect("hex");
    let mut bundle = Boot::new(1).offer();
    bundle.tee = Tee::Snp;
    bundle.quote = Base64Bytes(report);
    bundle.event_log = EventLog::default();
    bundle.collateral = None;
    // The sender's certificate is of another chip.
    bundle.snp_collateral = milan(&other);
    let files = Folder::with(&bundle);
    let write = |name: &str, parts: &SnpCollateral| {
        files.write(name, &parts.to_bytes().expect("writes"));
    };
    write("own.json", &milan(&own).expect("the chain is beside it"));
    write("other.json", &milan(&other).expect("the chain is beside it"));
    let turin = SnpCollateral::from_service(&turins_chain, &turin, None).expect("AMD's answers");
    write("turin.json", &turin);

    let verdict = judge(&files, "").expect("judges");
    assert_eq!(claim(&verdict, "quote").1, "ST-SNP-06", "{verdict}");
    let verdict = judge(&files, "--snp-collateral @own.json").expect("judges");
    assert_eq!(claim(&verdict, "quote"), ("amd:milan".to_owned(), String::new()), "{verdict}");
    assert_eq!(verdict["simulated"], false);
    // A real machine, and somebody else's VM on it.
    for name in ["report-data", "launch"] {
        assert!(claim(&verdict, name).1.starts_with("ST-"), "{name}: {verdict}");
    }
    for file in ["other.json", "turin.json"] {
        let verdict = judge(&files, &format!("--snp-collateral @{file}")).expect("judges");
        assert_eq!(claim(&verdict, "quote").1, "ST-SNP-06", "{file}: {verdict}");
    }
    let failure = judge(&files, "--snp-collateral @reference.json").expect_err("no collateral");
    assert_eq!((failure.code(), failure.exit_code()), ("ST-SNP-27", 2));
}

/// A real H100's evidence in a VM that is none: what is said about the GPU changes with the file that the user brings.
#[test]
fn rim_files_for_a_real_gpu() {
    let (Some(report), Some(pem), Some(vbios), Some(driver)) = (
        vector("gpu/hopperAttestationReport.txt"),
        vector("gpu/hopperCertChain.txt"),
        vector("gpu/1010_0200_882_96005E0001_PROD.swidtag"),
        vector("gpu/Driver_RIM_test_no_gpu.swidtag"),
    ) else {
        return;
    };
    let transcript = hex::decode(String::from_utf8(report).expect("hex").trim()).expect("hex");
    let evidence = json!({
        "version": 1, "device": "gpu0", "architecture": "hopper",
        "transcript": STANDARD.encode(transcript), "certificates": STANDARD.encode(pem),
        "driver_version": "550.90.07", "vbios_version": "96.00.9F.00.01",
        "cc": { "feature": "on", "environment": "prod", "gpus_ready": false, "multi_gpu": "none" },
        "mig": "off", "virtualization": "pass-through",
    });
    let files = Folder::with(&gpu_offer(evidence.to_string().into_bytes()));
    let rim = |id: &str, file: &[u8]| json!({ "id": id, "file": STANDARD.encode(file) });
    let own = json!({
        "version": 1, "ocsp": [],
        "rims": [
            rim("NV_GPU_DRIVER_GH100_550.90.07", &driver),
            rim("NV_GPU_VBIOS_1010_0200_882_96009F0001", &vbios),
        ],
    });
    files.write("own.json", own.to_string().as_bytes());
    let empty = json!({ "version": 1, "ocsp": [], "rims": [] });
    files.write("empty.json", empty.to_string().as_bytes());
    let firmware = |rest: &str| {
        let line = format!("--simulated-root @root.der {rest}");
        let verdict = judge(&files, &line).expect("judges");
        for name in ["gpu.0.chain", "gpu.0.signature"] {
            assert_eq!(claim(&verdict, name).1, "", "{name}: {verdict}");
        }
        // Asked by somebody else.
        assert!(claim(&verdict, "gpu.0.nonce").1.starts_with("ST-GPU-"), "{verdict}");
        claim(&verdict, "gpu.0.firmware").1
    };
    let unknown = firmware("");
    assert!(unknown.starts_with("ST-GPU-"), "{unknown}");
    assert_eq!(firmware("--gpu-collateral @empty.json"), unknown);
    // Files of other versions under these names: read, and refused for what is in them.
    let read = firmware("--gpu-collateral @own.json");
    assert!(read.starts_with("ST-GPU-") && read != unknown, "{read} and {unknown}");
    let failure = judge(&files, "--gpu-collateral @reference.json").expect_err("no collateral");
    assert_eq!((failure.code(), failure.exit_code()), ("ST-GPU-74", 2));
}

/// An offer of a simulated VM whose claims name this evidence.
fn gpu_offer(evidence: Vec<u8>) -> EvidenceBundle {
    let boot = Boot::with_gpus(1, &["gpu0"]);
    let digest = scene::sha256(&evidence);
    let mut claims = boot.builder.offer(OFFER_NONCE, Some((JOB, 1))).expect("claims");
    claims.gpu = vec![sealtune_evidence::claims::GpuClaim { device: "gpu0".into(), digest }];
    let mut bundle = boot.evidence(&claims);
    bundle.gpu = vec![sealtune_evidence::bundle::GpuEvidence {
        device: "gpu0".into(),
        evidence: Base64Bytes(evidence),
    }];
    bundle
}
