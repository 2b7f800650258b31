//! Content of the daemon's own store, for the operator.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::{error::ApiError, shared::Api, types::ContentView};

#[derive(Debug, Serialize)]
pub(crate) struct Collected {
    pub(crate) removed_bytes: u64,
}

pub(crate) async fn list(State(shared): Api) -> Result<Json<Vec<ContentView>>, ApiError> {
    Ok(Json(shared.context.store.contents().await?))
}

/// Takes the body as it comes; it becomes content only when it is whole.
pub(crate) async fn add(
    State(shared): Api,
    body: Body,
) -> Result<(StatusCode, Json<ContentView>), ApiError> {
    let directory = shared.context.content.directory();
    let file = tempfile::Builder::new().prefix(".incoming-").tempfile_in(directory)?;
    let mut writer = tokio::fs::File::from_std(file.reopen()?);
    let mut stream = body.into_data_stream();
    let mut written = Ok(());
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| ApiError::bad_request(error.to_string()))?;
        // After a failure the rest is taken and dropped: whoever still sends would not hear the answer.
        if written.is_ok() {
            written = write(&mut writer, &part).await;
        }
    }
    written?;
    let view = shared.context.content.adopt(file).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Removes what no job that is still open names.
pub(crate) async fn collect(State(shared): Api) -> Result<Json<Collected>, ApiError> {
    let mut in_use = Vec::new();
    for job in shared.context.store.jobs(None).await? {
        if !job.state.is_final() {
            in_use.extend([job.submission.model, job.submission.dataset]);
        }
    }
    let removed_bytes = shared.context.content.collect(&in_use).await?;
    Ok(Json(Collected { removed_bytes }))
}

/// What cannot be written gives back the space that it took.
async fn write(writer: &mut tokio::fs::File, part: &[u8]) -> std::io::Result<()> {
    let written = async {
        writer.write_all(part).await?;
        writer.flush().await
    };
    let outcome = written.await;
    if outcome.is_err() {
        let _ = writer.set_len(0).await;
    }
    outcome
}
