//! What is asked about GPUs, and what is kept of the answers.

use sealtune_evidence::{
    ClaimsBuilder, FixedHex, HpkeClaim, HpkeSuite, Role, VmMode,
    bundle::GpuEvidence,
    claims::gpu_nonce,
    nvidia::{
        NvidiaCollateral,
        simulated::{Report, SimulatedGpu, SimulatedNvidia},
    },
};

use super::*;

const TIME: u64 = 1_795_000_000;

/// Evidence over `nonce`, with a GPU that answers it.
fn with_gpu(gpu: &SimulatedGpu, nonce: u8) -> EvidenceBundle {
    let key = HpkeClaim { suite: HpkeSuite::X25519, key: vec![8; 32].into() };
    let digest = LaunchDigest::of(&[]);
    let (role, mode) = (Role::Worker, VmMode::PerJob);
    let of_boot = FixedHex([6; 32]);
    let claims = ClaimsBuilder::new(of_boot, role, mode, FixedHex([7; 32]), key, digest);
    let claims = claims.identity(FixedHex([nonce; 32])).expect("claims");
    let key = &claims.hpke.key.0;
    let asked = gpu_nonce(claims.purpose, &claims.nonce, &claims.instance, key);
    let evidence = gpu.evidence("gpu-0", &Report::new(asked)).expect("evidence");
    let evidence = Base64Bytes(serde_json::to_vec(&evidence).expect("JSON"));
    let gpu = vec![GpuEvidence { device: "gpu-0".into(), evidence }];
    let claims = claims.canonical_bytes().expect("claims");
    EvidenceBundle { gpu, ..bundle_over(1, claims) }
}

#[tokio::test]
async fn what_nvidia_does_not_have_is_asked_for_once() {
    let maker = SimulatedNvidia::create(TIME).expect("a maker");
    let verifies: Verifies = |_, brought, _| brought.amd.is_some();
    let (host, _, asked, _state) = stage(|| TIME, Eyes { verifies, roots: maker.roots() }).await;
    let gpu = maker.gpu(1).expect("a GPU");
    for nonce in [7, 8, 9] {
        let mut bundle = with_gpu(&gpu, nonce);
        host.ready_for("vm", &bundle).await;
        host.attach(&mut bundle);
        assert!(bundle.snp_collateral.is_some() && bundle.gpu_collateral.is_none());
        // Three about the machine, two files, the GPU's four certificates above the leaf: its root is none of NVIDIA's.
        assert_eq!(asked.load(Ordering::SeqCst), 3 + 2 + 4);
    }
}

#[tokio::test]
async fn nobody_is_asked_about_a_gpu_that_is_none_of_nvidias() {
    let maker = SimulatedNvidia::create(TIME).expect("a maker");
    let (host, _, asked, _state) = stage(|| TIME, eyes(|_, _, _| true)).await;
    let mut bundle = with_gpu(&maker.gpu(1).expect("a GPU"), 7);
    host.ready_for("vm", &bundle).await;
    host.attach(&mut bundle);
    assert!(bundle.snp_collateral.is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 3, "the machine alone");
}

#[tokio::test]
async fn what_came_is_kept_where_the_rest_cannot_be_had() {
    let maker = SimulatedNvidia::create(TIME).expect("a maker");
    let gpu = maker.gpu(1).expect("a GPU");
    let all = maker.collateral(&[&gpu]).expect("collateral");
    // RIM files come; nobody listens where OCSP is.
    let body =
        format!("{{\"id\":\"x\",\"rim\":\"{}\",\"sha256\":\"00\"}}", base64(&all.rims[0].file.0));
    let rim = files(body).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ocsp = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let base = |address: &str| ServiceBase::parse(address).expect("an address");
    let bundle = with_gpu(&gpu, 7);
    let roots = NvidiaRoots::nvidia();
    let devices = vec![bundle.gpu[0].evidence.0.as_slice()];
    let inquiry = GpuInquiry::new(&base(&rim), &base(&ocsp), devices, None, &roots);
    let end = Instant::now() + Duration::from_secs(60);
    let (got, missing) = super::super::gpus::fetch(inquiry, end).await;
    assert_eq!((got.rims.len(), got.ocsp.len(), missing.len()), (2, 0, 1));
    let told = Failure::from(missing).to_string();
    assert!(told.starts_with("fetch collateral of GPUs: "), "{told}");
    // It is kept, and the rest is not asked for at every turn.
    let mut kept = Kept::default();
    kept.put_gpu(&bundle, got, &NvidiaCollateral::default(), TIME);
    assert!(!kept.due(&bundle, TIME, DAY).gpu && kept.due(&bundle, TIME + REST, DAY).gpu);
    let known = kept.known_for(&bundle, TIME, DAY);
    assert_eq!((known.rims.len(), known.ocsp.len()), (2, 0));
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Answers everything with this.
async fn files(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
        }
    });
    address
}

#[test]
fn gpus_get_the_files_and_responses_that_they_need() {
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
    kept.put_gpu(&with(0), all.clone(), &NvidiaCollateral::default(), now);
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
    kept.put_gpu(&with(0), all.clone(), &all, now + 20 * DAY);
    assert_eq!(kept.known_for(&with(0), now + 31 * DAY, 40 * DAY), NvidiaCollateral::default());
    // What is not there to be had is not due at every turn: a response, a file, and what ends at once.
    let none = NvidiaCollateral::default();
    let due = |kept: &Kept, now| kept.due(&with(0), now, DAY).gpu;
    let without = |change: &dyn Fn(&mut NvidiaCollateral)| {
        let mut some = all.clone();
        change(&mut some);
        some
    };
    let unanswered = without(&|some| some.ocsp.truncate(1));
    let unserved = without(&|some| some.rims.truncate(1));
    for (document, now) in [(unanswered, now), (unserved, now), (all.clone(), now + DAY - 60)] {
        let mut kept = Kept::default();
        assert!(due(&kept, now));
        kept.put_gpu(&with(0), document, &none, now);
        assert!(!due(&kept, now) && !due(&kept, now + REST - 1), "asked a moment ago");
        assert!(due(&kept, now + REST), "asked again");
    }
    // A GPU is known by what it needs, not by what it was asked.
    assert_eq!(kept::gpu_key(&with(0)), kept::gpu_key(&with(0)));
    assert_ne!(kept::gpu_key(&with(0)), kept::gpu_key(&with(1)));
}
