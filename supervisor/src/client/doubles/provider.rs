//! A double of the provider: the HTTP API over loopback, with one job and the faults that a customer meets. Its VM is
//! lost once, one upload answer and one download are cut.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use sealtune_evidence::simulated::{PlatformFiles, SimulatedPlatform};
use sealtune_seal::{
    Secret,
    owner_call::{ALLOWED_SKEW, Call, CallHeaders, verify_call},
};

use super::agent::{Agent, Delivered};
use crate::{
    api::types::{
        Challenge, ErrorBody, FailureView, Frames, JobView, Release, ResultView, Submission,
        UploadView,
    },
    client::now,
};

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) address: String,
    pub(crate) root: Vec<u8>,
    state: Arc<Mutex<Standing>>,
}

#[derive(Debug)]
struct Standing {
    platform: PlatformFiles,
    agent: Agent,
    view: Option<JobView>,
    dataset: Vec<u8>,
    delivered: Option<Delivered>,
    faults: Faults,
    /// Everything that the customer ever sent.
    heard: Vec<u8>,
}

/// What is still to go wrong.
#[derive(Debug)]
struct Faults {
    uploads: u32,
    lost_vms: u32,
    downloads: u32,
}

type Shared = State<Arc<Mutex<Standing>>>;

impl Provider {
    pub(crate) async fn start() -> Self {
        let seed = Secret::random().expect("seed");
        let platform = SimulatedPlatform::create(&seed, now() - 60).expect("platform");
        let loaded = SimulatedPlatform::load(&platform).expect("platform");
        let root = loaded.root_der();
        let standing = Standing {
            agent: Agent::boot(loaded),
            platform,
            view: None,
            dataset: vec![],
            delivered: None,
            faults: Faults { uploads: 1, lost_vms: 1, downloads: 1 },
            heard: vec![],
        };
        let state = Arc::new(Mutex::new(standing));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, root, state }
    }

    /// Whether the bytes occur in anything that the provider was sent.
    pub(crate) fn heard(&self, needle: &[u8]) -> bool {
        let standing = self.state.lock().expect("lock");
        standing.heard.windows(needle.len()).any(|window| window == needle)
    }

    pub(crate) fn state(&self) -> String {
        let standing = self.state.lock().expect("lock");
        standing.view.as_ref().map(|view| view.state.clone()).unwrap_or_default()
    }

    pub(crate) fn faults_left(&self) -> u32 {
        let faults = &self.state.lock().expect("lock").faults;
        faults.uploads + faults.lost_vms + faults.downloads
    }
}

async fn answer(State(state): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 16 << 20).await.expect("body");
    let target = parts.uri.path_and_query().expect("path").as_str().to_owned();
    let mut standing = state.lock().expect("lock");
    standing.heard.extend_from_slice(&body);
    if let Err(reason) =
        check_signature(&standing, parts.method.as_str(), &target, &parts.headers, &body)
    {
        return refuse(StatusCode::UNAUTHORIZED, "ST-API-02", &reason);
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let rest = path.strip_prefix("/v1/jobs").unwrap_or_default();
    let verb = rest.trim_start_matches('/').split_once('/').map_or("", |(_, verb)| verb).to_owned();
    match (parts.method.as_str(), rest.is_empty(), verb.as_str()) {
        ("POST", true, _) => submit(&mut standing, &body),
        ("GET", false, "") => Json(view(&standing)).into_response(),
        ("GET", _, "dataset") => Json(uploaded(&standing)).into_response(),
        ("PUT", _, "dataset") => upload(&mut standing, &parts.headers, &body),
        ("POST", _, "offer") => offer(&mut standing, &body),
        ("POST", _, "release") => release(&mut standing, &body),
        ("GET", _, "frames") => frames(&standing, &target),
        ("GET", _, "result") => result(&mut standing, &parts.headers),
        ("GET", _, "receipt") => delivered(&standing).receipt.clone().into_response(),
        ("POST", _, "acknowledge") => {
            set_state(&mut standing, "acknowledged");
            Json(view(&standing)).into_response()
        }
        _ => refuse(StatusCode::NOT_FOUND, "ST-API-03", "no such call"),
    }
}

fn check_signature(
    standing: &MutexGuard<'_, Standing>,
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), String> {
    let lookup = |name: &'static str| headers.get(name)?.to_str().ok();
    let read = CallHeaders::from_lookup(lookup).map_err(|error| error.to_string())?;
    let submitted = serde_json::from_slice::<Submission>(body).ok().map(|s| s.job.to_string());
    let job = crate::client::job_of(target).map(str::to_owned).or(submitted);
    let body = crate::client::sha256(body);
    let call = Call { method, path: target, body, job: job.as_deref() };
    let verified =
        verify_call(&read, &call, now(), ALLOWED_SKEW).map_err(|error| error.to_string())?;
    match &standing.view {
        Some(view) if view.owner.0 != *verified.owner().as_bytes() => Err("another owner".into()),
        _ => Ok(()),
    }
}

fn view(standing: &Standing) -> JobView {
    standing.view.clone().expect("a job was submitted")
}

fn delivered(standing: &Standing) -> &Delivered {
    standing.delivered.as_ref().expect("a job was run")
}

fn set_state(standing: &mut Standing, state: &str) {
    let view = standing.view.as_mut().expect("a job was submitted");
    view.state = state.into();
    view.generation += 1;
}

fn submit(standing: &mut Standing, body: &[u8]) -> Response {
    let submission: Submission = serde_json::from_slice(body).expect("submission");
    if standing.view.is_none() {
        let mut view = super::view("queued");
        view.job = submission.job;
        view.owner = submission.owner;
        view.dataset = submission.dataset;
        view.dataset_received = 0;
        standing.view = Some(view);
    }
    Json(view(standing)).into_response()
}

fn uploaded(standing: &Standing) -> UploadView {
    UploadView { received: standing.dataset.len() as u64, total: view(standing).dataset.length() }
}

fn upload(standing: &mut Standing, headers: &HeaderMap, body: &Bytes) -> Response {
    let range = headers.get("content-range").expect("range").to_str().expect("text");
    let from = standing.dataset.len();
    let total = uploaded(standing).total;
    assert_eq!(range, format!("bytes {from}-{}/{total}", from + body.len() - 1));
    standing.dataset.extend_from_slice(body);
    if standing.dataset.len() as u64 == total {
        set_state(standing, "awaiting-release");
    }
    if standing.faults.uploads > 0 {
        standing.faults.uploads -= 1;
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ST-API-09", "the answer is lost");
    }
    Json(uploaded(standing)).into_response()
}

fn offer(standing: &mut Standing, body: &[u8]) -> Response {
    let challenge: Challenge = serde_json::from_slice(body).expect("challenge");
    standing.agent.offer(challenge.nonce).into_response()
}

fn release(standing: &mut Standing, body: &[u8]) -> Response {
    let release: Release = serde_json::from_slice(body).expect("release");
    let (specification, digest) = standing.agent.open(&release.release);
    assert_eq!(release.attempt, view(standing).attempt);
    assert_eq!(specification.terms.attempt, release.attempt);
    if standing.faults.lost_vms > 0 {
        standing.faults.lost_vms -= 1;
        standing.agent =
            Agent::boot(SimulatedPlatform::load(&standing.platform).expect("platform"));
        set_state(standing, "awaiting-release");
        standing.view.as_mut().expect("view").attempt += 1;
        let mut training = view(standing);
        training.state = "training".into();
        return Json(training).into_response();
    }
    let dataset = standing.dataset.clone();
    let done = standing.agent.run(&specification, digest, &dataset);
    let [sha256, root] = done.ids;
    standing.delivered = Some(done);
    set_state(standing, "delivered");
    let result = Some(ResultView { sha256, root });
    standing.view.as_mut().expect("view").result = result;
    Json(view(standing)).into_response()
}

fn frames(standing: &Standing, target: &str) -> Response {
    let query = |name: &str| {
        let pairs = target.split_once('?').map_or("", |(_, query)| query).split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    };
    let from: u64 = query("from").and_then(|from| from.parse().ok()).unwrap_or(0);
    let view = view(standing);
    let all = match (&standing.delivered, query("stream")) {
        (Some(done), Some("log")) => done.log.as_slice(),
        (Some(done), Some("metric")) => done.metrics.as_slice(),
        _ => &[],
    };
    // One at a time, so that the client has to ask again.
    let frames = all.iter().filter(|frame| frame.number >= from).take(1).cloned().collect();
    let envelope = standing.delivered.as_ref().map(|done| done.envelope.clone());
    Json(Frames { envelope, attempt: view.attempt, frames, state: view.state }).into_response()
}

fn result(standing: &mut Standing, headers: &HeaderMap) -> Response {
    let whole = delivered(standing).result.clone();
    let from = headers
        .get("range")
        .and_then(|range| {
            range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
        })
        .unwrap_or(0usize);
    let rest = whole.get(from..).unwrap_or_default().to_vec();
    let mut response = Response::builder().header("content-length", rest.len());
    if from > 0 {
        let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    if standing.faults.downloads > 0 {
        standing.faults.downloads -= 1;
        let half = rest[..rest.len() / 2].to_vec();
        let cut = [Ok(half), Err(std::io::Error::other("cut"))];
        return response.body(Body::from_stream(stream::iter(cut))).expect("response");
    }
    response.body(Body::from(rest)).expect("response")
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let (code, message) = (code.to_owned(), message.to_owned());
    let error = FailureView { code, message, fix: "none".into() };
    (status, Json(ErrorBody { error })).into_response()
}
