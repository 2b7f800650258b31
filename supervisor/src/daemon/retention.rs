//! What is kept of jobs that have ended, and for how long. Decided by a pure function, carried out by a task.
//!
//! | what | is removed |
//! |---|---|
//! | uploaded dataset, pieces of a result | when the job has ended: another job has another id |
//! | result | a day after its owner acknowledged it, else after `keep-days` |
//! | sealed frames, logs of plain jobs | after `keep-days` |
//! | record, evidence, receipt | never |

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    store::{EndedJob, StoreError, Swept, now_ms},
    vm::task::VmContext,
};

const EVERY: Duration = Duration::from_secs(600);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// How much of an ended job may be removed now.
fn due(job: &EndedJob, now: i64, keep_days: u32) -> Swept {
    let ended = now.saturating_sub(job.updated);
    let keep = i64::from(keep_days) * DAY_MS;
    if ended >= keep {
        Swept::Everything
    } else if job.is_acknowledged && ended >= DAY_MS {
        Swept::Result
    } else {
        Swept::Inputs
    }
}

/// Sweeps until it is dropped.
pub(crate) async fn run(context: Arc<VmContext>, keep_days: u32) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = sweep(&context, keep_days).await {
            tracing::error!("remove what ended jobs left: {error}");
        }
    }
}

async fn sweep(context: &VmContext, keep_days: u32) -> Result<(), StoreError> {
    for job in context.store.ended_jobs().await? {
        let due = due(&job, now_ms(), keep_days);
        if due <= job.swept {
            continue;
        }
        let mut files = vec![context.content.dataset_path(job.id)];
        files.extend(pieces(context, &job));
        if due >= Swept::Result {
            files.push(context.results.join(format!("{}.result", job.id)));
        }
        for file in files {
            match tokio::fs::remove_file(&file).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!("remove {}: {error}", file.display());
                }
                _ => {}
            }
        }
        context.store.set_swept(job.id, due).await?;
    }
    Ok(())
}

/// Results that were never completed, one an attempt.
fn pieces(context: &VmContext, job: &EndedJob) -> impl Iterator<Item = PathBuf> {
    let (results, id) = (context.results.clone(), job.id);
    (0..=job.attempt).map(move |attempt| results.join(format!("{id}.{attempt}.part")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_grows_with_time_and_with_the_owners_word() {
        let job = |is_acknowledged| EndedJob {
            id: sealtune_job::JobId::from_bytes([7; 16]),
            attempt: 1,
            updated: 1000,
            is_acknowledged,
            swept: Swept::Nothing,
        };
        let after = |days: i64, acknowledged| due(&job(acknowledged), 1000 + days * DAY_MS, 14);
        assert_eq!(after(0, false), Swept::Inputs);
        assert_eq!(after(0, true), Swept::Inputs, "its owner may have asked by mistake");
        assert_eq!(after(1, true), Swept::Result);
        assert_eq!(after(13, false), Swept::Inputs);
        assert_eq!(after(14, false), Swept::Everything);
        assert_eq!(after(14, true), Swept::Everything);
        assert!(Swept::Nothing < Swept::Inputs && Swept::Result < Swept::Everything);
        // A clock that went back removes nothing.
        assert_eq!(due(&job(false), 0, 14), Swept::Inputs);
    }
}
