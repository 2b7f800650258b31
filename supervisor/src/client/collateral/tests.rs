use std::path::PathBuf;

use sealtune_evidence::{
    Anchors, Collateral, EventLog, HexBytes, ImageIdentity, Policy, Tee,
    base64_bytes::Base64Bytes,
    collateral::{Code, ServiceBase, Services},
    quote::without_padding,
    verdict::Findings,
};
use sealtune_verify::Part;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// When the collateral of the vectors was valid.
const THEN: u64 = 1_772_708_331;

fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let path = root.join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

/// A real quote with the collateral of its day; the rest of the bundle is not looked at here.
fn real() -> Option<EvidenceBundle> {
    let report: Value =
        serde_json::from_slice(&vector("tdx/gpu-vm-local-sgx.quote-report.json")?).expect("JSON");
    let quote = hex::decode(report["quote"].as_str().expect("hex")).expect("hex");
    let collateral = vector("tdx/gpu-vm-local-sgx.collateral.json")?;
    Some(EvidenceBundle {
        version: 1,
        tee: Tee::Tdx,
        quote: Base64Bytes(without_padding(&quote).expect("a quote").to_vec()),
        event_log: EventLog::default(),
        dstack_log: None,
        launch: Base64Bytes(vec![]),
        claims: Base64Bytes(vec![]),
        image: ImageIdentity { name: "a".into(), version: "1".into() },
        gpu: vec![],
        ccel: None,
        collateral: Some(Collateral::parse(&collateral).expect("collateral")),
        snp_collateral: None,
        gpu_collateral: None,
    })
}

fn trust(service: &str) -> Trust {
    Trust {
        policy: Policy::strict(),
        vouched: sealtune_verify::Trust::default(),
        anchors: Anchors::default(),
        own: Documents::default(),
        services: Some(Services {
            intel: ServiceBase::parse(service).expect("an address"),
            ..Services::default()
        }),
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A cache that answers four questions, or with `refuse` none.
async fn service(collateral: &Collateral, refuse: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let chain = percent_encode(&collateral.tcb_info_issuer_chain);
    let signed = |name: &str, inner: &str, signature: &HexBytes| {
        format!("{{\"{name}\":{inner},\"signature\":\"{signature:?}\"}}").into_bytes()
    };
    let pages = [
        ("/sgx/certification/v4/pckcrl?", "SGX-PCK-CRL-Issuer-Chain", collateral.pck_crl.0.clone()),
        (
            "/tdx/certification/v4/tcb?fmspc=90C06F000000&update=early",
            "TCB-Info-Issuer-Chain",
            signed("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature),
        ),
        (
            "/tdx/certification/v4/qe/identity?",
            "SGX-Enclave-Identity-Issuer-Chain",
            signed("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature),
        ),
        (
            "/sgx/certification/v4/rootcacrl",
            "X-None",
            hex::encode(&collateral.root_ca_crl.0).into_bytes(),
        ),
    ];
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let page = pages.iter().find(|(start, _, _)| !refuse && path.starts_with(start));
            let (status, header, body) = match page {
                Some((_, name, body)) => ("200 OK", format!("{name}: {chain}\r\n"), body.clone()),
                None => ("503 Busy", String::new(), vec![]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    address
}

/// Nothing was asked.
fn is_quiet(fresh: &Fresh) -> bool {
    fresh.documents.intel.is_none()
        && fresh.documents.amd.is_none()
        && fresh.documents.gpu.is_none()
        && fresh.failed.is_empty()
}

fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test]
async fn real_machines_are_asked_about_and_others_are_not() {
    let Some(bundle) = real() else { return };
    install_provider();
    let collateral = bundle.collateral.clone().expect("collateral");
    let good = trust(&service(&collateral, false).await);
    let asked = async |trust: &Trust, bundle: &EvidenceBundle, now| {
        Fresh::newest(trust, &[bundle], now).await
    };
    let fetched = asked(&good, &bundle, THEN).await.documents.intel.expect("answered");
    assert_eq!(fetched.tcb_info, collateral.tcb_info);
    assert_eq!(fetched.root_ca_crl, collateral.root_ca_crl);
    // Also where the sender brought none.
    let bare = EvidenceBundle { collateral: None, ..bundle.clone() };
    assert!(asked(&good, &bare, THEN).await.documents.intel.is_some());
    // Also where the sender's has ended, as with a receipt of last year.
    assert!(asked(&good, &bundle, THEN + 200 * 86_400).await.documents.intel.is_some());
    let busy = trust(&service(&collateral, true).await);
    let fresh = asked(&busy, &bundle, THEN).await;
    assert!(
        fresh.documents.intel.is_none() && fresh.failed[0].contains("503"),
        "{:?}",
        fresh.failed
    );
    // Who wants to stay offline asks nobody.
    let offline = Trust { services: None, ..trust("http://127.0.0.1:9") };
    assert!(is_quiet(&asked(&offline, &bundle, THEN).await));
    // What does not verify is refused anyway.
    let mut broken = bundle.clone();
    broken.quote.0[700] ^= 1;
    assert!(is_quiet(&asked(&good, &broken, THEN).await));
    // The customer's own file comes first.
    let own = Trust {
        own: Documents { intel: Some(collateral), ..Documents::default() },
        ..trust("http://127.0.0.1:9")
    };
    assert!(is_quiet(&asked(&own, &bundle, THEN).await));
}

#[test]
fn what_was_seen_may_not_fall() {
    let Some(bundle) = real() else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("state/collateral-memory.json");
    let trust = trust("http://127.0.0.1:9");
    let judged = |now| {
        let mut findings = Findings::default();
        findings.affirm("quote", "", "test", "");
        let mut verdict = findings.into_verdict("test", false, Policy::strict().identity(), THEN);
        let parts = [Part { name: "", bundle: &bundle }];
        trust.remember(&path, &parts, &Fresh::default(), now, &mut verdict).map(|()| verdict)
    };
    // Collateral that is not valid now is no knowledge, and no yes rests on it.
    let verdict = judged(THEN + 60 * 86_400).expect("judges");
    assert!(!verdict.is_accepted() && verdict.has(Code::Facts) && !path.exists());
    assert!(judged(THEN).expect("judges").is_accepted());
    assert!(judged(THEN).expect("judges").finding("collateral-memory").is_some());
    let kept = std::fs::read_to_string(&path).expect("remembered");
    let raised = kept.replacen("\"platform\":", "\"platform\":9", 1);
    std::fs::write(&path, &raised).expect("writes");
    let verdict = judged(THEN).expect("judges");
    assert!(!verdict.is_accepted());
    assert_eq!(verdict.codes().collect::<Vec<_>>(), ["ST-COLL-08"]);
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), raised, "nothing was forgotten");
    std::fs::write(&path, "{}").expect("writes");
    assert_eq!(judged(THEN).expect_err("unreadable").code, "ST-COLL-09");
}

/// AMD's service is asked about a report that says of which chip it is, NVIDIA's if the policy wants GPUs judged.
#[tokio::test]
async fn every_maker_is_asked_for_his_part() {
    install_provider();
    let Some(mut bundle) = real() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let nobody = || ServiceBase::parse(&address).expect("an address");
    let mut report = vec![0; 1184];
    let mut put = |at: usize, value: &[u8]| report[at..at + value.len()].copy_from_slice(value);
    put(0, &3_u32.to_le_bytes());
    put(8, &(1_u64 << 17).to_le_bytes());
    put(0x34, &1_u32.to_le_bytes());
    put(0x188, &[0x19, 1, 1]);
    put(0x1a0, &[7; 64]);
    bundle.tee = Tee::Snp;
    bundle.quote = Base64Bytes(report);
    bundle.collateral = None;
    let trust = Trust {
        services: Some(Services { amd: nobody(), ..Services::default() }),
        ..trust("http://127.0.0.1:9")
    };
    let fresh = Fresh::newest(&trust, &[&bundle], THEN).await;
    assert!(fresh.documents.amd.is_none() && fresh.failed.len() == 1, "{:?}", fresh.failed);
    assert!(fresh.failed[0].contains("/vcek/v1/Milan/0707"), "{:?}", fresh.failed);
    // A VLEK's certificate is nobody's to fetch.
    bundle.quote.0[0x48] = 1 << 2;
    let fresh = Fresh::newest(&trust, &[&bundle], THEN).await;
    assert!(fresh.failed[0].contains("VLEK"), "{:?}", fresh.failed);
}
