//! Calls over a unix socket to a double of the operator's API.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use sealtune_content::ContentId;

use super::{Address, CliError, Connection, Progress, connection::Request};
use crate::api::types::{ContentView, VmView};

const BODY: usize = 3_000_017;

type Calls = Arc<AtomicU32>;

/// Three kinds of trouble before the answer comes.
async fn vms(State(calls): State<Calls>) -> Response {
    match calls.fetch_add(1, Ordering::SeqCst) {
        0 => (StatusCode::BAD_GATEWAY, "<html>a proxy</html>").into_response(),
        1 => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(serde_json::json!({"error": {"code": "ST-API-08", "message": "m", "fix": "f"}})),
        )
            .into_response(),
        _ => Json(Vec::<VmView>::new()).into_response(),
    }
}

async fn add(headers: HeaderMap, body: Bytes) -> Json<ContentView> {
    assert_eq!(headers.get("content-length").expect("length"), BODY.to_string().as_str());
    let sha256 =
        ContentId::Sha256 { digest: super::connection::sha256(&body), length: body.len() as u64 };
    Json(ContentView { sha256, zg: None, bytes: sha256.length(), added: 0 })
}

async fn refuse() -> Response {
    let error = serde_json::json!({"code": "ST-VM-07", "message": "no such VM", "fix": "vm ls"});
    (StatusCode::NOT_FOUND, Json(serde_json::json!({ "error": error }))).into_response()
}

async fn start() -> (tempfile::TempDir, Connection, Calls) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).expect("socket");
    let calls = Calls::default();
    let router = Router::new()
        .route("/v1/vms", get(vms).post(vms))
        .route("/v1/vms/x", get(refuse))
        .route("/v1/vms/html", get(|| async { (StatusCode::NOT_FOUND, "not here") }))
        .route("/v1/content", put(add).get(|| async { vec![b' '; 9 << 20] }))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&calls));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let connection = Connection::new(Address::Unix(path), None).expect("connection");
    (directory, connection, calls)
}

fn shown<T: std::fmt::Debug>(outcome: Result<T, CliError>) -> (String, u8) {
    let error = outcome.expect_err("an error");
    (error.code.clone(), error.exit.number())
}

#[tokio::test]
async fn what_is_harmless_is_repeated_and_nothing_else() {
    let (_directory, connection, calls) = start().await;
    assert!(connection.vms().await.expect("the third answer").is_empty());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    calls.store(1, Ordering::SeqCst);
    let once = connection.open(&Request::post("/v1/vms")).await.map(|answer| answer.status);
    assert_eq!(shown(once), ("ST-API-08".into(), 3));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_file_is_streamed_whole() {
    let (directory, connection, _) = start().await;
    let file = directory.path().join("content");
    std::fs::write(&file, vec![5; BODY]).expect("file");
    let view = connection.content_put(&file, &Progress::new()).await.expect("stored");
    assert_eq!(view.bytes, BODY as u64);
    assert_eq!(*view.sha256.hash(), super::connection::sha256(&vec![5; BODY]));
}

#[tokio::test]
async fn hostile_and_foreign_answers_have_codes_of_their_own() {
    let (_directory, connection, _) = start().await;
    assert_eq!(shown(connection.vm("x").await), ("ST-VM-07".into(), 2));
    assert_eq!(shown(connection.vm("html").await), ("ST-CLI-08".into(), 3));
    assert_eq!(shown(connection.contents().await), ("ST-CLI-07".into(), 3));
    let nobody = Connection::new(Address::Unix("/nonexistent/s".into()), None).expect("address");
    let post = Request::post("/v1/vms");
    assert_eq!(shown(nobody.open(&post).await.map(|a| a.status)), ("ST-CLI-05".into(), 3));
}
