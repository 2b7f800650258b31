//! The agent's events, each stored together with its number: a daemon that dies handles none twice and loses none.

use base64::Engine as _;
use sealtune_job::{Effect, FailReason, JobEvent, JobId, TrainingExit};
use sealtune_wire::v1::{AgentEvent, AgentFailure, FrameStream, LogStream};
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, jobs};
use crate::api::types::{FrameView, ResultView};

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
/// Frames of one stream kept for one job (4 KiB each).
const FRAME_LIMIT: i64 = 1 << 16;

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
                EventOutcome { fatal: Some(code.clone()), ..EventOutcome::default() }
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

    /// Texts of one kind behind `after`, with the number to go on from.
    pub(crate) async fn plain_log(
        &self,
        job: JobId,
        kind: PlainKind,
        after: u64,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT sequence, text FROM plain_logs WHERE job = ? AND kind = ? AND sequence > ? \
             ORDER BY sequence LIMIT 1000",
        )
        .bind(job.to_string())
        .bind(kind.name())
        .bind(after.cast_signed())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(n, text)| (n.unsigned_abs(), text)).collect())
    }

    pub(crate) async fn put_evidence(
        &self,
        job: JobId,
        attempt: u32,
        purpose: &str,
        bundle: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        put_evidence(&mut transaction, job, attempt, purpose, bundle).await?;
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

async fn put_evidence(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
    attempt: u32,
    purpose: &str,
    bundle: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO evidence (job, attempt, purpose, bundle) VALUES (?, ?, ?, ?) \
         ON CONFLICT (job, attempt, purpose) DO UPDATE SET bundle = excluded.bundle",
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
            sqlx::query("INSERT INTO streams (vm, id, job, what) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
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
            // A frame that is not base64 is the guest's loss: the owner's chain shows the hole.
            let bytes = base64::engine::general_purpose::STANDARD.decode(frame).unwrap_or_default();
            if number.cast_signed() < FRAME_LIMIT {
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
                AgentFailure::Refused { code } => FailReason::Refused { code: code.clone() },
                AgentFailure::Input { code } => FailReason::Input { code: code.clone() },
                AgentFailure::Guest { code } => FailReason::Guest { code: code.clone() },
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
    let used: Option<i64> =
        sqlx::query_scalar("SELECT sum(length(text)) FROM plain_logs WHERE job = ?")
            .bind(job)
            .fetch_one(&mut **transaction)
            .await?;
    if used.unwrap_or(0) < PLAIN_LOG_LIMIT {
        sqlx::query("INSERT INTO plain_logs (job, kind, text) VALUES (?, ?, ?)")
            .bind(job)
            .bind(kind.name())
            .bind(text)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
