//! Who calls: on TCP an owner proves it with his key for every call about his job; the operator's socket is guarded
//! by its file mode, and by it nobody can read what is sealed.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts as _, Path, Request},
    http::{HeaderMap, Method, StatusCode, Uri},
};
use sealtune_job::{Hex, JobId};
use sealtune_seal::{
    SigningPublicKey,
    owner_call::{ALLOWED_SKEW, Call, CallError, CallHeaders, verify_call},
};

use super::{error::ApiError, shared::Shared};
use crate::store::{JobRow, StoreError};

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
    /// Seconds since 1970 when its head came: a long body on a slow line makes no signature old.
    pub(crate) at: i64,
}

/// An owner who signed a call. Each signature is good once: whoever acts on it remembers it first.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) owner: Hex<33>,
    nonce: String,
    at: i64,
}

impl Signed {
    /// Written to disk: not for everybody who can make a key.
    pub(crate) async fn remember(&self, shared: &Shared) -> Result<(), ApiError> {
        Ok(shared.context.store.remember_call(&self.nonce, self.at).await?)
    }
}

pub(crate) fn signed_by(received: &Received<'_>, job: Option<JobId>) -> Result<Signed, ApiError> {
    let headers = headers(received.headers)?;
    let mut digest = [0; 32];
    let hash = ring::digest::digest(&ring::digest::SHA256, received.body);
    digest.copy_from_slice(hash.as_ref());
    let job = job.map(|job| job.to_string());
    let path = received.uri.path_and_query().map_or(received.uri.path(), |path| path.as_str());
    let call = Call { method: received.method.as_str(), path, body: digest, job: job.as_deref() };
    let verified =
        verify_call(&headers, &call, received.at.unsigned_abs(), ALLOWED_SKEW).map_err(refused)?;
    let owner = Hex(*verified.owner().as_bytes());
    let nonce = format!("{owner}:{}", hex::encode(verified.nonce()));
    Ok(Signed { owner, nonce, at: received.at })
}

/// A call about one job by somebody who may see and change it: its owner, or the operator on his socket.
/// A stranger learns nothing about which jobs exist.
#[derive(Debug)]
pub(crate) struct JobCall {
    pub(crate) job: JobRow,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl FromRequest<Arc<Shared>> for JobCall {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Path(names) = Path::<HashMap<String, String>>::from_request_parts(&mut parts, shared)
            .await
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let id = names.get("job").map(String::as_str).unwrap_or_default();
        let id: JobId = id
            .parse()
            .map_err(|error: sealtune_job::JobIdError| ApiError::bad_request(error.to_string()))?;
        let at = now();
        let missing = || ApiError::not_found(format!("job {id} of this owner"));
        let is_operator = parts.extensions.get() == Some(&Caller::Operator);
        if !is_operator {
            // Before anything of the body is read: who does not even say that he is the owner fills no memory.
            let said = headers(&parts.headers)?.owner;
            let said = SigningPublicKey::from_hex(&said).map_err(|error| refused(error.into()))?;
            match shared.context.store.job(id).await {
                Ok(job) if job.submission.owner.0 == *said.as_bytes() => {}
                Ok(_) | Err(StoreError::NotFound(_)) => return Err(missing()),
                Err(error) => return Err(error.into()),
            }
        }
        let body = Bytes::from_request(Request::from_parts(parts.clone(), body), shared)
            .await
            .map_err(|error| ApiError::unread(&error))?;
        let signed = if is_operator {
            None
        } else {
            let received = Received {
                method: &parts.method,
                uri: &parts.uri,
                headers: &parts.headers,
                body: &body,
                at,
            };
            Some(signed_by(&received, Some(id))?)
        };
        let job = match shared.context.store.job(id).await {
            Err(StoreError::NotFound(_)) if !is_operator => return Err(missing()),
            found => found?,
        };
        if let Some(signed) = signed {
            if signed.owner != job.submission.owner {
                return Err(missing());
            }
            signed.remember(shared).await?;
        }
        Ok(Self { job, headers: parts.headers, body })
    }
}

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn headers(headers: &HeaderMap) -> Result<CallHeaders, ApiError> {
    CallHeaders::from_lookup(|name: &str| headers.get(name)?.to_str().ok()).map_err(refused)
}

fn refused(error: CallError) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, error.code(), error.to_string(), error.fix())
}

/// Parses a JSON body that has been authenticated.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("understand the request: {error}")))
}
