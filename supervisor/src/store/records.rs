//! The agent's events, each stored together with its number: a daemon that dies handles none twice and loses none.

use base64::Engine as _;
use sealtune_job::{Effect, FailReason, JobEvent, JobId, TrainingExit};
use sealtune_wire::v1::{AgentEvent, AgentFailure, FrameStream, LogStream, Transfer};
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, jobs};
use crate::api::types::{FrameView, ResultView, Submission};

/// What the VM's task has to do after an event is on disk.
#[derive(Debug, Default)]
pub(crate) struct EventOutcome {
    pub(crate) effects: Vec<Effect>,
    /// The event asked for a transfer.
    pub(crate) stream_wanted: bool,
    /// The agent has sent everything for its job.
    pub(crate) done: bool,
    /// The agent says that it cannot go on.
    pub(crate) fatal: Option<String>,
    pub(crate) changed: Option<JobId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainKind {
    Text,
    Metric,
}

impl PlainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Metric => "metric",
        }
    }
}

/// An event is only believed of the job that its VM was started for.
fn job_of(event: &AgentEvent) -> Option<JobId> {
    match event {
        AgentEvent::Phase { job, .. }
        | AgentEvent::StreamWanted { job, .. }
        | AgentEvent::Percent { job, .. }
        | AgentEvent::OwnerEnvelope { job, .. }
        | AgentEvent::OwnerFrame { job, .. }
        | AgentEvent::PlainLog { job, .. }
        | AgentEvent::PlainMetric { job, .. }
        | AgentEvent::Exited { job, .. }
        | AgentEvent::Started { job, .. }
        | AgentEvent::Result { job, .. }
        | AgentEvent::Receipt { job, .. }
        | AgentEvent::Failed { job, .. }
        | AgentEvent::Done { job } => Some(*job),
        AgentEvent::Fatal { .. } => None,
    }
}

/// Bytes of plain log text kept for one job; a guest cannot fill the host's disk.
const PLAIN_LOG_LIMIT: i64 = 64 << 20;
/// Log bytes in one answer.
const ANSWER_BYTES: usize = 2 << 20;
/// A row costs more than its text.
const ROW_COST: usize = 64;
/// Transfers that one VM may ask for: a few inputs, and parts of them again where a piece was wrong.
const STREAM_LIMIT: i64 = 256;
/// Longest code that is kept of an agent's word.
const CODE_LENGTH: usize = 32;

impl Store {
    /// Stores one event of a VM's agent and the acknowledgement of its number in one transaction.
    /// `bundle` makes an evidence bundle of what the agent sent.
    pub(crate) async fn record_event(
        &self,
        vm: &str,
        vm_job: Option<(JobId, u32)>,
        sequence: u64,
        event: &AgentEvent,
        bundle: impl Fn(&sealtune_wire::v1::Evidence) -> Option<String>,
    ) -> Result<EventOutcome, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let advanced =
            sqlx::query("UPDATE vms SET acknowledged = ?1 WHERE id = ?2 AND acknowledged < ?1")
                .bind(sequence.cast_signed())
                .bind(vm)
                .execute(&mut *transaction)
                .await?;
        if advanced.rows_affected() == 0 {
            return Ok(EventOutcome::default());
        }
        let outcome = match (event, job_of(event), vm_job) {
            (AgentEvent::Fatal { code }, _, _) => {
                EventOutcome { fatal: Some(plain_code(code)), ..EventOutcome::default() }
            }
            (_, Some(job), Some((own, attempt))) if job == own => {
                record(&mut transaction, vm, job, attempt, event, bundle).await?
            }
            _ => EventOutcome::default(),
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    pub(crate) async fn envelope(
        &self,
        job: JobId,
        attempt: u32,
    ) -> Result<Option<String>, StoreError> {
        let found =
            sqlx::query_scalar("SELECT envelope FROM envelopes WHERE job = ? AND attempt = ?")
                .bind(job.to_string())
                .bind(i64::from(attempt))
                .fetch_optional(&self.pool)
                .await?;
        Ok(found)
    }

    pub(crate) async fn frames(
        &self,
        job: JobId,
        attempt: u32,
        stream: &str,
        from: u64,
    ) -> Result<Vec<FrameView>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT number, frame FROM frames WHERE job = ? AND attempt = ? AND stream = ? AND number >= ? \
             ORDER BY number LIMIT 256",
        )
        .bind(job.to_string())
        .bind(i64::from(attempt))
        .bind(stream)
        .bind(from.cast_signed())
        .fetch_all(&self.pool)
        .await?;
        let encode = |(number, frame): (i64, Vec<u8>)| FrameView {
            number: number.unsigned_abs(),
            frame: base64::engine::general_purpose::STANDARD.encode(frame),
        };
        Ok(rows.into_iter().map(encode).collect())
    }

    /// Texts and metrics behind `after`, in order, with their numbers to go on from.
    pub(crate) async fn plain_log(
        &self,
        job: JobId,
        after: u64,
    ) -> Result<Vec<(u64, PlainKind, String)>, StoreError> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(
            "SELECT sequence, kind, text FROM plain_logs WHERE job = ? AND sequence > ? \
             ORDER BY sequence LIMIT 1000",
        )
        .bind(job.to_string())
        .bind(after.cast_signed())
        .fetch_all(&self.pool)
        .await?;
        let mut length = 0;
        let within = rows.into_iter().take_while(|(_, _, text)| {
            let first = length == 0;
            length += text.len() + ROW_COST;
            first || length <= ANSWER_BYTES
        });
        let row = |(number, kind, text): (i64, String, String)| {
            let metric = kind == PlainKind::Metric.name();
            let kind = if metric { PlainKind::Metric } else { PlainKind::Text };
            (number.unsigned_abs(), kind, text)
        };
        Ok(within.map(row).collect())
    }

    /// Keeps an offer under its digest; the last sixteen of an attempt.
    pub(crate) async fn put_offer(
        &self,
        job: JobId,
        attempt: u32,
        digest: &str,
        bundle: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "DELETE FROM evidence WHERE rowid IN (SELECT rowid FROM evidence WHERE job = ? AND attempt = ? \
             AND purpose LIKE 'offer:%' ORDER BY rowid DESC LIMIT -1 OFFSET 15)",
        )
        .bind(job.to_string())
        .bind(i64::from(attempt))
        .execute(&mut *transaction)
        .await?;
        put_evidence(&mut transaction, job, attempt, &format!("offer:{digest}"), bundle).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn evidence(
        &self,
        job: JobId,
        attempt: u32,
        purpose: &str,
    ) -> Result<Option<String>, StoreError> {
        let found = sqlx::query_scalar(
            "SELECT bundle FROM evidence WHERE job = ? AND attempt = ? AND purpose = ?",
        )
        .bind(job.to_string())
        .bind(i64::from(attempt))
        .bind(purpose)
        .fetch_optional(&self.pool)
        .await?;
        Ok(found)
    }

    /// The attempt that a receipt or failure record was made in, and its envelope.
    pub(crate) async fn receipt(&self, job: JobId) -> Result<Option<(u32, String)>, StoreError> {
        let found: Option<(i64, String)> =
            sqlx::query_as("SELECT attempt, envelope FROM receipts WHERE job = ?")
                .bind(job.to_string())
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.map(|(attempt, text)| (u32::try_from(attempt).unwrap_or(0), text)))
    }
}

/// A code as it may stand in states, logs and terminals, whatever the guest sent.
pub(crate) fn plain_code(code: &str) -> String {
    let plain = !code.is_empty()
        && code.len() <= CODE_LENGTH
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain { code.to_owned() } else { "no-code".to_owned() }
}

fn belongs(what: &Transfer, submission: &Submission) -> bool {
    match what {
        Transfer::Content { id } | Transfer::SegmentRoots { id } => {
            *id == submission.model || *id == submission.dataset
        }
        Transfer::SealedDataset { id } => *id == submission.dataset,
        Transfer::Result => true,
    }
}

/// Of the offers that were made for an attempt, the one that `start` evidence names is the one that was accepted.
async fn accept_offer(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
    attempt: u32,
    claims: &str,
) -> Result<(), StoreError> {
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap_or_default();
    let Some(previous) = claims.get("previous").and_then(|digest| digest.as_str()) else {
        return Ok(());
    };
    let offer: Option<String> = sqlx::query_scalar(
        "SELECT bundle FROM evidence WHERE job = ? AND attempt = ? AND purpose = ?",
    )
    .bind(job.to_string())
    .bind(i64::from(attempt))
    .bind(format!("offer:{previous}"))
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(offer) = offer {
        put_evidence(transaction, job, attempt, "offer", &offer).await?;
    }
    Ok(())
}

async fn put_evidence(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
    attempt: u32,
    purpose: &str,
    bundle: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO evidence (job, attempt, purpose, bundle) VALUES (?, ?, ?, ?) \
         ON CONFLICT (job, attempt, purpose) DO NOTHING",
    )
    .bind(job.to_string())
    .bind(i64::from(attempt))
    .bind(purpose)
    .bind(bundle)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn record(
    transaction: &mut Transaction<'_, Sqlite>,
    vm: &str,
    job: JobId,
    attempt: u32,
    event: &AgentEvent,
    bundle: impl Fn(&sealtune_wire::v1::Evidence) -> Option<String>,
) -> Result<EventOutcome, StoreError> {
    let id = job.to_string();
    let mut outcome = EventOutcome { changed: Some(job), ..EventOutcome::default() };
    match event {
        AgentEvent::Phase { phase, .. } => {
            outcome.effects = advance(transaction, job, &JobEvent::Phase(*phase)).await?;
        }
        AgentEvent::StreamWanted { stream, what, .. } => {
            let row = jobs::load(transaction, job).await?;
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM streams WHERE vm = ?")
                .bind(vm)
                .fetch_one(&mut **transaction)
                .await?;
            // Only what belongs to the job: the rest of the host's content is none of this guest's business.
            if count >= STREAM_LIMIT || !belongs(what, &row.submission) {
                tracing::warn!(%job, "the agent asks for a transfer that is not its job's");
                return Ok(outcome);
            }
            sqlx::query(
                "INSERT INTO streams (vm, id, job, what) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(vm)
            .bind(stream.to_string())
            .bind(&id)
            .bind(serde_json::to_string(what)?)
            .execute(&mut **transaction)
            .await?;
            outcome.stream_wanted = true;
        }
        AgentEvent::Percent { percent, .. } => {
            sqlx::query("UPDATE jobs SET percent = ?, generation = generation + 1 WHERE id = ?")
                .bind(i64::from((*percent).min(100)))
                .bind(&id)
                .execute(&mut **transaction)
                .await?;
        }
        AgentEvent::OwnerEnvelope { envelope, .. } => {
            sqlx::query("INSERT INTO envelopes (job, attempt, envelope) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(&id)
                .bind(i64::from(attempt))
                .bind(envelope)
                .execute(&mut **transaction)
                .await?;
        }
        AgentEvent::OwnerFrame { stream, number, frame, .. } => {
            let name = match stream {
                FrameStream::Log => "log",
                FrameStream::Metric => "metric",
                FrameStream::Failure => "failure",
            };
            let bytes = base64::engine::general_purpose::STANDARD.decode(frame).unwrap_or_default();
            let limits = jobs::load(transaction, job).await?.submission.limits;
            let most = limits.log_bytes / 4000 + limits.seconds + 4096;
            // A frame that is not one is the guest's loss: the owner's chain shows the hole.
            if *number < most && bytes.len() == sealtune_seal::frames::FRAME_LENGTH {
                sqlx::query(
                    "INSERT INTO frames (job, attempt, stream, number, frame) VALUES (?, ?, ?, ?, ?) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(&id)
                .bind(i64::from(attempt))
                .bind(name)
                .bind(number.cast_signed())
                .bind(bytes)
                .execute(&mut **transaction)
                .await?;
            }
        }
        AgentEvent::PlainLog { stream, text, .. } => {
            let name = match stream {
                LogStream::Stdout => "",
                LogStream::Stderr => "[stderr] ",
                LogStream::Progress => "[progress] ",
            };
            plain(transaction, &id, PlainKind::Text, &format!("{name}{text}")).await?;
        }
        AgentEvent::PlainMetric { metric, .. } => {
            plain(transaction, &id, PlainKind::Metric, metric).await?;
        }
        AgentEvent::Exited { exit, .. } => {
            // The host learns the class only; the machine needs no more than success or not.
            let exit = match exit {
                sealtune_job::ExitClass::Succeeded => TrainingExit::Code(0),
                sealtune_job::ExitClass::Failed => TrainingExit::Code(1),
                sealtune_job::ExitClass::Killed => TrainingExit::Signal(9),
                sealtune_job::ExitClass::OutOfMemory => TrainingExit::OutOfMemory,
                sealtune_job::ExitClass::Timeout => TrainingExit::Timeout,
                sealtune_job::ExitClass::Cancelled => TrainingExit::Cancelled,
            };
            if exit.succeeded() {
                outcome.effects = advance(transaction, job, &JobEvent::Exited(exit)).await?;
            }
            // Any other exit is followed by `Failed`, after the failure record and the last log frames.
        }
        AgentEvent::Started { evidence, .. } => {
            if let Some(bundle) = bundle(evidence) {
                put_evidence(transaction, job, attempt, "start", &bundle).await?;
            }
            accept_offer(transaction, job, attempt, &evidence.claims).await?;
        }
        AgentEvent::Result { sha256, root, .. } => {
            let view = ResultView { sha256: *sha256, root: *root };
            sqlx::query("UPDATE jobs SET result = ?, generation = generation + 1 WHERE id = ?")
                .bind(serde_json::to_string(&view)?)
                .bind(&id)
                .execute(&mut **transaction)
                .await?;
        }
        AgentEvent::Receipt { envelope, evidence, .. } => {
            sqlx::query(
                "INSERT INTO receipts (job, attempt, envelope) VALUES (?, ?, ?) \
                 ON CONFLICT (job) DO UPDATE SET attempt = excluded.attempt, envelope = excluded.envelope",
            )
            .bind(&id)
            .bind(i64::from(attempt))
            .bind(envelope)
            .execute(&mut **transaction)
            .await?;
            if let Some(bundle) = evidence.as_ref().and_then(bundle) {
                put_evidence(transaction, job, attempt, "receipt", &bundle).await?;
            }
        }
        AgentEvent::Failed { failure, .. } => {
            let reason = match failure {
                AgentFailure::Refused { code } => FailReason::Refused { code: plain_code(code) },
                AgentFailure::Input { code } => FailReason::Input { code: plain_code(code) },
                AgentFailure::Guest { code } => FailReason::Guest { code: plain_code(code) },
                AgentFailure::Training { exit } => FailReason::Training { exit: *exit },
            };
            outcome.effects = advance(transaction, job, &JobEvent::AgentFailed(reason)).await?;
        }
        AgentEvent::Done { .. } => outcome.done = true,
        AgentEvent::Fatal { .. } => {}
    }
    Ok(outcome)
}

/// Applies an event of the agent. One that does not fit the job's state is a confused or hostile guest's: it changes
/// nothing, and the VM goes on to be watched.
async fn advance(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
    event: &JobEvent,
) -> Result<Vec<Effect>, StoreError> {
    match jobs::apply(transaction, job, event, 0).await {
        Ok((_, effects)) => Ok(effects),
        Err(StoreError::Denied(denied)) => {
            tracing::warn!(%job, "{denied}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

async fn plain(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &str,
    kind: PlainKind,
    text: &str,
) -> Result<(), StoreError> {
    let room = sqlx::query(
        "UPDATE jobs SET plain_bytes = plain_bytes + ? WHERE id = ? AND plain_bytes < ?",
    )
    .bind(i64::try_from(text.len() + ROW_COST).unwrap_or(i64::MAX))
    .bind(job)
    .bind(PLAIN_LOG_LIMIT)
    .execute(&mut **transaction)
    .await?;
    if room.rows_affected() > 0 {
        sqlx::query("INSERT INTO plain_logs (job, kind, text) VALUES (?, ?, ?)")
            .bind(job)
            .bind(kind.name())
            .bind(text)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
