//! Errors as HTTP answers: a status, a stable code, a fix.

use axum::{
    Json,
    body::to_bytes,
    extract::rejection::BytesRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::types::{ErrorBody, FailureView};
use crate::{
    content::ContentError,
    daemon::pool::PoolError,
    store::StoreError,
    vm::{task::RequestError, tee::TeeError},
};

#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: FailureView,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: String, fix: &str) -> Self {
        let body = FailureView { code: code.to_owned(), message, fix: fix.to_owned() };
        Self { status, body, retry_after: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "ST-API-01",
            bounded(message.into()),
            "correct the request; a `sealtune` of the same release makes it right",
        )
    }

    /// A body that is too long, comes too slowly, or ends too early.
    pub(crate) fn unread(error: &BytesRejection) -> Self {
        let is_late =
            std::iter::successors(Some(error as &dyn std::error::Error), |it| it.source())
                .filter_map(|it| it.downcast_ref::<std::io::Error>())
                .any(|it| it.kind() == std::io::ErrorKind::TimedOut);
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "ST-API-11",
                "read the request: its body is longer than this call may have".to_owned(),
                "send less; datasets go in parts of at most 8 MiB",
            ),
            _ if is_late => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "ST-API-12",
                "read the request: its body comes too slowly".to_owned(),
                "send it faster than 16 KiB a second",
            ),
            status => {
                let mut refused = Self::bad_request(format!("read the request: {error}"));
                refused.status = status;
                refused
            }
        }
    }

    pub(crate) fn forbidden(code: &str, message: impl Into<String>, fix: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message.into(), fix)
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ST-API-04",
            format!("find {}", what.into()),
            "check the id; it may not exist yet",
        )
    }

    /// An agent said something else than what it was asked for.
    pub(crate) fn bad_guest() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "ST-API-10",
            "understand the agent's answer: it is to another request".to_owned(),
            "look at the VM's log with `sealtune vm logs`",
        )
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The thing will be there later.
    pub(crate) fn not_yet(message: impl Into<String>, seconds: u64) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ST-API-05",
            message.into(),
            "try again after the time in Retry-After",
        )
        .retry_after(seconds)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.body })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Longest text of the framework's own refusals that is read.
const MOST_TEXT: usize = 4096;
/// Longest message: some of them repeat what was sent.
const MOST_MESSAGE: usize = 512;

fn bounded(mut message: String) -> String {
    if message.len() > MOST_MESSAGE {
        let end = (0..=MOST_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Gives refusals that no handler made (an unknown path, a query that does not parse, a body that is too long) the form
/// of all others.
pub(crate) async fn in_one_form(mut response: Response) -> Response {
    let status = response.status();
    // What is not there yet may be in a moment, and evidence is for one nonce: nothing here is for a proxy to keep.
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(never);
    let is_ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let kept = [header::ALLOW, header::CONTENT_RANGE, header::CACHE_CONTROL]
        .map(|name| response.headers().get(&name).cloned().map(|value| (name, value)));
    let text = to_bytes(response.into_body(), MOST_TEXT).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&text);
    let mut error = match status {
        StatusCode::NOT_FOUND => ApiError::not_found("this path"),
        _ if said.is_empty() => ApiError::bad_request(format!(
            "answer the request: {}",
            status.canonical_reason().unwrap_or("refused").to_lowercase()
        )),
        _ => ApiError::bad_request(format!("understand the request: {said}")),
    };
    error.status = status;
    let mut answer = error.into_response();
    answer.headers_mut().extend(kept.into_iter().flatten());
    answer
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            StoreError::JobExists | StoreError::Denied(_) => StatusCode::CONFLICT,
            StoreError::Replayed => StatusCode::FORBIDDEN,
            _ if error.code() == "ST-STORE-04" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!("{error}");
        }
        Self::new(status, error.code(), error.to_string(), error.fix())
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        let retry = matches!(
            error,
            PoolError::Full(_)
                | PoolError::Ending
                | PoolError::NotRunning(_)
                | PoolError::Request(
                    RequestError::NotReady | RequestError::Lost | RequestError::Silent
                )
        );
        let status = match &error {
            PoolError::Request(RequestError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            PoolError::NoSuchImage(_) | PoolError::Memory(_) => StatusCode::BAD_REQUEST,
            _ if retry => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut answer = Self::new(status, &error.code(), error.to_string(), error.fix());
        answer.retry_after = retry.then_some(2);
        answer
    }
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> Self {
        let status = match &error {
            ContentError::Unknown(_) => StatusCode::NOT_FOUND,
            _ if error.code() == "ST-SOURCE-03" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.to_string(), error.fix())
    }
}

impl From<TeeError> for ApiError {
    fn from(error: TeeError) -> Self {
        let fix = "look at the VM's log with `sealtune vm logs`";
        let status = match error {
            TeeError::AgentEvidence | TeeError::UnknownTee | TeeError::GpuBounds => {
                StatusCode::BAD_GATEWAY
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.to_string(), fix)
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        ContentError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Query, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn refusal(method: &str, uri: &str) -> (u16, serde_json::Value) {
        let handler = |_: Query<std::collections::BTreeMap<String, u32>>| async { "fine" };
        let router: Router = Router::new()
            .route("/thing", get(handler))
            .layer(axum::middleware::map_response(in_one_form));
        let request = axum::http::Request::builder().method(method).uri(uri);
        let request = request.body(axum::body::Body::empty()).expect("is a request");
        let response = router.oneshot(request).await.expect("answers");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 16).await.expect("has a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn every_refusal_has_a_code_and_a_fix() {
        let cases = [
            ("GET", "/other", 404, "ST-API-04"),
            ("DELETE", "/thing", 405, "ST-API-01"),
            ("GET", "/thing?n=x", 400, "ST-API-01"),
        ];
        for (method, uri, status, code) in cases {
            let (found, body) = refusal(method, uri).await;
            assert_eq!(found, status, "{method} {uri}");
            assert_eq!(body["error"]["code"], code, "{method} {uri}: {body}");
            assert!(body["error"]["fix"].as_str().is_some_and(|fix| !fix.is_empty()));
        }
        assert_eq!(refusal("GET", "/thing?n=1").await.0, 200);
    }
}
