//! Jobs: admission, the state machine applied in a transaction, and what customers ask for.

use sealtune_job::{Effect, FailReason, JobEvent, JobId, JobKind, JobState, Standing, transition};
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};

use super::{Store, StoreError, now_ms};
use crate::api::types::{FailureView, JobView, ResultView, Submission};

#[derive(Debug, Clone)]
pub(crate) struct JobRow {
    pub(crate) submission: Submission,
    pub(crate) state: JobState,
    pub(crate) attempt: u32,
    pub(crate) generation: u64,
    pub(crate) percent: u8,
    pub(crate) dataset_received: u64,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) release_deadline: Option<i64>,
    pub(crate) vm: Option<String>,
    pub(crate) result: Option<ResultView>,
    pub(crate) history: Vec<(String, i64)>,
}

/// Whether a submission made a job or found the one that it made before.
#[derive(Debug)]
pub(crate) enum NewJob {
    Made(JobRow),
    Found(JobRow),
}

impl JobRow {
    pub(crate) fn id(&self) -> JobId {
        self.submission.job
    }

    pub(crate) fn kind(&self) -> JobKind {
        self.submission.kind
    }

    pub(crate) fn dataset_complete(&self) -> bool {
        self.dataset_received >= self.submission.dataset.length()
    }

    pub(crate) fn failure(&self) -> Option<&FailReason> {
        match &self.state {
            JobState::Failed { reason } => Some(reason),
            _ => None,
        }
    }

    pub(crate) fn view(&self, queue_position: Option<u64>) -> JobView {
        JobView {
            job: self.id(),
            kind: self.kind(),
            state: self.state.name().to_owned(),
            attempt: self.attempt,
            generation: self.generation,
            percent: self.percent,
            owner: self.submission.owner,
            image: self.submission.image,
            model: self.submission.model,
            dataset: self.submission.dataset,
            dataset_received: self.dataset_received,
            queue_position,
            created: self.created,
            updated: self.updated,
            release_deadline: self.release_deadline,
            vm: self.vm.clone(),
            failure: self.failure().map(|reason| FailureView {
                code: reason.code().to_owned(),
                message: reason.sentence(),
                fix: reason.fix().to_owned(),
            }),
            // Announced and never stored is no result.
            result: self
                .result
                .clone()
                .filter(|_| !matches!(self.state, JobState::Failed { .. } | JobState::Cancelled)),
            history: self.history.clone(),
        }
    }
}

fn parse_row(row: &SqliteRow) -> Result<JobRow, StoreError> {
    let text = |name: &str| row.try_get::<String, _>(name);
    let number = |name: &str| row.try_get::<i64, _>(name);
    let result: Option<String> = row.try_get("result")?;
    Ok(JobRow {
        submission: serde_json::from_str(&text("submission")?)?,
        state: serde_json::from_str(&text("state")?)?,
        attempt: u32::try_from(number("attempt")?).unwrap_or(u32::MAX),
        generation: number("generation")?.unsigned_abs(),
        percent: u8::try_from(number("percent")?).unwrap_or(100),
        dataset_received: number("dataset_received")?.unsigned_abs(),
        created: number("created")?,
        updated: number("updated")?,
        release_deadline: row.try_get("release_deadline")?,
        vm: row.try_get("vm")?,
        result: result.map(|text| serde_json::from_str(&text)).transpose()?,
        history: serde_json::from_str(&text("history")?)?,
    })
}

pub(super) async fn load(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
) -> Result<JobRow, StoreError> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = ?")
        .bind(job.to_string())
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| StoreError::NotFound(format!("job {job}")))?;
    parse_row(&row)
}

/// Applies one event: the new state is stored with the transaction or not at all.
pub(super) async fn apply(
    transaction: &mut Transaction<'_, Sqlite>,
    job: JobId,
    event: &JobEvent,
    release_time_ms: i64,
) -> Result<(JobRow, Vec<Effect>), StoreError> {
    let mut row = load(transaction, job).await?;
    let standing = Standing { kind: row.kind(), attempt: row.attempt };
    let (state, effects) = transition(&row.state, standing, event)?;
    let now = now_ms();
    if state.name() != row.state.name() {
        row.history.push((state.name().to_owned(), now));
        row.release_deadline = None;
    }
    if *event == JobEvent::Stored {
        row.percent = 100;
    }
    let mut vm_wanted = false;
    if *event == JobEvent::VmLost {
        row.vm = None;
        row.percent = 0;
        // The next VM's owner has the whole time again, and nothing of this attempt is left to be believed.
        row.release_deadline = None;
        row.result = None;
        sqlx::query("DELETE FROM receipts WHERE job = ?")
            .bind(job.to_string())
            .execute(&mut **transaction)
            .await?;
        if !state.is_final() {
            row.attempt += 1;
            vm_wanted = effects.contains(&Effect::StartVm);
        }
    }
    if effects.contains(&Effect::StartReleaseDeadline) {
        // A connection that is made again does not prolong it.
        row.release_deadline.get_or_insert(now + release_time_ms);
    }
    row.state = state;
    row.generation += 1;
    row.updated = now;
    sqlx::query(
        "UPDATE jobs SET state = ?, final = ?, attempt = ?, generation = ?, percent = ?, updated = ?, \
         release_deadline = ?, vm = ?, result = ?, history = ?, vm_wanted = max(vm_wanted, ?) WHERE id = ?",
    )
    .bind(serde_json::to_string(&row.state)?)
    .bind(row.state.is_final())
    .bind(i64::from(row.attempt))
    .bind(row.generation.cast_signed())
    .bind(i64::from(row.percent))
    .bind(row.updated)
    .bind(row.release_deadline)
    .bind(&row.vm)
    .bind(row.result.as_ref().map(serde_json::to_string).transpose()?)
    .bind(serde_json::to_string(&row.history)?)
    .bind(vm_wanted)
    .bind(job.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok((row, effects))
}

impl Store {
    /// Stores a new job, or finds the one that the same owner made with the same idempotency key.
    pub(crate) async fn submit(&self, submission: &Submission) -> Result<NewJob, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = sqlx::query("SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?")
            .bind(submission.owner.to_string())
            .bind(&submission.idempotency_key)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(row) = found {
            return Ok(NewJob::Found(parse_row(&row)?));
        }
        let now = now_ms();
        let history = vec![(JobState::Queued.name().to_owned(), now)];
        let inserted = sqlx::query(
            "INSERT INTO jobs (id, kind, owner, idempotency_key, submission, state, created, updated, history) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )
        .bind(submission.job.to_string())
        .bind(serde_json::to_string(&submission.kind)?)
        .bind(submission.owner.to_string())
        .bind(&submission.idempotency_key)
        .bind(serde_json::to_string(submission)?)
        .bind(serde_json::to_string(&JobState::Queued)?)
        .bind(now)
        .bind(now)
        .bind(serde_json::to_string(&history)?)
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::JobExists);
        }
        let row = load(&mut transaction, submission.job).await?;
        transaction.commit().await?;
        Ok(NewJob::Made(row))
    }

    pub(crate) async fn job(&self, job: JobId) -> Result<JobRow, StoreError> {
        let mut transaction = self.pool.begin().await?;
        load(&mut transaction, job).await
    }

    /// All jobs, or one owner's, oldest first.
    pub(crate) async fn jobs(&self, owner: Option<&str>) -> Result<Vec<JobRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM jobs WHERE ?1 IS NULL OR owner = ?1 ORDER BY created, id")
                .bind(owner)
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(parse_row).collect()
    }

    /// How many jobs stand before this one, where it waits for a VM.
    pub(crate) async fn queue_position(&self, row: &JobRow) -> Result<Option<u64>, StoreError> {
        if row.state.is_final() || row.vm.is_some() {
            return Ok(None);
        }
        let before: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM jobs WHERE final = 0 AND (created < ?1 OR (created = ?1 AND id < ?2))",
        )
        .bind(row.created)
        .bind(row.id().to_string())
        .fetch_one(&self.pool)
        .await?;
        Ok(Some(before.unsigned_abs()))
    }

    /// The oldest job that could use a VM now.
    pub(crate) async fn next_for_a_vm(&self) -> Result<Option<JobRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE final = 0 AND vm IS NULL AND vm_wanted = 1 ORDER BY created, id",
        )
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            let job = parse_row(row)?;
            if job.dataset_complete() {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    pub(crate) async fn apply(
        &self,
        job: JobId,
        event: &JobEvent,
        release_time_ms: i64,
    ) -> Result<(JobRow, Vec<Effect>), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let applied = apply(&mut transaction, job, event, release_time_ms).await?;
        transaction.commit().await?;
        Ok(applied)
    }

    /// Says that a dataset has grown from `before` to `received` bytes; false where another call was quicker.
    pub(crate) async fn grow_dataset(
        &self,
        job: JobId,
        before: u64,
        received: u64,
    ) -> Result<bool, StoreError> {
        let grown = sqlx::query(
            "UPDATE jobs SET dataset_received = ?, generation = generation + 1, updated = ? \
             WHERE id = ? AND dataset_received = ? AND final = 0",
        )
        .bind(received.cast_signed())
        .bind(now_ms())
        .bind(job.to_string())
        .bind(before.cast_signed())
        .execute(&self.pool)
        .await?;
        Ok(grown.rows_affected() > 0)
    }

    /// Open jobs whose VM is not among the open ones.
    pub(crate) async fn stranded(&self) -> Result<Vec<JobId>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE final = 0 AND vm IS NOT NULL \
             AND vm NOT IN (SELECT id FROM vms WHERE open = 1)",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// How many of an owner's jobs have not ended.
    pub(crate) async fn open_jobs_of(&self, owner: &str) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE final = 0 AND owner = ?")
            .bind(owner)
            .fetch_one(&self.pool)
            .await?;
        Ok(count)
    }

    /// Jobs whose owners have not released them in time.
    pub(crate) async fn overdue(&self, now: i64) -> Result<Vec<JobId>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE final = 0 AND release_deadline IS NOT NULL AND release_deadline <= ?",
        )
        .bind(now)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// The next release deadline, Unix milliseconds.
    pub(crate) async fn next_deadline(&self) -> Result<Option<i64>, StoreError> {
        let next = sqlx::query_scalar(
            "SELECT min(release_deadline) FROM jobs WHERE final = 0 AND release_deadline IS NOT NULL",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(next)
    }

    /// Remembers an owner call's nonce; the same one again within its time of validity is refused.
    pub(crate) async fn remember_call(&self, nonce: &str, time: i64) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("DELETE FROM owner_calls WHERE time < ?")
            .bind(time - 3600)
            .execute(&mut *transaction)
            .await?;
        let inserted = sqlx::query(
            "INSERT INTO owner_calls (nonce, time) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(nonce)
        .bind(time)
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::Replayed);
        }
        transaction.commit().await?;
        Ok(())
    }
}
