//! Ended jobs, and how much of what they left has been removed.

use sealtune_job::{JobId, JobState};
use sqlx::Row as _;

use super::{Store, StoreError};

/// Each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Swept {
    Nothing,
    Inputs,
    Result,
    /// All but the record, the evidence and the receipt.
    Everything,
}

impl Swept {
    fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Nothing,
            1 => Self::Inputs,
            2 => Self::Result,
            _ => Self::Everything,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct EndedJob {
    pub(crate) id: JobId,
    pub(crate) attempt: u32,
    /// When it ended or was acknowledged, Unix milliseconds.
    pub(crate) updated: i64,
    pub(crate) is_acknowledged: bool,
    pub(crate) swept: Swept,
}

impl Store {
    /// Ended jobs that left something.
    pub(crate) async fn ended_jobs(&self) -> Result<Vec<EndedJob>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, attempt, updated, state, swept FROM jobs WHERE final = 1 AND swept < ?",
        )
        .bind(Swept::Everything as i64)
        .fetch_all(&self.pool)
        .await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let Ok(id) = row.try_get::<String, _>("id")?.parse() else { continue };
            let state: JobState = serde_json::from_str(&row.try_get::<String, _>("state")?)?;
            jobs.push(EndedJob {
                id,
                attempt: u32::try_from(row.try_get::<i64, _>("attempt")?).unwrap_or(u32::MAX),
                updated: row.try_get("updated")?,
                is_acknowledged: state == JobState::Acknowledged,
                swept: Swept::from_number(row.try_get("swept")?),
            });
        }
        Ok(jobs)
    }

    /// Remembers what was removed, and removes what stands in the database itself.
    pub(crate) async fn set_swept(&self, job: JobId, swept: Swept) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        if swept == Swept::Everything {
            for statement in
                ["DELETE FROM frames WHERE job = ?", "DELETE FROM plain_logs WHERE job = ?"]
            {
                sqlx::query(statement).bind(job.to_string()).execute(&mut *transaction).await?;
            }
        }
        sqlx::query("UPDATE jobs SET swept = ? WHERE id = ?")
            .bind(swept as i64)
            .bind(job.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}
