//! Who calls: on TCP an owner proves it with his key for every call about his job; the operator's socket is guarded
//! by its file mode, and by it nobody can read what is sealed.

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use sealtune_job::{Hex, JobId};
use sealtune_seal::owner_call::{ALLOWED_SKEW, Call, CallHeaders, verify_call};

use super::{error::ApiError, router::Shared};
use crate::store::JobRow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Public,
    Operator,
}

/// What a signature is checked over.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// The owner who signed this call. Each signature is good once.
pub(crate) async fn signed_by(
    shared: &Shared,
    received: &Received<'_>,
    job: Option<JobId>,
) -> Result<Hex<33>, ApiError> {
    let refused = |error: sealtune_seal::owner_call::CallError| {
        ApiError::new(StatusCode::UNAUTHORIZED, error.code(), error.to_string(), error.fix())
    };
    let lookup = |name: &str| received.headers.get(name)?.to_str().ok();
    let headers = CallHeaders::from_lookup(lookup).map_err(refused)?;
    let mut digest = [0; 32];
    let hash = ring::digest::digest(&ring::digest::SHA256, received.body);
    digest.copy_from_slice(hash.as_ref());
    let job = job.map(|job| job.to_string());
    let path = received.uri.path_and_query().map_or(received.uri.path(), |path| path.as_str());
    let call = Call { method: received.method.as_str(), path, body: digest, job: job.as_deref() };
    let now = jiff::Timestamp::now().as_second();
    let verified =
        verify_call(&headers, &call, now.unsigned_abs(), ALLOWED_SKEW).map_err(refused)?;
    let owner = Hex(*verified.owner().as_bytes());
    let nonce = format!("{owner}:{}", hex::encode(verified.nonce()));
    shared.context.store.remember_call(&nonce, now).await?;
    Ok(owner)
}

/// The job, if this caller may see and change it. A stranger learns nothing about which jobs exist.
pub(crate) async fn job_of(
    shared: &Shared,
    caller: Caller,
    received: &Received<'_>,
    job: &str,
) -> Result<JobRow, ApiError> {
    let job: JobId = job
        .parse()
        .map_err(|error: sealtune_job::JobIdError| ApiError::bad_request(error.to_string()))?;
    if caller == Caller::Operator {
        return Ok(shared.context.store.job(job).await?);
    }
    let owner = signed_by(shared, received, Some(job)).await?;
    let missing = || ApiError::not_found(format!("job {job} of this owner"));
    let row = match shared.context.store.job(job).await {
        Err(crate::store::StoreError::NotFound(_)) => return Err(missing()),
        found => found?,
    };
    if row.submission.owner == owner { Ok(row) } else { Err(missing()) }
}

/// Parses a JSON body that has been authenticated.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("understand the request: {error}")))
}
