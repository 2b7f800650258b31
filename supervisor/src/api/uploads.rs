//! The sealed dataset: uploaded in parts, resumed at the length that is on disk.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
};

use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{auth::JobCall, error::ApiError, shared::Api, types::UploadView};
use crate::store::JobRow;

fn view(row: &JobRow) -> UploadView {
    UploadView { received: row.dataset_received, total: row.submission.dataset.length() }
}

pub(crate) async fn show(call: JobCall) -> Result<Json<UploadView>, ApiError> {
    Ok(Json(view(&call.job)))
}

pub(crate) async fn part(State(shared): Api, call: JobCall) -> Result<Json<UploadView>, ApiError> {
    let mut row = call.job;
    if row.state.is_final() {
        return Err(ApiError::bad_request("accept a dataset: this job takes none (any more)"));
    }
    let total = row.submission.dataset.length();
    let (first, last) = call
        .headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| parse_range(value.to_str().ok()?, total))
        .filter(|(first, last)| last - first + 1 == call.body.len() as u64)
        .ok_or_else(|| {
            ApiError::bad_request(format!("understand Content-Range: say `bytes A-B/{total}`"))
        })?;
    if first != row.dataset_received {
        // A part that arrived before its answer was lost is fine; a gap is not.
        if last < row.dataset_received {
            return Ok(Json(view(&row)));
        }
        return Err(gap(first, row.dataset_received));
    }
    let path = shared.context.content.dataset_path(row.id());
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let mut file = options.open(&path).await?;
    if let Err(error) = write(&mut file, first, &call.body).await {
        // Half a part would hold the very space that was missing.
        let _ = file.set_len(first).await;
        return Err(error.into());
    }
    let store = &shared.context.store;
    if !store.grow_dataset(row.id(), first, last + 1).await? {
        return Err(gap(first, store.job(row.id()).await?.dataset_received));
    }
    row.dataset_received = last + 1;
    shared.context.changes.announce();
    Ok(Json(view(&row)))
}

async fn write(file: &mut tokio::fs::File, at: u64, part: &[u8]) -> std::io::Result<()> {
    file.seek(std::io::SeekFrom::Start(at)).await?;
    file.write_all(part).await?;
    file.flush().await?;
    file.sync_data().await
}

fn gap(first: u64, received: u64) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "ST-API-06",
        format!("accept bytes from {first} on: {received} have arrived"),
        "ask GET on the same path how much has arrived, and go on there",
    )
}

/// `bytes A-B/TOTAL`.
fn parse_range(text: &str, total: u64) -> Option<(u64, u64)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (whole.parse() == Ok(total) && first <= last && last < total).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_must_fit_the_named_length() {
        assert_eq!(parse_range("bytes 0-9/20", 20), Some((0, 9)));
        for bad in [
            "bytes 0-9/21",
            "bytes 9-0/20",
            "bytes 0-20/20",
            "0-9/20",
            "bytes */20",
            "bytes a-b/20",
        ] {
            assert_eq!(parse_range(bad, 20), None, "{bad}");
        }
    }
}
