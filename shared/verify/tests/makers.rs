//! The program as a process: AMD's and NVIDIA's services on a loopback address.
#![cfg(feature = "fetch")]
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::{
    EvidenceBundle, Tee,
    base64_bytes::Base64Bytes,
    bundle::GpuEvidence,
    nvidia::{
        NvidiaCollateral,
        simulated::{Report, SimulatedNvidia},
    },
    snp::SnpCollateral,
};

use desk::{Folder, Page, Service};
use scene::{Boot, JOB, NOW, OFFER_NONCE};

struct Scenery {
    files: Folder,
}

impl Scenery {
    fn new(offer: &EvidenceBundle) -> Self {
        let files = Folder::with(offer);
        let write = |name: &str, bytes: &[u8]| files.write(name, bytes);
        write("lax.toml", b"name = \"lax\"\ngpu = \"unverified\"\n");
        let der = || Base64Bytes(vec![0x30, 0]);
        let snp = SnpCollateral { version: 1, ark: der(), ask: der(), vek: der(), crl: None };
        write("snp.json", &snp.to_bytes().expect("writes"));
        write("gpu.json", &NvidiaCollateral::default().to_bytes().expect("writes"));
        Self { files }
    }

    /// Everybody is asked at the same address.
    fn verify(&self, service: &str, rest: &str) -> Output {
        let line = format!(
            "evidence offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} --json \
             --reference reference.json --simulated-root root.der --no-memory \
             --collateral fetch {rest}"
        );
        Command::new(env!("CARGO_BIN_EXE_sealtune-verify"))
            .args(line.split_whitespace())
            .current_dir(self.files.path())
            .env("SEALTUNE_COLLATERAL_SERVICE", service)
            .env("SEALTUNE_SNP_SERVICE", service)
            .env("SEALTUNE_RIM_SERVICE", service)
            .env("SEALTUNE_OCSP_SERVICE", service)
            .env("https_proxy", "http://127.0.0.1:9")
            .env("http_proxy", "http://127.0.0.1:9")
            .output()
            .expect("starts")
    }
}

fn code_of(output: &Output) -> String {
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    error["error"]["code"].as_str().expect("a code").to_owned()
}

fn codes_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn vector(name: &str) -> Option<Vec<u8>> {
    desk::vector(&format!("snp/{name}"))
}

fn page(asked: &'static str, body: Vec<u8>) -> Page {
    Page { asked, head: "200 OK\r\n".to_owned(), body }
}

/// A real report of a Milan in place of the quote; the rest of the bundle is not its.
fn milan() -> Option<EvidenceBundle> {
    let text = String::from_utf8(vector("report_milan.hex")?).expect("text");
    let report = hex::decode(text.trim()).expect("hex");
    let chain = vector("cert_chain_milan")?;
    let sent = SnpCollateral::from_service(&chain, &vector("vcek_milan.der")?, None);
    let mut bundle = Boot::new(1).offer();
    bundle.tee = Tee::Snp;
    bundle.quote = Base64Bytes(report);
    bundle.collateral = None;
    bundle.snp_collateral = Some(sent.expect("within bounds"));
    Some(bundle)
}

#[test]
fn amds_certificates_and_list_are_fetched() {
    let Some(bundle) = milan() else { return };
    let scenery = Scenery::new(&bundle);
    let pages = || {
        vec![
            page("GET /vcek/v1/Milan/cert_chain", vector("cert_chain_milan").expect("a vector")),
            page("GET /vcek/v1/Milan/crl", vec![0x30, 0]),
            page("GET /vcek/v1/Milan/", vector("vcek_milan.der").expect("a vector")),
        ]
    };
    let service = Service::start(pages());
    let output = scenery.verify(&service.address, "");
    // The list is none of AMD's: judged, and refused for that, not for what the sender brought.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(codes_of(&output).contains("ST-SNP-34"), "{}", codes_of(&output));
    let asked = service.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].contains("blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115"), "{asked:?}");
    // A service without the chip, and one that answers with a page.
    let mut without = pages();
    without.pop();
    let unreachable = scenery.verify(&Service::start(without).address, "");
    assert_eq!(
        (unreachable.status.code(), code_of(&unreachable).as_str()),
        (Some(3), "ST-COLL-04")
    );
    let mut other = pages();
    other[2].body = b"<html>".to_vec();
    let other = scenery.verify(&Service::start(other).address, "");
    assert_eq!((other.status.code(), code_of(&other).as_str()), (Some(3), "ST-COLL-03"));
    // A report of version 2 does not say of which processor it is.
    let bare = Scenery::new(&EvidenceBundle { snp_collateral: None, ..bundle });
    let service = Service::start(pages());
    let output = bare.verify(&service.address, "");
    assert_eq!((output.status.code(), code_of(&output).as_str()), (Some(1), "ST-COLL-15"));
    assert!(service.asked().is_empty());
}

struct Gpu {
    bundle: EvidenceBundle,
    collateral: NvidiaCollateral,
}

fn gpu() -> Gpu {
    let maker = SimulatedNvidia::create(NOW).expect("a maker");
    let gpu = maker.gpu(1).expect("a GPU");
    let evidence = gpu.evidence("gpu-0", &Report::new([7; 32])).expect("evidence");
    let mut bundle = Boot::new(1).offer();
    let evidence = Base64Bytes(serde_json::to_vec(&evidence).expect("writes"));
    bundle.gpu = vec![GpuEvidence { device: "gpu-0".into(), evidence }];
    Gpu { bundle, collateral: maker.collateral(&[&gpu]).expect("collateral") }
}

fn pages_of(collateral: &NvidiaCollateral) -> Vec<Page> {
    let rim = |at: usize| {
        let file = STANDARD.encode(&collateral.rims[at].file.0);
        format!("{{\"id\":\"x\",\"rim\":\"{file}\"}}").into_bytes()
    };
    vec![
        page("GET /v1/rim/NV_GPU_DRIVER_GH100_", rim(0)),
        page("GET /v1/rim/NV_GPU_VBIOS_", rim(1)),
        // Of one form for all: which certificate it is about is for the judgement.
        page("POST /", collateral.ocsp[0].response.0.clone()),
    ]
}

/// The user has AMD's part himself, so that NVIDIA alone is asked.
#[test]
fn what_gpus_need_is_fetched_or_the_run_fails() {
    let Gpu { mut bundle, collateral } = gpu();
    bundle.tee = Tee::Snp;
    bundle.collateral = None;
    // The sender's would do, if anybody took it.
    bundle.gpu_collateral = Some(collateral.clone());
    let scenery = Scenery::new(&bundle);
    let service = Service::start(pages_of(&collateral));
    let own = "--snp-collateral snp.json";
    let output = scenery.verify(&service.address, own);
    // Judged with what was fetched: a simulated GPU leads to no root of NVIDIA's.
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = service.asked();
    assert_eq!(asked.iter().filter(|line| line.starts_with("GET /v1/rim/")).count(), 2);
    // Three certificates of the GPU and two of the files; the foreign roots too, since they are not NVIDIA's.
    assert_eq!(asked.iter().filter(|line| *line == "POST /").count(), asked.len() - 2);
    assert!(asked.len() >= 2 + 5, "{asked:?}");
    // A file that NVIDIA's service does not have is left out: there is a verdict, and none by the sender's file.
    for missing in [0, 1] {
        let mut pages = pages_of(&collateral);
        let page = pages.remove(missing).asked;
        let service = Service::start(pages);
        let output = scenery.verify(&service.address, own);
        assert_eq!(output.status.code(), Some(1), "{page}");
        let asked = service.asked();
        assert_eq!(asked.iter().filter(|line| line.starts_with(page)).count(), 1, "{asked:?}");
        assert!(asked.iter().any(|line| line == "POST /"), "the others are asked for");
    }
    // A responder that does not answer ends the run.
    let mut pages = pages_of(&collateral);
    pages.remove(2);
    let output = scenery.verify(&Service::start(pages).address, own);
    assert_eq!((output.status.code(), code_of(&output).as_str()), (Some(3), "ST-COLL-04"));
    assert!(output.stdout.is_empty(), "no verdict by the sender's");
    let mut pages = pages_of(&collateral);
    pages[0].body = vec![b' '; 1 << 20];
    assert_eq!(code_of(&scenery.verify(&Service::start(pages).address, own)), "ST-COLL-04");
    let mut pages = pages_of(&collateral);
    pages[2].body = b"<html>".to_vec();
    assert_eq!(code_of(&scenery.verify(&Service::start(pages).address, own)), "ST-COLL-03");
    // Under a policy that does not judge GPUs nobody is asked about them; nor where the user brings the files.
    for more in ["--policy lax.toml", "--gpu-collateral gpu.json"] {
        let service = Service::start(pages_of(&collateral));
        let output = scenery.verify(&service.address, &format!("{own} {more}"));
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(service.asked().is_empty(), "{more}");
    }
}
