//! Evidence for verifiers' nonces, and what was made once for a job.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse as _, Response},
};
use sealtune_job::JobId;
use sealtune_wire::v1::{AgentReply, AgentRequest, OutsidePurpose};

use super::{
    auth::{Caller, JobCall, json},
    error::ApiError,
    peers::Counted,
    quotes::Turn,
    shared::{Api, Shared},
    types::Challenge,
};
use crate::{daemon::pool::PoolError, store::StoreError, vm::task::VmHandle};

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The turn is over once the quote is there: what comes after it keeps nobody waiting. Until then it is held, also where
/// the asker has left: the guest is still at work, and a crowd that asks and leaves would pile up in it.
async fn ask(
    shared: &Shared,
    vm: &str,
    (handle, turn): (VmHandle, Turn),
    purpose: OutsidePurpose,
    challenge: &Challenge,
) -> Result<(String, String), ApiError> {
    let request = AgentRequest::Evidence { purpose, nonce: challenge.nonce };
    let question = tokio::spawn(async move {
        let answer = handle.request(request).await;
        drop(turn);
        answer
    });
    let answer = question.await.map_err(|_| PoolError::Ending)?.map_err(PoolError::from)?;
    let AgentReply::Evidence(evidence) = answer else {
        return Err(ApiError::bad_guest());
    };
    let row = shared.context.store.vm(vm).await?;
    let mut bundle = shared.context.tee.bundle(&row.definition, &evidence)?;
    shared.context.collateral.ready(&row.definition, &bundle).await;
    shared.context.collateral.attach(&mut bundle);
    let bytes = bundle.to_bytes().map_err(|_| crate::vm::tee::TeeError::AgentEvidence)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), bundle.digest().to_string()))
}

/// A nonce of zeros is nobody's: the agent would refuse it too.
fn challenge(body: &Bytes) -> Result<Challenge, ApiError> {
    let challenge: Challenge = json(body)?;
    if challenge.nonce.0 == [0; 32] {
        return Err(ApiError::bad_request("make evidence over a nonce of zeros"));
    }
    Ok(challenge)
}

fn peer(counted: Option<Extension<Counted>>) -> Counted {
    counted.map_or(Counted(None), |Extension(counted)| counted)
}

/// A VM that can be asked; rather one that has not kept its last asker waiting in vain.
async fn ready_vm(shared: &Shared) -> Result<(String, VmHandle), ApiError> {
    let mut found = None;
    for view in shared.context.store.open_vm_views().await? {
        if view.state != "ready" {
            continue;
        }
        // It may have ended a moment ago.
        let Ok(handle) = shared.pool.find(&view.vm).await else { continue };
        let is_silent = handle.line.is_silent();
        if found.is_none() || !is_silent {
            found = Some((view.vm, handle));
        }
        if !is_silent {
            break;
        }
    }
    found.ok_or_else(|| ApiError::not_yet("make evidence: no VM is running", 30))
}

/// `identity` or `offer` evidence of a running VM, for anybody.
pub(crate) async fn attestation(
    State(shared): Api,
    Extension(caller): Extension<Caller>,
    counted: Option<Extension<Counted>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let challenge = challenge(&body.map_err(|error| ApiError::unread(&error))?)?;
    let purpose = match challenge.purpose.as_deref() {
        None | Some("identity") => OutsidePurpose::Identity,
        Some("offer") => OutsidePurpose::Offer,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "make evidence for the purpose {other:?}: expected identity or offer"
            )));
        }
    };
    let counted = peer(counted);
    let place = match caller {
        Caller::Public => Some(shared.strangers.enter(counted).await?),
        Caller::Operator => None,
    };
    let (vm, handle) = ready_vm(&shared).await?;
    let turn = handle.line.turn(place).await?;
    if purpose == OutsidePurpose::Offer && caller == Caller::Public {
        shared.strangers.offer(&vm, counted)?;
    }
    Ok(json_text(ask(&shared, &vm, (handle, turn), purpose, &challenge).await?.0))
}

/// Evidence that a job left, for whoever knows the job's id: 128 random bits that its owner hands to his verifier.
pub(crate) async fn published(
    State(shared): Api,
    Path((job, purpose)): Path<(String, String)>,
    counted: Option<Extension<Counted>>,
) -> Result<Response, ApiError> {
    shared.strangers.read(peer(counted))?;
    let id: JobId = job
        .parse()
        .map_err(|error: sealtune_job::JobIdError| ApiError::bad_request(error.to_string()))?;
    if !matches!(purpose.as_str(), "start" | "receipt") {
        return Err(ApiError::bad_request(format!(
            "find evidence of the purpose {purpose:?}: expected start or receipt"
        )));
    }
    let store = &shared.context.store;
    let missing = || ApiError::not_found(format!("{purpose} evidence of job {id}"));
    let row = match store.job(id).await {
        Err(StoreError::NotFound(_)) => return Err(missing()),
        found => found?,
    };
    // Both of the attempt that has a receipt, once there is one.
    let attempt = store.receipt(id).await?.map_or(row.attempt, |(attempt, _)| attempt);
    let bundle = store.evidence(id, attempt, &purpose).await?;
    Ok(json_text(bundle.ok_or_else(missing)?))
}

pub(crate) async fn offer(State(shared): Api, call: JobCall) -> Result<Response, ApiError> {
    let row = call.job;
    let challenge = challenge(&call.body)?;
    if let Some(other) = challenge.purpose.as_deref().filter(|purpose| *purpose != "offer") {
        return Err(ApiError::bad_request(format!(
            "make evidence for the purpose {other:?} of a job: expected offer"
        )));
    }
    let vm = match (&row.vm, row.state.name()) {
        (Some(vm), "awaiting-release") => vm,
        (_, "queued" | "awaiting-release") => {
            return Err(ApiError::not_yet("make an offer: the job's VM is not ready", 5));
        }
        (_, state) => {
            let denied = sealtune_job::Denied { state, event: "offer" };
            return Err(crate::store::StoreError::from(denied).into());
        }
    };
    let handle = shared.pool.find(vm).await?;
    let turn = handle.line.turn(None).await?;
    let asked = ask(&shared, vm, (handle, turn), OutsidePurpose::Offer, &challenge);
    let (bundle, digest) = asked.await?;
    // Which of several offers the owner accepted is known when the job starts.
    shared.context.store.put_offer(row.id(), row.attempt, &digest, &bundle).await?;
    Ok(json_text(bundle))
}

pub(crate) async fn stored(
    State(shared): Api,
    Path((_, purpose)): Path<(String, String)>,
    call: JobCall,
) -> Result<Response, ApiError> {
    let row = call.job;
    let found = shared.context.store.evidence(row.id(), row.attempt, &purpose).await?;
    let bundle = found.ok_or_else(|| ApiError::not_found(format!("{purpose} evidence")))?;
    Ok(json_text(bundle))
}

/// The receipt and the evidence that it hangs on, in one document.
pub(crate) async fn receipt(State(shared): Api, call: JobCall) -> Result<Response, ApiError> {
    let row = call.job;
    let store = &shared.context.store;
    let Some((attempt, envelope)) = store.receipt(row.id()).await? else {
        return Err(ApiError::not_found("a receipt: it is made when the job has ended in its VM"));
    };
    let evidence = |purpose: &'static str| store.evidence(row.id(), attempt, purpose);
    let parts = [evidence("offer").await?, evidence("start").await?, evidence("receipt").await?];
    Ok(json_text(package(&envelope, parts)?))
}

/// Puts together what is stored as JSON texts, without changing a byte of them.
fn package(
    envelope: &str,
    [offer, start, receipt]: [Option<String>; 3],
) -> Result<String, ApiError> {
    let raw = |text: &str| {
        serde_json::value::RawValue::from_string(text.to_owned())
            .map_err(|error| ApiError::bad_request(format!("understand stored evidence: {error}")))
    };
    let mut evidence = std::collections::BTreeMap::new();
    for (name, bundle) in [("offer", offer), ("start", start), ("receipt", receipt)] {
        if let Some(bundle) = bundle {
            evidence.insert(name, raw(&bundle)?);
        }
    }
    #[derive(serde::Serialize)]
    struct Package {
        version: u32,
        statement: Box<serde_json::value::RawValue>,
        evidence: std::collections::BTreeMap<&'static str, Box<serde_json::value::RawValue>>,
    }
    let package = Package { version: 1, statement: raw(envelope)?, evidence };
    serde_json::to_string(&package).map_err(|error| ApiError::bad_request(error.to_string()))
}
