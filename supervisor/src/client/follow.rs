//! Following a job: its states, and what it says in its sealed frames.

use sealtune_job::{JobId, JobKind, JobState};
use sealtune_seal::{OwnerKey, frames::FrameKind};

use super::{
    CliError, ClientError, Connection, FrameReader, JobRecord, error::NO_REASON,
    frames::stream_name,
};
use crate::api::types::JobView;

/// Both long polls of a round end after this many seconds, so neither is much later than the other.
const ROUND: u64 = 2;

/// What is new.
#[derive(Debug)]
pub(crate) enum News<'n> {
    Changed(&'n JobView),
    Log(&'n str),
    /// One event as JSON text.
    Metric(&'n str),
    /// Why the job failed, in the agent's words to its owner.
    Failure(&'n str),
}

/// Why following ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Final(JobView),
    /// The VM was lost: the job waits for another release.
    AwaitsRelease(JobView),
}

/// Reads what a job says, in clear or sealed.
#[derive(Debug)]
pub(crate) enum Voice<'a> {
    Sealed(Box<FrameReader<'a>>),
    Plain {
        next: u64,
    },
    /// Without a record there is nothing that could open frames.
    Silent,
}

impl<'a> Voice<'a> {
    pub(crate) fn of(record: Option<&'a JobRecord>, owner: Option<&'a OwnerKey>) -> Self {
        match (record, owner) {
            (Some(record), _) if record.kind == JobKind::Plain => Self::Plain { next: 0 },
            (Some(record), Some(owner)) => Self::Sealed(Box::new(FrameReader::new(record, owner))),
            _ => Self::Silent,
        }
    }

    /// Reads what is new, waiting up to `wait` seconds for log lines; true if there was something.
    pub(crate) async fn read(
        &mut self,
        connection: &Connection,
        job: JobId,
        wait: u64,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<bool, CliError> {
        match self {
            Self::Silent => Ok(false),
            Self::Plain { next } => {
                let log = connection.plain_log(job, *next, wait).await?;
                let is_new = log.next > *next;
                *next = log.next;
                if !log.text.is_empty() {
                    tell(News::Log(&log.text));
                }
                log.metrics.iter().for_each(|metric| tell(News::Metric(metric)));
                Ok(is_new)
            }
            Self::Sealed(reader) => {
                let mut is_new = false;
                let kinds =
                    [(FrameKind::Log, wait), (FrameKind::Metric, 0), (FrameKind::Failure, 0)];
                for (kind, wait) in kinds {
                    is_new |= read_frames(reader, connection, job, kind, wait, tell).await?;
                }
                Ok(is_new)
            }
        }
    }
}

async fn read_frames(
    reader: &mut FrameReader<'_>,
    connection: &Connection,
    job: JobId,
    kind: FrameKind,
    wait: u64,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<bool, CliError> {
    let from = reader.next(kind);
    let frames = connection.frames(job, stream_name(kind), from, wait).await?;
    let data = reader.take(kind, &frames)?;
    if data.is_empty() {
        return Ok(reader.next(kind) != from);
    }
    let text = String::from_utf8_lossy(&data);
    match kind {
        FrameKind::Log => tell(News::Log(&text)),
        FrameKind::Metric => text.lines().for_each(|line| tell(News::Metric(line))),
        FrameKind::Failure => tell(News::Failure(&text)),
    }
    Ok(true)
}

/// Follows until the job is final or waits for a release.
pub(crate) async fn follow(
    connection: &Connection,
    mut view: JobView,
    voice: &mut Voice<'_>,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Ended, CliError> {
    let job = view.job;
    tell(News::Changed(&view));
    loop {
        let is_final = is_final(&view);
        if is_final {
            // Everything that was said before the end.
            while voice.read(connection, job, 0, tell).await? {}
            return Ok(Ended::Final(view));
        }
        if view.state == JobState::AwaitingRelease.name() {
            return Ok(Ended::AwaitsRelease(view));
        }
        let changed = connection.job_changed(job, view.generation, ROUND);
        let spoken = voice.read(connection, job, ROUND, tell);
        let (changed, spoken) = tokio::join!(changed, spoken);
        spoken?;
        let changed = changed?;
        if changed.generation != view.generation {
            tell(News::Changed(&changed));
        }
        view = changed;
    }
}

pub(crate) fn is_final(view: &JobView) -> bool {
    matches!(view.state.as_str(), "delivered" | "acknowledged" | "failed" | "cancelled")
}

/// An error if the job did not end with a result.
pub(crate) fn check_outcome(view: &JobView) -> Result<(), ClientError> {
    let job = view.job.to_string();
    match view.state.as_str() {
        "failed" => Err(match &view.failure {
            Some(failure) => ClientError::JobFailed {
                job,
                code: failure.code.clone(),
                message: failure.message.clone(),
                fix: failure.fix.clone(),
            },
            None => ClientError::JobFailed {
                job,
                code: NO_REASON.into(),
                message: "the provider does not say why".into(),
                fix: "ask the operator".into(),
            },
        }),
        "cancelled" => Err(ClientError::JobCancelled(job)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_those_of_the_machine() {
        let reason = sealtune_job::FailReason::VmLost;
        for state in [
            JobState::Queued,
            JobState::AwaitingRelease,
            JobState::Fetching,
            JobState::Preparing,
            JobState::Training,
            JobState::Sealing,
            JobState::Delivering,
            JobState::Delivered,
            JobState::Acknowledged,
            JobState::Failed { reason },
            JobState::Cancelled,
        ] {
            let view = crate::client::doubles::view(state.name());
            assert_eq!(is_final(&view), state.is_final(), "{}", state.name());
        }
    }

    #[test]
    fn a_failed_job_ends_with_its_own_code() {
        let mut view = crate::client::doubles::view("failed");
        view.failure = Some(crate::api::types::FailureView {
            code: "ST-JOB-22".into(),
            message: "the training script ran out of memory".into(),
            fix: "raise --memory-mib".into(),
        });
        let error = check_outcome(&view).expect_err("failed");
        assert_eq!((error.code(), error.exit().number()), ("ST-JOB-22", 1));
        let error = check_outcome(&crate::client::doubles::view("cancelled")).expect_err("no");
        assert_eq!((error.code(), error.exit().number()), ("ST-CLI-50", 1));
        assert!(check_outcome(&crate::client::doubles::view("delivered")).is_ok());
    }
}
