//! The HTTP API, one function a call.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use sealtune_evidence::{Purpose, bundle::MAX_BUNDLE_BYTES};
use sealtune_job::{Hex, JobId};
use sealtune_wire::patience;

use super::{
    CliError, ClientError, Connection, Progress,
    connection::{MAX_JSON, Repeat, Request},
    http::Answer,
};
use crate::api::types::{
    Challenge, ContentView, Frames, Health, JobView, PlainLog, Release, Submission, UploadView,
    VmRequest, VmView,
};

/// One long poll, seconds. Providers allow 30.
pub(crate) const LONG_POLL: u64 = 20;
/// A provider's longest wait for evidence: nobody here knows yet how many GPUs its VM has.
fn evidence_wait() -> u64 {
    patience::customer(patience::LARGEST_MACHINE).as_secs()
}
/// An offer is good for ten minutes from its question on: who gets it later has to ask again.
const OFFER_WAIT: u64 = 600;
/// An agent that opens a release makes nothing that takes long.
const RELEASE_WAIT: u64 = 60;
const STOP_WAIT: u64 = 120;
/// A part on a line as slow as providers allow.
const UPLOAD_WAIT: u64 = 600;

impl Connection {
    pub(crate) async fn health(&self) -> Result<Health, CliError> {
        self.json(&Request::get("/v1/health")).await
    }

    pub(crate) async fn jobs(&self) -> Result<Vec<JobView>, CliError> {
        self.json(&Request::get("/v1/jobs")).await
    }

    pub(crate) async fn job(&self, job: JobId) -> Result<JobView, CliError> {
        self.json(&Request::get(format!("/v1/jobs/{job}"))).await
    }

    /// Answers when the job's generation is greater than `generation`, or after `wait` seconds.
    pub(crate) async fn job_changed(
        &self,
        job: JobId,
        generation: u64,
        wait: u64,
    ) -> Result<JobView, CliError> {
        let target = format!("/v1/jobs/{job}?generation={generation}&wait={wait}");
        self.json(&Request::get(target).waits(wait).repeat(Repeat::Patiently)).await
    }

    /// Harmless to repeat: the idempotency key gives the job that exists already.
    pub(crate) async fn submit(&self, submission: &Submission) -> Result<JobView, CliError> {
        let request = Request::post("/v1/jobs")
            .about(submission.job)
            .json(submission)?
            .repeat(Repeat::Briefly);
        self.json(&request).await
    }

    pub(crate) async fn upload_state(&self, job: JobId) -> Result<UploadView, CliError> {
        self.json(&Request::get(format!("/v1/jobs/{job}/dataset"))).await
    }

    /// One attempt: the caller asks where to go on before the next.
    pub(crate) async fn upload_part(
        &self,
        job: JobId,
        offset: u64,
        total: u64,
        part: Bytes,
    ) -> Result<UploadView, CliError> {
        let last = offset + (part.len() as u64).saturating_sub(1);
        let request = Request::post(format!("/v1/jobs/{job}/dataset"))
            .with(Method::PUT)
            .header("content-range", format!("bytes {offset}-{last}/{total}"))
            .header("content-type", "application/octet-stream".into())
            .body(part)
            .waits(UPLOAD_WAIT);
        self.json(&request).await
    }

    /// An evidence bundle for one job, as the provider wrote it.
    pub(crate) async fn offer(&self, job: JobId, nonce: Hex<32>) -> Result<Vec<u8>, CliError> {
        let request = Request::post(format!("/v1/jobs/{job}/offer"))
            .json(&Challenge { nonce, purpose: None })?
            .repeat(Repeat::Briefly)
            .waits(evidence_wait().min(OFFER_WAIT));
        self.bytes(&request, MAX_BUNDLE_BYTES).await
    }

    pub(crate) async fn attestation(
        &self,
        nonce: Hex<32>,
        purpose: Purpose,
    ) -> Result<Vec<u8>, CliError> {
        let challenge = Challenge { nonce, purpose: Some(purpose.to_string()) };
        let request = Request::post("/v1/attestation")
            .json(&challenge)?
            .repeat(Repeat::Briefly)
            .waits(evidence_wait());
        self.bytes(&request, MAX_BUNDLE_BYTES).await
    }

    pub(crate) async fn release(&self, job: JobId, release: &Release) -> Result<JobView, CliError> {
        let request =
            Request::post(format!("/v1/jobs/{job}/release")).json(release)?.waits(RELEASE_WAIT);
        self.json(&request).await
    }

    pub(crate) async fn frames(
        &self,
        job: JobId,
        stream: &str,
        from: u64,
        wait: u64,
    ) -> Result<Frames, CliError> {
        let target = format!("/v1/jobs/{job}/frames?stream={stream}&from={from}&wait={wait}");
        self.json(&Request::get(target).waits(wait).repeat(Repeat::Patiently)).await
    }

    pub(crate) async fn plain_log(
        &self,
        job: JobId,
        from: u64,
        wait: u64,
    ) -> Result<PlainLog, CliError> {
        let target = format!("/v1/jobs/{job}/log?from={from}&wait={wait}");
        self.json(&Request::get(target).waits(wait).repeat(Repeat::Patiently)).await
    }

    pub(crate) async fn cancel(&self, job: JobId) -> Result<JobView, CliError> {
        self.json(&Request::post(format!("/v1/jobs/{job}/cancel")).waits(STOP_WAIT)).await
    }

    pub(crate) async fn acknowledge(&self, job: JobId) -> Result<JobView, CliError> {
        self.json(&Request::post(format!("/v1/jobs/{job}/acknowledge"))).await
    }

    /// The receipt package, as the provider wrote it.
    pub(crate) async fn receipt(&self, job: JobId, limit: usize) -> Result<Vec<u8>, CliError> {
        self.bytes(&Request::get(format!("/v1/jobs/{job}/receipt")), limit).await
    }

    /// The result object from `offset` on: one attempt.
    pub(crate) async fn result(&self, job: JobId, offset: u64) -> Result<Answer, CliError> {
        let mut request = Request::get(format!("/v1/jobs/{job}/result")).repeat(Repeat::Never);
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        self.open(&request).await
    }
}

/// What only the operator's socket answers.
impl Connection {
    pub(crate) async fn vms(&self) -> Result<Vec<VmView>, CliError> {
        self.json(&Request::get("/v1/vms")).await
    }

    pub(crate) async fn vm(&self, vm: &str) -> Result<VmView, CliError> {
        self.json(&Request::get(format!("/v1/vms/{vm}"))).await
    }

    pub(crate) async fn vm_start(&self, request: &VmRequest) -> Result<VmView, CliError> {
        self.json(&Request::post("/v1/vms").json(request)?.waits(STOP_WAIT)).await
    }

    pub(crate) async fn vm_stop(&self, vm: &str) -> Result<VmView, CliError> {
        self.json(&Request::post(format!("/v1/vms/{vm}/stop")).waits(STOP_WAIT)).await
    }

    pub(crate) async fn vm_remove(&self, vm: &str) -> Result<(), CliError> {
        let request = Request::post(format!("/v1/vms/{vm}")).with(Method::DELETE).waits(STOP_WAIT);
        self.bytes(&request, MAX_JSON).await.map(drop)
    }

    /// The end of one of a VM's logs: `console`, `qemu` or `vsock`.
    pub(crate) async fn vm_console(&self, vm: &str, log: &str) -> Result<String, CliError> {
        let request = Request::get(format!("/v1/vms/{vm}/console?log={log}"));
        let bytes = self.bytes(&request, MAX_JSON).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Streams a file into the content cache.
    pub(crate) async fn content_put(
        &self,
        path: &std::path::Path,
        progress: &Progress,
    ) -> Result<ContentView, CliError> {
        let file = std::fs::File::open(path)
            .map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
        let answer = self.send_file("/v1/content", file, progress).await?;
        let call = answer.call().to_owned();
        let bytes = answer.bytes(MAX_JSON).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::BadAnswer { call, reason: error.to_string() }.into())
    }

    pub(crate) async fn contents(&self) -> Result<Vec<ContentView>, CliError> {
        self.json(&Request::get("/v1/content")).await
    }

    pub(crate) async fn collect_garbage(&self) -> Result<serde_json::Value, CliError> {
        let mut request = Request::post("/v1/content/gc");
        request.waits = Duration::from_secs(STOP_WAIT);
        self.json(&request).await
    }
}
