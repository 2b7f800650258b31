//! VMs, for the operator.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{
    error::ApiError,
    shared::Api,
    types::{VmRequest, VmView},
};

/// Most bytes of a console or log in one answer.
const LOG_PART: u64 = 1 << 20;

pub(crate) async fn list(State(shared): Api) -> Result<Json<Vec<VmView>>, ApiError> {
    Ok(Json(shared.context.store.vm_views().await?))
}

pub(crate) async fn show(
    State(shared): Api,
    Path(vm): Path<String>,
) -> Result<Json<VmView>, ApiError> {
    Ok(Json(shared.context.store.vm(&vm).await?.view))
}

pub(crate) async fn start(
    State(shared): Api,
    Json(request): Json<VmRequest>,
) -> Result<(StatusCode, Json<VmView>), ApiError> {
    let vm = shared.pool.start(request).await?;
    Ok((StatusCode::CREATED, Json(shared.context.store.vm(&vm).await?.view)))
}

/// Answers when the VM has been told; `vm show` says when it has ended.
pub(crate) async fn stop(
    State(shared): Api,
    Path(vm): Path<String>,
) -> Result<Json<VmView>, ApiError> {
    let row = shared.context.store.vm(&vm).await?;
    if !matches!(row.view.state.as_str(), "stopped" | "failed") {
        shared.pool.stop(&vm).await?;
    }
    Ok(Json(shared.context.store.vm(&vm).await?.view))
}

pub(crate) async fn remove(
    State(shared): Api,
    Path(vm): Path<String>,
) -> Result<Json<VmView>, ApiError> {
    let row = shared.context.store.vm(&vm).await?;
    if !shared.context.store.remove_vm(&vm).await? {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "ST-API-07",
            format!("remove VM {vm}: it is {}", row.view.state),
            "stop it first with `sealtune vm stop`",
        ));
    }
    let _ = std::fs::remove_dir_all(&row.definition.folder);
    Ok(Json(row.view))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsoleQuery {
    /// `console` (default), `qemu` or `vsock`.
    #[serde(default)]
    log: Option<String>,
}

pub(crate) async fn console(
    State(shared): Api,
    Path(vm): Path<String>,
    Query(query): Query<ConsoleQuery>,
) -> Result<Response, ApiError> {
    let row = shared.context.store.vm(&vm).await?;
    let name = match query.log.as_deref() {
        None | Some("console") => "console.log",
        Some("qemu") => "qemu.log",
        Some("vsock") => "vsock.log",
        Some(other) => return Err(ApiError::not_found(format!("a log named {other:?}"))),
    };
    let mut text = Vec::new();
    if let Ok(mut file) = tokio::fs::File::open(row.definition.folder.join(name)).await {
        let length = file.metadata().await?.len();
        file.seek(std::io::SeekFrom::Start(length.saturating_sub(LOG_PART))).await?;
        file.take(LOG_PART).read_to_end(&mut text).await?;
    }
    // A guest may print anything: what is not text is replaced.
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
