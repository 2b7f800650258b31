use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use sealtune_evidence::{
    EventLog, ImageIdentity, LaunchDigest, Tee, base64_bytes::Base64Bytes, collateral::ServiceBase,
    report_data, snp::SnpCollateral,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

#[cfg(feature = "simulated-tee")]
mod gpus;

const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// A bundle around an SNP report that nobody signed: enough to know which machine it is, and that it is for this VM.
fn bundle(chip: u8) -> EvidenceBundle {
    bundle_over(chip, vec![])
}

fn bundle_over(chip: u8, claims: Vec<u8>) -> EvidenceBundle {
    let mut report = vec![0; 1184];
    let mut put = |at: usize, value: &[u8]| report[at..at + value.len()].copy_from_slice(value);
    put(0, &3_u32.to_le_bytes());
    put(8, &(1_u64 << 17).to_le_bytes());
    put(0x34, &1_u32.to_le_bytes());
    put(0x180, &[3, 0, 0, 0, 0, 0, 8, 115]);
    put(0x188, &[0x19, 1, 1]);
    put(0x1a0, &[chip; 64]);
    put(0x50, &report_data(&claims));
    put(0xc0, LaunchDigest::of(&[]).host_data().as_bytes());
    EvidenceBundle {
        version: 1,
        tee: Tee::Snp,
        quote: Base64Bytes(report),
        event_log: EventLog::default(),
        launch: Base64Bytes(vec![]),
        claims: Base64Bytes(claims),
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
    // However seldom the operator wants it: what is too old to go out is due, and so is what comes from the future.
    assert!(!kept.due(&ours, DAY + 30 * DAY - 1, 60 * DAY).anything());
    assert!(kept.due(&ours, DAY + 30 * DAY, 60 * DAY).platform);
    assert!(kept.due(&ours, DAY - 1, 12 * HOUR).platform);
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
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
            });
            let _ = stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await;
            let body = match path {
                // An OCSP responder that does not answer for any certificate.
                "/" => vec![0x30, 3, 0x0a, 1, 6],
                _ if path.ends_with("/cert_chain") => PEM.as_bytes().to_vec(),
                _ if path.ends_with("/crl") => vec![0x30, 1],
                _ => vec![0x30, u8::try_from(count).unwrap_or(0xff)],
            };
            let is_open = *open.lock().expect("a lock");
            let status = match is_open {
                true if path.starts_with("/v1/rim/") => "404 Not Found",
                true => "200 OK",
                false => "503 Busy",
            };
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
        HostCollateral::start_with(state.path(), settings, clock, eyes(|_, _, _| true))
    };
    let newest = async |host: &HostCollateral| {
        let mut bundle = bundle(1);
        host.ready_for("vm", &bundle).await;
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

fn eyes(verifies: Verifies) -> Eyes {
    Eyes { verifies, ..Eyes::default() }
}

/// A stage for machines of which one is made up.
async fn stage(
    clock: fn() -> u64,
    eyes: Eyes,
) -> (HostCollateral, Arc<Mutex<bool>>, Arc<AtomicU64>, tempfile::TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = tempfile::tempdir().expect("a directory");
    let (open, asked) = (Arc::new(Mutex::new(true)), Arc::new(AtomicU64::new(0)));
    let address = service(Arc::clone(&open), Arc::clone(&asked)).await;
    let amd = ServiceBase::parse(&address).expect("an address");
    let services = Services { rim: amd.clone(), ocsp: amd.clone(), amd, ..Services::default() };
    let settings = CollateralSettings { services, refresh: 12 * HOUR };
    let host = HostCollateral::start_with(state.path(), settings, clock, eyes);
    (host, open, asked, state)
}

async fn attached(host: &HostCollateral, chip: u8) -> bool {
    let mut bundle = bundle(chip);
    host.ready_for(&format!("vm-{chip}"), &bundle).await;
    host.attach(&mut bundle);
    bundle.snp_collateral.is_some()
}

#[tokio::test]
async fn what_is_fetched_for_a_quote_that_does_not_verify_is_not_kept() {
    let (host, _, asked, state) = stage(|| 100 * DAY, Eyes::default()).await;
    // Nobody signed the report; and who sends it again does not make the host ask again.
    assert!(!attached(&host, 1).await && !attached(&host, 1).await);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(!state.path().join(FILE).exists());
}

#[tokio::test]
async fn a_made_up_machine_keeps_nobody_from_the_real_one() {
    // Reports of chips from 10 on, and any with another family, are made up.
    let real: Verifies = |bundle, brought, _| {
        brought.amd.is_some() && bundle.quote.0[0x1a0] < 10 && bundle.quote.0[0x10] == 0
    };
    let (host, open, asked, _state) = stage(|| 100 * DAY, eyes(real)).await;
    let asked = || asked.load(Ordering::SeqCst);
    *open.lock().expect("a lock") = false;
    assert!(!attached(&host, 20).await);
    assert_eq!(asked(), 1);
    *open.lock().expect("a lock") = true;
    // Its failure is its own.
    assert!(!attached(&host, 20).await);
    assert_eq!(asked(), 1);
    // Neither is the real machine's name in a made-up report of use.
    let mut copy = bundle(1);
    copy.quote.0[0x10] = 1;
    host.ready_for("copy", &copy).await;
    host.attach(&mut copy);
    assert_eq!((asked(), copy.snp_collateral), (4, None));
    assert!(attached(&host, 1).await);
    assert_eq!(asked(), 4, "what was fetched for the copy serves");
    for chip in 30..40 {
        assert!(!attached(&host, chip).await);
    }
    assert_eq!(asked(), 34);
    assert!(attached(&host, 1).await);
    assert_eq!(asked(), 34, "it is still there");
}

#[tokio::test]
async fn who_waited_does_not_wish_again() {
    let (host, _, asked, _state) = stage(|| 100 * DAY, eyes(|_, _, _| true)).await;
    host.attach(&mut bundle(1));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_service_that_never_ends_is_left_alone() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", silent.local_addr().expect("an address"));
    let amd = ServiceBase::parse(&address).expect("an address");
    let kept = Arc::new(Kept::default());
    let mut keeper = Keeper {
        path: PathBuf::new(),
        settings: CollateralSettings {
            services: Services { amd, ..Services::default() },
            refresh: 12 * HOUR,
        },
        publish: watch::channel(Arc::clone(&kept)).0,
        kept,
        last: None,
        rests: Rests::default(),
        unproven: BTreeMap::new(),
        budget: Budget::new(100 * DAY),
        verifies,
        most: Duration::from_millis(300),
        clock: || 100 * DAY,
    };
    let refresh = keeper.refresh(Some("vm"), bundle(1));
    tokio::time::timeout(Duration::from_secs(9), refresh).await.expect("it ends");
    let (_, key) = kept::key(&bundle(1)).expect("a machine");
    assert!(keeper.rests.has(&key, 100 * DAY) && keeper.last.is_none());
}

#[tokio::test]
async fn one_vm_cannot_make_the_host_ask_about_machine_after_machine() {
    let (host, _, asked, _state) = stage(|| 100 * DAY, eyes(|_, _, _| false)).await;
    for chip in 1..=50 {
        let bundle = bundle(chip);
        host.ready_for("vm", &bundle).await;
    }
    // Four inquiries of three requests.
    assert_eq!(asked.load(Ordering::SeqCst), 4 * 3);
    for chip in 51..=53 {
        assert!(!attached(&host, chip).await);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 7 * 3, "other VMs have their own");
}

#[tokio::test]
async fn nobody_is_asked_about_evidence_that_its_machine_did_not_make_for_this_vm() {
    let (host, _, asked, _state) = stage(|| 100 * DAY, eyes(|_, _, _| true)).await;
    let mut claims = bundle(1);
    claims.claims.0.push(b'x');
    let mut launch = bundle(2);
    launch.launch.0.push(b'x');
    // A quote that names a machine of Intel's, and is none.
    let tdx = EvidenceBundle { tee: Tee::Tdx, ..bundle(3) };
    for bundle in [claims, launch, tdx] {
        host.ready_for("vm", &bundle).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // The very bundle, unchanged.
    assert!(attached(&host, 1).await);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_real_quote_verifies_with_its_collateral_and_no_other_does() {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let read = |name: &str| std::fs::read(root.join("tdx").join(name)).ok();
    let (Some(report), Some(collateral)) =
        (read("gpu-vm-local-sgx.quote-report.json"), read("gpu-vm-local-sgx.collateral.json"))
    else {
        println!("skipped: no vectors in {}", root.display());
        return;
    };
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let text = report["quote"].as_str().expect("hex");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    let padded: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
    let quote = sealtune_evidence::quote::without_padding(&padded).expect("zero padding");
    let mut bundle =
        EvidenceBundle { tee: Tee::Tdx, quote: Base64Bytes(quote.to_vec()), ..bundle(1) };
    let document = sealtune_evidence::Collateral::parse(&collateral).expect("collateral");
    let now = 1_772_708_331;
    let mut kept = Kept::default();
    assert!(!verifies(&bundle, kept.brought(&bundle, now), now), "there is none");
    kept.put(&bundle, Platform::Intel(Box::new(document)), now);
    assert!(verifies(&bundle, kept.brought(&bundle, now), now));
    bundle.quote.0[600] ^= 1;
    assert!(kept::key(&bundle).is_some() && !verifies(&bundle, kept.brought(&bundle, now), now));
}
