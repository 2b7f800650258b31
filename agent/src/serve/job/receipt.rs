//! The signed record of a sealed job: what the host saw anyway in clear, the rest as salted commitments that the owner can
//! open one by one. A failed job has one too; its subject is the specification.
//!
//! | commitment | value |
//! |---|---|
//! | `dataset`, `model` | content id, as text |
//! | `parameters` | the text |
//! | `environment` | canonical JSON |
//! | `script` | an inline script's text; the hex digest of one in the image |
//! | `metrics` | `output_model/metrics.json`, else the last metric event |
//! | `result` | hex SHA-256 of the archive before it was sealed |

use std::collections::BTreeMap;
use std::time::Duration;

use sealtune_evidence::claims::GpuClaim;
use sealtune_evidence::{FixedHex, Hex32, LaunchDigest};
use sealtune_job::{FailReason, Script};
use sealtune_receipt::{
    AgentIdentity, Durations, Envelope, ImageIdentity, Predicate, ReceiptOutcome, Statement,
    StreamEnd, Streams,
};
use sealtune_seal::canonical;
use sealtune_seal::commitment::commit;
use sealtune_seal::frames::FrameChain;
use sealtune_wire::v1::AgentFailure;

use super::release::{AcceptedJob, SealedJob};
use super::{JobError, Record};
use crate::serve::machine::Machine;

/// A DSSE envelope and what evidence names it by.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) envelope: String,
    /// SHA-256 of the payload.
    pub(crate) payload_digest: [u8; 32],
}

pub(crate) fn sign(
    machine: &Machine,
    accepted: &AcceptedJob,
    sealed: &SealedJob,
    record: &Record,
    failure: Option<&JobError>,
    gpu: Vec<GpuClaim>,
) -> Result<Signed, JobError> {
    let statement = statement(machine, accepted, sealed, record, failure, gpu)?;
    let payload = statement.to_payload().map_err(|error| JobError::Receipt(error.to_string()))?;
    let envelope = Envelope::sign(payload, &machine.receipt_key);
    Ok(Signed {
        payload_digest: envelope.payload_digest().0,
        envelope: serde_json::to_string(&envelope)
            .map_err(|error| JobError::Receipt(error.to_string()))?,
    })
}

fn statement(
    machine: &Machine,
    accepted: &AcceptedJob,
    sealed: &SealedJob,
    record: &Record,
    failure: Option<&JobError>,
    gpu: Vec<GpuClaim>,
) -> Result<Statement, JobError> {
    let outcome = match (failure, record.packed) {
        (Some(error), _) => ReceiptOutcome::Failed { reason: reason(error) },
        (None, Some(packed)) => ReceiptOutcome::Completed { result: packed.root },
        (None, None) => return Err(JobError::Receipt("there is no result".into())),
    };
    let terms = &accepted.terms;
    let predicate = Predicate {
        version: 1,
        job: FixedHex(*terms.job.as_bytes()),
        attempt: terms.attempt,
        spec: FixedHex(accepted.digest),
        outcome,
        exit: record.exit,
        image: ImageIdentity::Verity(FixedHex(terms.image.verity_root.0)),
        agent: AgentIdentity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: machine.configuration.release.clone(),
        },
        launch: LaunchDigest::of(&machine.configuration_bytes).0,
        durations_ms: durations(&record.durations),
        streams: Streams {
            log: stream_end(record.chains.log),
            metric: stream_end(record.chains.metric),
        },
        commitments: commitments(accepted, sealed, record)?,
        // Zero says that the job failed before its start; there is no evidence then either.
        previous: record.started.map_or(Hex32::ZERO, FixedHex),
        gpu,
    };
    let made = match (failure, record.packed) {
        (None, Some(packed)) => {
            let root = Some(FixedHex(*packed.root.hash()));
            Statement::completed(FixedHex(*packed.sha256.hash()), root, predicate)
        }
        _ => Statement::failed(predicate),
    };
    made.map_err(|error| JobError::Receipt(error.to_string()))
}

fn commitments(
    accepted: &AcceptedJob,
    sealed: &SealedJob,
    record: &Record,
) -> Result<BTreeMap<String, Hex32>, JobError> {
    let terms = &accepted.terms;
    let environment = canonical::to_vec(&terms.environment)
        .map_err(|error| JobError::Receipt(error.to_string()))?;
    let script = match &terms.script {
        Script::Inline { text, .. } => text.clone(),
        Script::Image { sha256, .. } => sha256.to_string(),
    };
    let mut values = vec![
        ("dataset", terms.dataset.id.to_string().into_bytes()),
        ("model", terms.model.id.to_string().into_bytes()),
        ("parameters", terms.parameters.clone().into_bytes()),
        ("environment", environment),
        ("script", script.into_bytes()),
    ];
    values.extend(record.metrics.clone().map(|metrics| ("metrics", metrics)));
    values.extend(record.packed.map(|packed| ("result", hex::encode(packed.plain).into_bytes())));
    let commit = |(name, value): (&str, Vec<u8>)| {
        (name.to_owned(), FixedHex(commit(&sealed.commitment_key, name, &value)))
    };
    Ok(values.into_iter().map(commit).collect())
}

fn reason(error: &JobError) -> FailReason {
    match error.failure() {
        AgentFailure::Refused { code } => FailReason::Refused { code },
        AgentFailure::Input { code } => FailReason::Input { code },
        AgentFailure::Guest { code } => FailReason::Guest { code },
        AgentFailure::Training { exit } => FailReason::Training { exit },
    }
}

fn stream_end(chain: FrameChain) -> StreamEnd {
    StreamEnd { count: chain.count, last: FixedHex(chain.digest) }
}

fn durations(measured: &BTreeMap<&'static str, Duration>) -> Durations {
    let of = |phase| {
        let milliseconds = measured.get(phase).map_or(0, Duration::as_millis);
        u64::try_from(milliseconds).unwrap_or(u64::MAX)
    };
    Durations {
        fetch: of("fetching"),
        prepare: of("preparing"),
        start: of("starting"),
        train: of("training"),
        seal: of("sealing"),
    }
}
