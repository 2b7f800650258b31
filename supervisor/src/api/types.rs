//! Requests and answers of the HTTP API, version 1. Shared by the daemon and by the customer's client.
//!
//! Owner calls carry the four `sealtune-*` headers of `sealtune_seal::owner_call`. Errors are
//! `{"error":{"code","message","fix"}}` with a 4xx or 5xx status.

use sealtune_content::ContentId;
use sealtune_job::{Hex, JobId, JobKind, JobTerms, Limits};
use serde::{Deserialize, Serialize};

/// `GET /v1/health`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub(crate) release: String,
    /// `kvm`, `tcg` or `tdx`.
    pub(crate) accelerator: String,
    /// `tdx` or `simulated`.
    pub(crate) tee: String,
    pub(crate) images: Vec<ImageView>,
}

/// A training image that jobs may name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageView {
    pub(crate) name: String,
    pub(crate) verity_root: Hex<32>,
    pub(crate) bytes: u64,
}

/// `POST /v1/jobs` (owner call): what the host has to know of a job before it can start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submission {
    pub(crate) job: JobId,
    /// The same key with the same owner gives the job that exists already.
    pub(crate) idempotency_key: String,
    pub(crate) kind: JobKind,
    pub(crate) owner: Hex<33>,
    pub(crate) model: ContentId,
    pub(crate) image: Hex<32>,
    /// Sealed job: id of the sealed object. Plain job: id of the dataset.
    pub(crate) dataset: ContentId,
    pub(crate) limits: Limits,
    /// Plain jobs only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) terms: Option<Box<JobTerms>>,
}

/// A job as its owner and the operator see it. `GET /v1/jobs/:id?generation=N&wait=SECONDS` answers as soon as the
/// generation is greater than N, or when the wait is over (at most 30 s).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobView {
    pub(crate) job: JobId,
    pub(crate) kind: JobKind,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) generation: u64,
    pub(crate) percent: u8,
    pub(crate) owner: Hex<33>,
    pub(crate) image: Hex<32>,
    pub(crate) model: ContentId,
    pub(crate) dataset: ContentId,
    /// Bytes of the dataset object that have arrived.
    pub(crate) dataset_received: u64,
    /// Jobs before this one.
    pub(crate) queue_position: Option<u64>,
    /// Unix milliseconds.
    pub(crate) created: i64,
    pub(crate) updated: i64,
    /// Unix milliseconds, while the job awaits its release.
    pub(crate) release_deadline: Option<i64>,
    pub(crate) vm: Option<String>,
    pub(crate) failure: Option<FailureView>,
    pub(crate) result: Option<ResultView>,
    /// State names with the Unix milliseconds at which they were entered, in order.
    pub(crate) history: Vec<(String, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailureView {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) fix: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultView {
    pub(crate) sha256: ContentId,
    pub(crate) root: ContentId,
}

/// `GET /v1/jobs/:id/dataset`; the answer to each `PUT` with `Content-Range: bytes A-B/TOTAL` (at most 8 MiB a call).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadView {
    pub(crate) received: u64,
    pub(crate) total: u64,
}

/// Bytes of a dataset in one `PUT`.
pub(crate) const UPLOAD_PART: usize = 8 << 20;

/// `POST /v1/jobs/:id/offer` (owner call) and, with `purpose`, `POST /v1/attestation` (anybody).
/// The answer is an evidence bundle (`sealtune_evidence::bundle`). 503 with `Retry-After` while no VM is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Challenge {
    pub(crate) nonce: Hex<32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) purpose: Option<String>,
}

/// `POST /v1/jobs/:id/release` (owner call); the answer is a [`JobView`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) attempt: u32,
    pub(crate) release: sealtune_wire::v1::SealedRelease,
}

/// `GET /v1/jobs/:id/frames?stream=log|metric|failure&from=N&wait=SECONDS` (owner call): sealed frames from number N on,
/// at most 256 in one answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frames {
    /// Opens the frames, base64; absent until the job has been released. One per attempt.
    pub(crate) envelope: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) frames: Vec<FrameView>,
    pub(crate) state: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrameView {
    pub(crate) number: u64,
    /// Base64.
    pub(crate) frame: String,
}

/// `GET /v1/jobs/:id/log?from=OFFSET&wait=SECONDS` (owner call; plain jobs and disclosed logs).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlainLog {
    pub(crate) text: String,
    /// Where to go on.
    pub(crate) next: u64,
    pub(crate) metrics: Vec<String>,
    pub(crate) state: String,
}

/// `GET /v1/vms`, `GET /v1/vms/:id` (operator).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmView {
    pub(crate) vm: String,
    pub(crate) state: String,
    pub(crate) role: String,
    pub(crate) job: Option<JobId>,
    pub(crate) cid: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) accelerator: String,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) started: i64,
    /// Power-on to a passed launch check, milliseconds.
    pub(crate) ready_ms: Option<u64>,
    pub(crate) resident_kib: Option<u64>,
    pub(crate) kernel: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) rtmr3: Option<String>,
    pub(crate) failure: Option<String>,
}

/// `POST /v1/vms` (operator): a VM without a job, for a look.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmRequest {
    #[serde(default)]
    pub(crate) vcpus: Option<u32>,
    #[serde(default)]
    pub(crate) memory_mib: Option<u64>,
}

/// `PUT /v1/content` (operator; the body is the content), `GET /v1/content`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentView {
    pub(crate) sha256: ContentId,
    pub(crate) zg: Option<ContentId>,
    pub(crate) bytes: u64,
    /// Unix milliseconds.
    pub(crate) added: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorBody {
    pub(crate) error: FailureView,
}
