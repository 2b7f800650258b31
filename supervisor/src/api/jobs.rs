//! Jobs: submit, look, release, follow, cancel, acknowledge.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use sealtune_job::{Disclosure, JobEvent, JobKind};
use sealtune_wire::v1::{AgentReply, AgentRequest};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    auth::{Caller, JobCall, Received, json, now, signed_by},
    error::ApiError,
    shared::{Api, Shared},
    types::{Frames, JobView, PlainLog, Release, Submission},
};
use crate::store::{JobRow, NewJob, PlainKind};

/// Jobs of one owner that have not ended.
const MOST_OPEN_JOBS: i64 = 100;
/// Longest wait in one call.
const LONGEST_WAIT: u64 = 30;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    #[serde(default)]
    generation: Option<u64>,
    #[serde(default)]
    wait: Option<u64>,
}

pub(crate) async fn submit(
    State(shared): Api,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|error| ApiError::unread(&error))?;
    let submission: Submission = json(&body)?;
    let received =
        Received { method: &method, uri: &uri, headers: &headers, body: &body, at: now() };
    // Also on the operator's socket: a job belongs to whoever holds its owner's key.
    let signed = signed_by(&received, Some(submission.job))?;
    let owner = signed.owner;
    if owner != submission.owner {
        return Err(ApiError::forbidden(
            "ST-API-02",
            "accept a job that its owner did not sign",
            "sign with the key whose public part the submission names",
        ));
    }
    check(&shared, &submission)?;
    signed.remember(&shared).await?;
    if shared.context.store.open_jobs_of(&owner.to_string()).await? >= MOST_OPEN_JOBS {
        return Err(ApiError::forbidden(
            "ST-API-08",
            format!("accept more than {MOST_OPEN_JOBS} open jobs of one owner"),
            "wait for some to end, or cancel them",
        ));
    }
    let (status, row) = match shared.context.store.submit(&submission).await? {
        NewJob::Made(row) => (StatusCode::CREATED, with_known_dataset(&shared, row).await?),
        NewJob::Found(row) => (StatusCode::OK, row),
    };
    shared.context.changes.announce();
    Ok((status, Json(view(&shared, &row).await?)).into_response())
}

/// A plain job may name a dataset that is here already: then there is nothing to upload.
async fn with_known_dataset(shared: &Shared, row: JobRow) -> Result<JobRow, ApiError> {
    let store = &shared.context.store;
    let dataset = row.submission.dataset;
    if row.kind() == JobKind::Plain && store.content_path(&dataset).await?.is_some() {
        store.grow_dataset(row.id(), 0, dataset.length()).await?;
    }
    Ok(store.job(row.id()).await?)
}

fn check(shared: &Shared, submission: &Submission) -> Result<(), ApiError> {
    if submission.idempotency_key.is_empty() || submission.idempotency_key.len() > 256 {
        return Err(ApiError::bad_request("accept an idempotency key of 1 to 256 characters"));
    }
    submission.limits.validate().map_err(|error| ApiError::bad_request(error.to_string()))?;
    let offered =
        shared.settings.layers.iter().any(|layer| layer.layer.root.0 == submission.image.0);
    if !offered {
        let error = crate::daemon::pool::PoolError::NoSuchImage(submission.image);
        return Err(error.into());
    }
    let available = shared.settings.memory_mib;
    if submission.limits.memory_mib > available {
        return Err(ApiError::bad_request(format!(
            "give a job {} MiB of memory: VMs here have {available} MiB",
            submission.limits.memory_mib
        )));
    }
    match (&submission.terms, submission.kind) {
        (Some(terms), JobKind::Plain) => {
            terms.validate().map_err(|error| {
                ApiError::new(StatusCode::BAD_REQUEST, error.code(), error.to_string(), error.fix())
            })?;
            let same = terms.job == submission.job
                && terms.owner == submission.owner
                && terms.image.verity_root == submission.image
                && terms.model.id == submission.model
                && terms.dataset.id == submission.dataset
                && terms.limits == submission.limits;
            if same {
                Ok(())
            } else {
                Err(ApiError::bad_request("accept terms that differ from their submission"))
            }
        }
        (None, JobKind::Sealed) => Ok(()),
        (Some(_), JobKind::Sealed) => {
            Err(ApiError::bad_request("accept the terms of a sealed job in the clear"))
        }
        (None, JobKind::Plain) => Err(ApiError::bad_request("accept a plain job without terms")),
    }
}

async fn view(shared: &Shared, row: &JobRow) -> Result<JobView, ApiError> {
    Ok(row.view(shared.context.store.queue_position(row).await?))
}

pub(crate) async fn list(
    State(shared): Api,
    Extension(caller): Extension<Caller>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Vec<JobView>>, ApiError> {
    let received = Received { method: &method, uri: &uri, headers: &headers, body: &[], at: now() };
    let signed = match caller {
        Caller::Operator => None,
        Caller::Public => Some(signed_by(&received, None)?),
    };
    let owner = signed.as_ref().map(|signed| signed.owner.to_string());
    let mut views = Vec::new();
    let rows = shared.context.store.jobs(owner.as_deref()).await?;
    if let Some(signed) = signed.filter(|_| !rows.is_empty()) {
        signed.remember(&shared).await?;
    }
    for row in rows {
        views.push(view(&shared, &row).await?);
    }
    Ok(Json(views))
}

pub(crate) async fn show(
    State(shared): Api,
    Query(wait): Query<Wait>,
    call: JobCall,
) -> Result<Json<JobView>, ApiError> {
    let mut changes = shared.context.changes.watch();
    let mut row = call.job;
    let deadline = Deadline::new(wait.wait);
    while wait.generation.is_some_and(|known| row.generation <= known) && deadline.is_open() {
        changes.next(deadline.left()).await;
        row = shared.context.store.job(row.id()).await?;
    }
    Ok(Json(view(&shared, &row).await?))
}

pub(crate) async fn cancel(State(shared): Api, call: JobCall) -> Result<Json<JobView>, ApiError> {
    let row = call.job;
    let view = change(&shared, &row, &JobEvent::CancelRequested).await?;
    if row.vm.is_none() {
        // Where there is a VM, this is done when that has ended.
        shared.context.content.drop_dataset(row.id());
    }
    Ok(view)
}

pub(crate) async fn acknowledge(
    State(shared): Api,
    call: JobCall,
) -> Result<Json<JobView>, ApiError> {
    let row = call.job;
    if row.state.name() == "acknowledged" {
        return Ok(Json(view(&shared, &row).await?));
    }
    change(&shared, &row, &JobEvent::Acknowledged).await
}

async fn change(
    shared: &Arc<Shared>,
    row: &JobRow,
    event: &JobEvent,
) -> Result<Json<JobView>, ApiError> {
    // The pool sees the new state and ends the job's VM.
    let (row, _) = shared.context.store.apply(row.id(), event, 0).await?;
    shared.context.changes.announce();
    Ok(Json(view(shared, &row).await?))
}

pub(crate) async fn release(State(shared): Api, call: JobCall) -> Result<Json<JobView>, ApiError> {
    let row = call.job;
    let release: Release = json(&call.body)?;
    if row.state.name() != "awaiting-release" {
        let denied = sealtune_job::Denied { state: row.state.name(), event: "accepted" };
        return Err(crate::store::StoreError::from(denied).into());
    }
    let Some(vm) = &row.vm else {
        return Err(ApiError::not_yet("reach the job's VM: it is being started again", 5));
    };
    if release.attempt != row.attempt {
        return Err(ApiError::bad_request(format!(
            "accept a release for attempt {}: this is attempt {}",
            release.attempt, row.attempt
        )));
    }
    let request =
        AgentRequest::Release { job: row.id(), attempt: row.attempt, release: release.release };
    match shared.pool.request(vm, request).await? {
        AgentReply::Accepted { .. } => {}
        _ => return Err(ApiError::bad_guest()),
    }
    match shared.context.store.apply(row.id(), &JobEvent::Accepted, 0).await {
        Ok(_) => shared.context.changes.announce(),
        // The agent's first event was quicker than this answer.
        Err(crate::store::StoreError::Denied(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let row = shared.context.store.job(row.id()).await?;
    Ok(Json(view(&shared, &row).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrameQuery {
    stream: String,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(default)]
    wait: Option<u64>,
}

pub(crate) async fn frames(
    State(shared): Api,
    Query(query): Query<FrameQuery>,
    call: JobCall,
) -> Result<Json<Frames>, ApiError> {
    if !matches!(query.stream.as_str(), "log" | "metric" | "failure") {
        return Err(ApiError::bad_request("find that stream: there are log, metric and failure"));
    }
    let mut changes = shared.context.changes.watch();
    let mut row = call.job;
    let deadline = Deadline::new(query.wait);
    let store = &shared.context.store;
    loop {
        let attempt = query.attempt.unwrap_or(row.attempt);
        let frames = store.frames(row.id(), attempt, &query.stream, query.from).await?;
        if !frames.is_empty() || row.state.is_final() || !deadline.is_open() {
            let envelope = store.envelope(row.id(), attempt).await?;
            let state = row.state.name().to_owned();
            return Ok(Json(Frames { envelope, attempt, frames, state }));
        }
        changes.next(deadline.left()).await;
        row = store.job(row.id()).await?;
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    wait: Option<u64>,
}

pub(crate) async fn plain_log(
    State(shared): Api,
    Query(query): Query<LogQuery>,
    call: JobCall,
) -> Result<Json<PlainLog>, ApiError> {
    let mut changes = shared.context.changes.watch();
    let mut row = call.job;
    let hidden = row.kind() == JobKind::Sealed
        && row.submission.terms.as_ref().is_none_or(|t| t.disclosure != Disclosure::Host);
    let deadline = Deadline::new(query.wait);
    let store = &shared.context.store;
    loop {
        let rows = store.plain_log(row.id(), query.from).await?;
        let some = !rows.is_empty();
        if some || row.state.is_final() || !deadline.is_open() {
            if hidden && !some {
                return Err(ApiError::not_found(
                    "a plain log: this job's log is sealed to its owner",
                ));
            }
            let mut log = PlainLog {
                text: String::new(),
                next: rows.last().map_or(query.from, |(number, ..)| *number),
                metrics: Vec::new(),
                state: row.state.name().to_owned(),
            };
            for (_, kind, text) in rows {
                match kind {
                    PlainKind::Text => log.text.push_str(&text),
                    PlainKind::Metric => log.metrics.push(text),
                }
            }
            return Ok(Json(log));
        }
        changes.next(deadline.left()).await;
        row = store.job(row.id()).await?;
    }
}

#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn new(wait: Option<u64>) -> Self {
        Self(Instant::now() + Duration::from_secs(wait.unwrap_or(0).min(LONGEST_WAIT)))
    }

    fn is_open(self) -> bool {
        Instant::now() < self.0
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}
