//! HTTP sources that are cut, that lie about their length, that do not know ranges.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::stream;

use super::*;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Breaks the first answers off in the middle.
    Cut,
    /// Answers the whole file to every range.
    IgnoresRanges,
    Missing,
}

type Server = (Manner, Arc<Vec<u8>>, Arc<AtomicUsize>);

async fn answer(State((manner, content, calls)): State<Server>, headers: HeaderMap) -> Response {
    let call = calls.fetch_add(1, Ordering::SeqCst);
    let first = headers
        .get(header::RANGE)
        .and_then(|range| {
            range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
        })
        .unwrap_or(0usize);
    let cut = Manner::Cut == manner && call < 3;
    match manner {
        Manner::Missing => return StatusCode::NOT_FOUND.into_response(),
        Manner::IgnoresRanges => return content.to_vec().into_response(),
        Manner::Honest | Manner::Cut => {}
    }
    let rest = content[first..].to_vec();
    let end = if cut { rest.len() / 2 } else { rest.len() };
    let range = format!("bytes {first}-{}/{}", content.len() - 1, content.len());
    let mut parts = vec![Ok(rest[..end].to_vec())];
    if cut {
        parts.push(Err(std::io::Error::other("cut")));
    }
    (
        StatusCode::PARTIAL_CONTENT,
        [(header::CONTENT_RANGE, range), (header::CONTENT_LENGTH, rest.len().to_string())],
        Body::from_stream(stream::iter(parts)),
    )
        .into_response()
}

async fn fetch(
    manner: Manner,
    named_length: u64,
    from: u64,
) -> Result<Option<Vec<u8>>, ContentError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let content = Arc::new((0..200_000u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let calls = Arc::new(AtomicUsize::new(0));
    let router = Router::new().route("/{id}", get(answer)).with_state((manner, content, calls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let template = format!("http://{}/{{id}}", listener.local_addr().expect("address"));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let id = ContentId::Sha256 { digest: [7; 32], length: named_length };
    let outcome = async {
        let Some(mut source) = open(&reqwest::Client::new(), &template, &id).await? else {
            return Ok(None);
        };
        source.seek(from).await?;
        let mut all = Vec::new();
        loop {
            let part = source.next(10_000).await?;
            if part.is_empty() {
                return Ok(Some(all));
            }
            all.extend_from_slice(&part);
        }
    };
    let outcome = outcome.await;
    server.abort();
    outcome
}

fn expected(from: usize) -> Vec<u8> {
    (0..200_000u32).map(|n| (n % 251) as u8).skip(from).collect()
}

#[tokio::test]
async fn a_cut_answer_goes_on_where_it_stopped() {
    let bytes = fetch(Manner::Cut, 200_000, 0).await.expect("resumes").expect("there");
    assert!(bytes == expected(0));
}

#[tokio::test]
async fn reading_starts_at_an_offset() {
    let bytes = fetch(Manner::Honest, 200_000, 150_001).await.expect("seeks").expect("there");
    assert!(bytes == expected(150_001));
}

#[tokio::test]
async fn another_length_than_named_is_refused() {
    for wrong in [199_999, 200_001] {
        let error = fetch(Manner::Honest, wrong, 0).await.expect_err("wrong length");
        assert_eq!(error.code(), "ST-SOURCE-05");
    }
}

#[tokio::test]
async fn a_source_without_ranges_cannot_resume_and_one_without_the_content_is_passed_over() {
    let error = fetch(Manner::IgnoresRanges, 200_000, 5).await.expect_err("no ranges");
    assert_eq!(error.code(), "ST-SOURCE-04");
    assert!(fetch(Manner::Missing, 200_000, 0).await.expect("no error").is_none());
}
