//! The verifier-facing calls, with a store on disk and agents that are played.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use sealtune_content::ContentId;
use sealtune_evidence::{BootFiles, FixedHex, Shape, layout1};
use sealtune_job::{Hex, JobId, JobKind, Limits};
use sealtune_seal::{
    OwnerKey, Suite,
    owner_call::{Call, CallHeaders, sign_call},
};
use sealtune_wire::v1::{AgentEvent, AgentReply, Evidence};
use tokio::sync::{Notify, mpsc};
use tower::ServiceExt as _;

use super::{
    quotes::{Strangers, VmLine},
    router,
    shared::Shared,
    types::Submission,
};
use crate::{
    content::ContentStore,
    daemon::{
        changes::Changes,
        pool::{PoolHandle, PoolSettings},
    },
    store::Store,
    vm::{
        arguments::Accelerator,
        collateral::HostCollateral,
        definition::{VmDefinition, VmPlan},
        image::GuestImage,
        probe::HostAbility,
        quoting::QuoteService,
        task::{VmCommand, VmContext, VmHandle, first_view},
        tee::HostTee,
    },
};

const NONCE: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 1024 };

/// An agent that answers when it is let, and counts what it is asked.
#[derive(Default)]
struct Agent {
    asked: AtomicUsize,
    may_answer: Notify,
}

fn evidence() -> Evidence {
    Evidence {
        tee: "tdx".into(),
        quote: "AAAA".into(),
        event_log: "[]".into(),
        claims: "{}".into(),
        gpu: vec![],
        dstack_log: None,
    }
}

fn image() -> GuestImage {
    GuestImage {
        name: "sealtune".into(),
        release: "0.1.0".into(),
        kernel: "kernel".into(),
        initramfs: "initramfs".into(),
        command_line: String::new(),
        firmware: None,
    }
}

fn definition() -> VmDefinition {
    let digest = FixedHex([1; 48]);
    let files =
        BootFiles { firmware: digest, kernel: digest, initramfs: digest, cmdline: String::new() };
    VmDefinition::new(VmPlan {
        job: None,
        accelerator: Accelerator::Tcg,
        kernel_vsock: false,
        sandbox: true,
        vcpus: SHAPE.vcpus,
        memory_mib: SHAPE.memory_mib,
        run_directory: Path::new("run"),
        firmware: Path::new("firmware"),
        image: &image(),
        layers: vec![],
        boot: layout1::measure(&files, SHAPE).expect("measures"),
        quote_service: QuoteService::default(),
    })
    .expect("a definition")
}

struct Host {
    router: Router,
    store: Store,
    agent: Arc<Agent>,
    line: Arc<VmLine>,
    state: tempfile::TempDir,
}

/// A daemon without QEMU; `with_vm`: one VM is ready.
async fn host(with_vm: bool) -> Host {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = tempfile::tempdir().expect("a directory");
    let store = Store::open(state.path()).await.expect("a store");
    let (agent, line) = (Arc::new(Agent::default()), Arc::new(VmLine::new(0)));
    let mut handles = HashMap::new();
    if with_vm {
        let definition = definition();
        let mut view = first_view(&definition);
        view.state = "ready".into();
        store.add_vm(&definition, &view, 0).await.expect("stored");
        let (commands, mut asked) = mpsc::channel(16);
        let handle = VmHandle { job: None, started: 0, commands, line: line.clone() };
        handles.insert(definition.id, handle);
        let playing = agent.clone();
        tokio::spawn(async move {
            while let Some(VmCommand::Request { reply, .. }) = asked.recv().await {
                playing.asked.fetch_add(1, Ordering::SeqCst);
                playing.may_answer.notified().await;
                let _ = reply.send(Ok(AgentReply::Evidence(evidence())));
            }
        });
    }
    let content = ContentStore::open(store.clone(), state.path(), vec![]).expect("content");
    let context = Arc::new(VmContext {
        store: store.clone(),
        tee: HostTee::open(state.path()).expect("a TEE"),
        collateral: HostCollateral::Off,
        content,
        changes: Changes::new(),
        qemu: "qemu".into(),
        vsock_helper: "helper".into(),
        results: state.path().into(),
        release_time: Duration::from_secs(1),
        stop_time: Duration::from_secs(1),
    });
    let ability = HostAbility {
        qemu_version: "7.2".into(),
        accelerator: Accelerator::Tcg,
        reason: String::new(),
        sandbox: true,
        kernel_vsock: false,
    };
    let settings = Arc::new(PoolSettings {
        ability,
        image: image(),
        firmware: "firmware".into(),
        layers: vec![],
        run_directory: "run".into(),
        max_vms: 1,
        vcpus: SHAPE.vcpus,
        memory_mib: SHAPE.memory_mib,
        job_time: Duration::from_secs(1),
        quote_service: QuoteService::default(),
    });
    let shared = Arc::new(Shared {
        context,
        pool: PoolHandle::of(handles),
        settings,
        results: state.path().into(),
        strangers: Strangers::new(),
    });
    Host { router: router::public(shared), store, agent, line, state }
}

struct Said {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Said {
    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or("none").to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Host {
    async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Said {
        let request = Request::builder().method(method).uri(path).body(body.into());
        let answer = self.router.clone().oneshot(request.expect("a request"));
        let answer = answer.await.expect("answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = to_bytes(answer.into_body(), 4 << 20).await.expect("a body").to_vec();
        Said { status, headers, body }
    }
}

#[tokio::test]
async fn every_challenge_that_is_none_is_refused_before_a_vm_hears_of_it() {
    let host = host(true).await;
    let with = |rest: &str| format!(r#"{{"nonce":"{NONCE}"{rest}}}"#);
    let upper = NONCE.to_uppercase();
    let zero = "0".repeat(64);
    let long = with(&format!(r#","{}":1"#, "x".repeat(3000)));
    let cases = [
        (String::new(), 400, "ST-API-01"),
        ("{".into(), 400, "ST-API-01"),
        ("[]".into(), 400, "ST-API-01"),
        ("{}".into(), 400, "ST-API-01"),
        (r#"{"nonce":"00"}"#.into(), 400, "ST-API-01"),
        (format!(r#"{{"nonce":"{NONCE}5a"}}"#), 400, "ST-API-01"),
        (format!(r#"{{"nonce":"{upper}"}}"#), 400, "ST-API-01"),
        (format!(r#"{{"nonce":"0x{}"}}"#, &NONCE[2..]), 400, "ST-API-01"),
        (format!(r#"{{"nonce":"{zero}"}}"#), 400, "ST-API-01"),
        (with(&format!(r#","nonce":"{NONCE}""#)), 400, "ST-API-01"),
        (with(r#","purpose":"start""#), 400, "ST-API-01"),
        (with(r#","purpose":"Identity""#), 400, "ST-API-01"),
        (with(r#","purpose":7"#), 400, "ST-API-01"),
        (with(r#","other":1"#), 400, "ST-API-01"),
        (with("} {"), 400, "ST-API-01"),
        (long, 400, "ST-API-01"),
        (with(&" ".repeat(4 << 10)), 413, "ST-API-11"),
    ];
    for (body, status, code) in cases {
        let said = host.ask("POST", "/v1/attestation", body.clone()).await;
        assert_eq!((said.status, said.code().as_str()), (status, code), "{body:.80}");
        assert!(said.body.len() < 1024, "what was sent is not sent back: {}", said.body.len());
        assert_eq!(said.header("cache-control"), Some("no-store"));
    }
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let said = host.ask(method, "/v1/attestation", "").await;
        assert_eq!((said.status, said.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(host.agent.asked.load(Ordering::SeqCst), 0);
    host.agent.may_answer.notify_one();
    let said = host.ask("POST", "/v1/attestation", with(r#","purpose":"offer""#)).await;
    assert_eq!((said.status, said.header("content-type")), (200, Some("application/json")));
    assert!(sealtune_evidence::EvidenceBundle::parse(&said.body).is_ok());
}

#[tokio::test]
async fn without_a_vm_it_is_said_when_to_come_again() {
    let host = host(false).await;
    let said = host.ask("POST", "/v1/attestation", format!(r#"{{"nonce":"{NONCE}"}}"#)).await;
    assert_eq!((said.status, said.code().as_str()), (503, "ST-API-05"));
    assert_eq!(said.header("retry-after"), Some("30"));
}

#[tokio::test]
async fn who_asks_and_leaves_keeps_the_turn_until_the_guest_has_answered() {
    let host = Arc::new(host(true).await);
    let ask = || {
        let host = host.clone();
        tokio::spawn(async move {
            let body = format!(r#"{{"nonce":"{NONCE}"}}"#);
            host.ask("POST", "/v1/attestation", body).await.status
        })
    };
    let asked = || host.agent.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        let gone = ask();
        tokio::time::sleep(Duration::from_millis(20)).await;
        gone.abort();
    }
    let waiting = ask();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(asked(), 1, "the guest still makes the first");
    host.agent.may_answer.notify_one();
    while asked() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.agent.may_answer.notify_one();
    assert_eq!((waiting.await.expect("runs"), asked()), (200, 2));
    assert!(!host.line.is_silent());
}

fn submission(job: JobId) -> Submission {
    let id = |byte| ContentId::Sha256 { digest: [byte; 32], length: 1 };
    Submission {
        job,
        idempotency_key: "once".into(),
        kind: JobKind::Sealed,
        owner: Hex([2; 33]),
        model: id(3),
        image: Hex([4; 32]),
        dataset: id(5),
        limits: Limits::default(),
        terms: None,
    }
}

#[tokio::test]
async fn what_a_job_left_is_the_same_after_a_restart() {
    let host = host(true).await;
    let job = JobId::from_bytes([7; 16]);
    host.store.submit(&submission(job)).await.expect("submitted");
    let vm = host.store.open_vm_views().await.expect("views")[0].vm.clone();
    let attempt = host.store.job(job).await.expect("a job").attempt;
    let event = AgentEvent::Started { job, evidence: evidence() };
    let bundle = |_: &Evidence| Some(r#"{"kept":"as it was"}"#.to_owned());
    host.store.record_event(&vm, Some((job, attempt)), 1, &event, bundle).await.expect("recorded");
    let path = format!("/v1/job/{job}/evidence/start");
    let said = host.ask("GET", &path, "").await;
    assert_eq!((said.status, said.body.as_slice()), (200, &br#"{"kept":"as it was"}"#[..]));
    let head = host.ask("HEAD", &path, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    // Whatever is not there is told from nothing else that is not there.
    let unknown = format!("/v1/job/{}/evidence/start", JobId::from_bytes([8; 16]));
    let later = format!("/v1/job/{job}/evidence/receipt");
    for (path, status, code) in [
        (unknown.as_str(), 404, "ST-API-04"),
        (&later, 404, "ST-API-04"),
        (&path.replace("start", "offer"), 400, "ST-API-01"),
        (
            &path.to_uppercase().replace("/V1/JOB", "/v1/job").replace("START", "start"),
            404,
            "ST-API-04",
        ),
        ("/v1/job/07/evidence/start", 400, "ST-API-01"),
    ] {
        let said = host.ask("GET", path, "").await;
        assert_eq!((said.status, said.code().as_str()), (status, code), "{path}");
    }
    let said = host.ask("POST", &path, "").await;
    assert_eq!((said.status, said.header("allow")), (405, Some("GET,HEAD")));
    let again = Store::open(host.state.path()).await.expect("the next daemon's");
    let kept = again.evidence(job, attempt, "start").await.expect("reads");
    assert_eq!(kept.as_deref(), Some(r#"{"kept":"as it was"}"#));
}

#[tokio::test]
async fn strangers_who_read_too_much_are_sent_away() {
    let host = host(false).await;
    let path = format!("/v1/job/{}/evidence/start", JobId::from_bytes([8; 16]));
    let mut refused = None;
    for _ in 0..100 {
        let said = host.ask("GET", &path, "").await;
        if said.status != StatusCode::NOT_FOUND.as_u16() {
            refused = Some(said);
            break;
        }
    }
    let said = refused.expect("sent away");
    assert_eq!((said.status, said.code().as_str()), (429, "ST-API-09"));
    assert_eq!(said.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn who_can_make_a_key_writes_nothing_to_disk() {
    let host = host(false).await;
    let owner = OwnerKey::generate(Suite::X25519).expect("a key");
    let other = OwnerKey::generate(Suite::X25519).expect("a key");
    let job = JobId::from_bytes([7; 16]);
    let mut submitted = submission(job);
    submitted.owner = Hex(*owner.signing_public().as_bytes());
    host.store.submit(&submitted).await.expect("submitted");
    let path = format!("/v1/jobs/{job}");
    let id = job.to_string();
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let nothing = ring::digest::digest(&ring::digest::SHA256, b"");
    let nothing = nothing.as_ref().try_into().expect("32 bytes");
    let call = Call { method: "GET", path: &path, body: nothing, job: Some(&id) };
    let signed =
        |key: &OwnerKey, nonce: u8| sign_call(key, &call, now, [nonce; 16]).expect("signed");
    let ask = async |signed: &CallHeaders| {
        let mut request = Request::builder().uri(&path);
        for (name, value) in signed.pairs() {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).expect("a request");
        host.router.clone().oneshot(request).await.expect("answers").status().as_u16()
    };
    let stranger = signed(&other, 1);
    // Nobody's call is remembered for him: it stays as it was, and says no more than the first time.
    assert_eq!((ask(&stranger).await, ask(&stranger).await), (404, 404));
    assert!(host.store.remember_call(&key_of(&other, 1), now.cast_signed()).await.is_ok());
    let own = signed(&owner, 1);
    assert_eq!((ask(&own).await, ask(&own).await), (200, 403), "the owner's is good once");
}

#[tokio::test]
async fn who_is_not_even_said_to_be_the_owner_fills_no_memory() {
    let host = host(false).await;
    let (owner, other) = ([2; 33], OwnerKey::generate(Suite::X25519).expect("a key"));
    let job = JobId::from_bytes([7; 16]);
    host.store.submit(&submission(job)).await.expect("submitted");
    assert_eq!(submission(job).owner.0, owner);
    for job in [job, JobId::from_bytes([8; 16])] {
        let read = Arc::new(AtomicUsize::new(0));
        let count = read.clone();
        let body = futures_util::stream::repeat_with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(axum::body::Bytes::from_static(b"x"))
        });
        let request = Request::builder()
            .method("PUT")
            .uri(format!("/v1/jobs/{job}/dataset"))
            .header("sealtune-owner", other.signing_public().to_hex())
            .header("sealtune-time", "1")
            .header("sealtune-nonce", "00")
            .header("sealtune-signature", "00")
            .body(Body::from_stream(body))
            .expect("a request");
        let answer = host.router.clone().oneshot(request).await.expect("answers");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(read.load(Ordering::SeqCst), 0, "nothing of the body is read");
    }
}

fn key_of(key: &OwnerKey, nonce: u8) -> String {
    format!("{}:{}", Hex(*key.signing_public().as_bytes()), hex::encode([nonce; 16]))
}
