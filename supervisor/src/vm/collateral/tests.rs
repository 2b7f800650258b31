use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use sealtune_evidence::{
    EventLog, ImageIdentity, base64_bytes::Base64Bytes, collateral::ServiceBase, snp::SnpCollateral,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// A bundle around an SNP report that nobody signed: enough to know which machine it is.
fn bundle(chip: u8) -> EvidenceBundle {
    let mut report = vec![0; 1184];
    let mut put = |at: usize, value: &[u8]| report[at..at + value.len()].copy_from_slice(value);
    put(0, &3_u32.to_le_bytes());
    put(8, &(1_u64 << 17).to_le_bytes());
    put(0x34, &1_u32.to_le_bytes());
    put(0x180, &[3, 0, 0, 0, 0, 0, 8, 115]);
    put(0x188, &[0x19, 1, 1]);
    put(0x1a0, &[chip; 64]);
    EvidenceBundle {
        version: 1,
        tee: Tee::Snp,
        quote: Base64Bytes(report),
        event_log: EventLog::default(),
        launch: Base64Bytes(vec![]),
        claims: Base64Bytes(vec![]),
        image: ImageIdentity { name: "a".into(), version: "1".into() },
        gpu: vec![],
        ccel: None,
        dstack_log: None,
        collateral: None,
        snp_collateral: None,
        gpu_collateral: None,
    }
}

fn document(mark: u8) -> SnpCollateral {
    let der = |bytes: [u8; 2]| Base64Bytes(bytes.to_vec());
    SnpCollateral {
        version: 1,
        ark: der([0x30, 0]),
        ask: der([0x30, 0]),
        vek: der([0x30, mark]),
        crl: Some(der([0x30, 1])),
    }
}

#[test]
fn what_is_due_and_what_is_too_old() {
    let mut kept = Kept::default();
    let (ours, other) = (bundle(1), bundle(2));
    assert!(kept.due(&ours, DAY, 12 * HOUR).platform, "never fetched");
    kept.put_amd(&ours, document(7), DAY);
    assert!(!kept.due(&ours, DAY + 12 * HOUR - 1, 12 * HOUR).anything());
    assert!(kept.due(&ours, DAY + 12 * HOUR, 12 * HOUR).platform);
    assert!(kept.due(&other, DAY, 12 * HOUR).platform, "another machine");
    let attached = |bundle: &EvidenceBundle, now| {
        let mut bundle = bundle.clone();
        kept.attach(&mut bundle, now);
        bundle.snp_collateral
    };
    assert_eq!(attached(&ours, DAY), Some(document(7)));
    // Not refreshed for long, it still goes out; for too long, it does not.
    assert_eq!(attached(&ours, 30 * DAY), Some(document(7)));
    assert_eq!(attached(&ours, 31 * DAY), None);
    assert_eq!(attached(&other, DAY), None);
    let mut brought = ours.clone();
    brought.snp_collateral = Some(document(9));
    assert_eq!(attached(&brought, DAY), Some(document(9)), "what is there stays");
    // It is read back, and other files are not.
    let bytes = kept.to_bytes();
    assert_eq!(Kept::parse(&bytes), Some(kept));
    let text = String::from_utf8(bytes).expect("text");
    assert!(
        Kept::parse(text.replace("\"version\":1,\"intel\"", "\"version\":2,\"intel\"").as_bytes())
            .is_none()
    );
    assert!(Kept::parse(text.replacen('{', "{\"x\":1,", 1).as_bytes()).is_none());
    // The machines of long ago make room.
    let mut kept = Kept::default();
    for chip in 1..=9 {
        kept.put_amd(&bundle(chip), document(chip), u64::from(chip));
    }
    assert!(kept.due(&bundle(5), 9, DAY).platform && !kept.due(&bundle(6), 9, DAY).platform);
}

/// The time of the tests below: one for each, since a clock is a plain function.
static NOW: AtomicU64 = AtomicU64::new(100 * DAY);

fn clock() -> u64 {
    NOW.load(Ordering::SeqCst)
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

/// AMD's service for any chip, as long as it is `open`.
async fn service(open: Arc<Mutex<bool>>, asked: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let count = asked.fetch_add(1, Ordering::SeqCst);
            let text = String::from_utf8_lossy(&request).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let body = match path {
                _ if path.ends_with("/cert_chain") => PEM.as_bytes().to_vec(),
                _ if path.ends_with("/crl") => vec![0x30, 1],
                _ => vec![0x30, u8::try_from(count).unwrap_or(0xff)],
            };
            let is_open = *open.lock().expect("a lock");
            let status = if is_open { "200 OK" } else { "503 Busy" };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    address
}

#[tokio::test]
async fn bundles_get_what_was_fetched_and_go_without_a_network() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = tempfile::tempdir().expect("a directory");
    let (open, asked) = (Arc::new(Mutex::new(false)), Arc::new(AtomicU64::new(0)));
    let address = service(Arc::clone(&open), Arc::clone(&asked)).await;
    let services = || Services {
        amd: ServiceBase::parse(&address).expect("an address"),
        ..Services::default()
    };
    let start = || {
        let settings = CollateralSettings { services: services(), refresh: 12 * HOUR };
        HostCollateral::start(state.path(), settings, clock)
    };
    let newest = async |host: &HostCollateral| {
        let mut bundle = bundle(1);
        host.ready(&bundle).await;
        host.attach(&mut bundle);
        bundle.snp_collateral
    };
    let asked = || asked.load(Ordering::SeqCst);
    let host = start();
    // Nobody answers: evidence goes out without, and the service is left alone for a while.
    assert_eq!(newest(&host).await, None);
    assert_eq!((newest(&host).await, asked()), (None, 1));
    *open.lock().expect("a lock") = true;
    assert_eq!((newest(&host).await, asked()), (None, 1));
    NOW.fetch_add(REST, Ordering::SeqCst);
    assert_eq!((newest(&host).await, asked()), (Some(document(1)), 4));
    assert_eq!((newest(&host).await, asked()), (Some(document(1)), 4), "not asked again");
    assert!(state.path().join(FILE).exists());
    // The next daemon begins with it, and asks when it is due.
    drop(host);
    let host = start();
    assert_eq!((newest(&host).await, asked()), (Some(document(1)), 4));
    NOW.fetch_add(12 * HOUR, Ordering::SeqCst);
    assert_eq!((newest(&host).await, asked()), (Some(document(4)), 7));
    // What cannot be understood is made anew.
    drop(host);
    std::fs::write(state.path().join(FILE), "{").expect("writes");
    assert_eq!((newest(&start()).await, asked()), (Some(document(7)), 10));
    // The operator's word.
    let settings = CollateralSettings { services: services(), refresh: 0 };
    let off = HostCollateral::start(state.path(), settings, clock);
    assert_eq!((newest(&off).await, asked()), (None, 10));
}

#[cfg(feature = "simulated-tee")]
#[test]
fn gpus_get_the_files_and_responses_that_they_need() {
    use sealtune_evidence::{
        bundle::GpuEvidence,
        nvidia::{
            NvidiaCollateral,
            simulated::{Report, SimulatedNvidia},
        },
    };
    let now = 1_795_000_000;
    let maker = SimulatedNvidia::create(now).expect("a maker");
    let gpus = [maker.gpu(1).expect("a GPU"), maker.gpu(2).expect("a GPU")];
    let with = |gpu: usize| {
        let evidence = gpus[gpu].evidence("gpu-0", &Report::new([7; 32])).expect("evidence");
        let evidence = Base64Bytes(serde_json::to_vec(&evidence).expect("JSON"));
        EvidenceBundle { gpu: vec![GpuEvidence { device: "gpu-0".into(), evidence }], ..bundle(1) }
    };
    let all = maker.collateral(&[&gpus[0], &gpus[1]]).expect("collateral");
    let mut kept = Kept::default();
    assert!(kept.due(&with(0), now, DAY).gpu);
    let mut bare = with(0);
    kept.attach(&mut bare, now);
    assert_eq!(bare.gpu_collateral, None);
    kept.put_gpu(all.clone(), &NvidiaCollateral::default(), now);
    for gpu in 0..2 {
        let mut whole = with(gpu);
        kept.attach(&mut whole, now);
        let got = whole.gpu_collateral.expect("collateral");
        // Both files, their two certificates, and the three of this GPU, not the other's own.
        assert_eq!((got.rims.len(), got.ocsp.len()), (2, 5));
    }
    // Responses end after a day; they are due a little before, and do not go out afterwards.
    let mut late = with(0);
    kept.attach(&mut late, now + DAY + 1);
    assert_eq!(late.gpu_collateral.map(|got| (got.rims.len(), got.ocsp.len())), Some((2, 0)));
    let known = kept.known_for(&with(0), now + DAY - 600, 30 * DAY);
    assert_eq!((known.rims.len(), known.ocsp.len()), (2, 0));
    // What was known before a fetch keeps its age.
    kept.put_gpu(all.clone(), &all, now + 20 * DAY);
    assert_eq!(kept.known_for(&with(0), now + 31 * DAY, 40 * DAY), NvidiaCollateral::default());
}
