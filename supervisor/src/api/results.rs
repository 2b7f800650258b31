//! The result object, with ranges.

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{auth::JobCall, error::ApiError, shared::Api};

const PART: usize = 256 << 10;

pub(crate) async fn result(State(shared): Api, call: JobCall) -> Result<Response, ApiError> {
    let row = call.job;
    if !matches!(row.state.name(), "delivered" | "acknowledged") {
        return Err(ApiError::not_found(format!("a result: the job is {}", row.state.name())));
    }
    let path = shared.results.join(format!("{}.result", row.id()));
    let mut file = match tokio::fs::File::open(&path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ApiError::not_found("the result: it is not kept any more"));
        }
        opened => opened?,
    };
    let length = file.metadata().await?.len();
    let asked = call
        .headers
        .get(header::RANGE)
        .map(|value| value.to_str().ok().and_then(|text| parse_range(text, length)));
    let (status, first, last) = match asked {
        None => (StatusCode::OK, 0, length.saturating_sub(1)),
        Some(Some((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last),
        Some(None) => {
            let unsatisfied = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, unsatisfied).into_response());
        }
    };
    file.seek(std::io::SeekFrom::Start(first)).await?;
    let left = if length == 0 { 0 } else { last - first + 1 };
    let body = stream::unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut part = vec![0; PART.min(usize::try_from(left).unwrap_or(PART))];
        match file.read(&mut part).await {
            Ok(0) => Some((Err(std::io::ErrorKind::UnexpectedEof.into()), (file, 0))),
            Ok(read) => {
                part.truncate(read);
                Some((Ok(part), (file, left - read as u64)))
            }
            Err(error) => Some((Err(error), (file, 0))),
        }
    });
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, left);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    }
    response.body(Body::from_stream(body)).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// One range: `bytes=A-`, `bytes=A-B` or `bytes=-N`.
fn parse_range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    let (first, last) = match (first, last) {
        ("", suffix) => (length.saturating_sub(suffix.parse().ok()?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(end)),
    };
    (first <= last && first < length).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn one_range_inside_the_file() {
        assert_eq!(parse_range("bytes=5-", 10), Some((5, 9)));
        assert_eq!(parse_range("bytes=5-100", 10), Some((5, 9)));
        assert_eq!(parse_range("bytes=-3", 10), Some((7, 9)));
        for bad in ["bytes=10-", "bytes=6-5", "bytes=-0", "bytes=0-1,3-4", "5-", "bytes=x-"] {
            assert_eq!(parse_range(bad, 10), None, "{bad}");
        }
    }
}
