//! The life of a job, as a pure function of state and event.
//!
//! ```text
//! Queued -> AwaitingRelease -> Fetching -> Preparing -> Training -> Sealing -> Delivering -> Delivered -> Acknowledged
//!    |   (plain jobs skip it)      |           |            |           |           |
//!    +-----------------------------+-----------+------------+-----------+-----------+--> Failed(reason) | Cancelled
//! ```
//!
//! A VM that is lost before `Delivered` puts a sealed job back to `AwaitingRelease` and a plain one back to `Queued`,
//! attempt + 1, at most [`MAX_ATTEMPTS`] times. Events that a restarted daemon sees twice are denied, never applied twice.

use serde::{Deserialize, Serialize};

use crate::{FailReason, TrainingExit};

/// A job whose VM is lost this often has failed.
pub const MAX_ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum JobState {
    Queued,
    AwaitingRelease,
    Fetching,
    Preparing,
    Training,
    Sealing,
    Delivering,
    Delivered,
    Acknowledged,
    Failed { reason: FailReason },
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Released by its owner to one attested VM.
    Sealed,
    /// Terms in the clear: the host reads dataset, logs and result.
    Plain,
}

/// The part of a job's life that the agent reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPhase {
    Fetching,
    Preparing,
    Training,
    Sealing,
    Delivering,
}

/// What the machine needs to know of a job besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub kind: JobKind,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// The job's VM passed its launch check.
    VmReady,
    /// The agent accepted the job (its owner's release, or plain terms).
    Accepted,
    ReleaseDeadline,
    Phase(JobPhase),
    Exited(TrainingExit),
    /// Result and receipt are on the host's disk.
    Stored,
    Acknowledged,
    AgentFailed(FailReason),
    VmLost,
    CancelRequested,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Boot a VM for the job's next attempt.
    StartVm,
    /// End the job's VM in order.
    StopVm,
    /// Give the owner a bounded time to release.
    StartReleaseDeadline,
    /// Send the plain terms to the agent.
    SendPlainTerms,
    /// Remove what has arrived of a result that will not be completed.
    DiscardPartialResult,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("apply {event} to a job that is {state}")]
pub struct Denied {
    pub state: &'static str,
    pub event: &'static str,
}

impl Denied {
    pub fn code(&self) -> &'static str {
        "ST-JOB-12"
    }
}

impl JobState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::AwaitingRelease => "awaiting-release",
            Self::Fetching => "fetching",
            Self::Preparing => "preparing",
            Self::Training => "training",
            Self::Sealing => "sealing",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// No event can change it any more, but for the owner's acknowledgement.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Delivered | Self::Acknowledged | Self::Failed { .. } | Self::Cancelled)
    }

    fn phase(&self) -> Option<JobPhase> {
        match self {
            Self::Fetching => Some(JobPhase::Fetching),
            Self::Preparing => Some(JobPhase::Preparing),
            Self::Training => Some(JobPhase::Training),
            Self::Sealing => Some(JobPhase::Sealing),
            Self::Delivering => Some(JobPhase::Delivering),
            _ => None,
        }
    }
}

impl From<JobPhase> for JobState {
    fn from(phase: JobPhase) -> Self {
        match phase {
            JobPhase::Fetching => Self::Fetching,
            JobPhase::Preparing => Self::Preparing,
            JobPhase::Training => Self::Training,
            JobPhase::Sealing => Self::Sealing,
            JobPhase::Delivering => Self::Delivering,
        }
    }
}

impl JobEvent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::VmReady => "vm-ready",
            Self::Accepted => "accepted",
            Self::ReleaseDeadline => "release-deadline",
            Self::Phase(_) => "phase",
            Self::Exited(_) => "exited",
            Self::Stored => "stored",
            Self::Acknowledged => "acknowledged",
            Self::AgentFailed(_) => "agent-failed",
            Self::VmLost => "vm-lost",
            Self::CancelRequested => "cancel-requested",
        }
    }
}

/// What `event` makes of a job in `state`, and what has to be done about it.
pub fn transition(
    state: &JobState,
    standing: Standing,
    event: &JobEvent,
) -> Result<(JobState, Vec<Effect>), Denied> {
    let denied = Denied { state: state.name(), event: event.name() };
    if state.is_final() {
        return match (state, event) {
            (JobState::Delivered, JobEvent::Acknowledged) => Ok((JobState::Acknowledged, vec![])),
            _ => Err(denied),
        };
    }
    let end = vec![Effect::StopVm, Effect::DiscardPartialResult];
    match event {
        JobEvent::CancelRequested => Ok((JobState::Cancelled, end)),
        JobEvent::AgentFailed(reason) => Ok((JobState::Failed { reason: reason.clone() }, end)),
        JobEvent::VmLost => Ok(vm_lost(state, standing)),
        JobEvent::VmReady => match (state, standing.kind) {
            (JobState::Queued | JobState::AwaitingRelease, JobKind::Sealed) => {
                Ok((JobState::AwaitingRelease, vec![Effect::StartReleaseDeadline]))
            }
            (JobState::Queued, JobKind::Plain) => {
                Ok((JobState::Queued, vec![Effect::SendPlainTerms]))
            }
            _ => Err(denied),
        },
        JobEvent::Accepted => match (state, standing.kind) {
            (JobState::AwaitingRelease, JobKind::Sealed) | (JobState::Queued, JobKind::Plain) => {
                Ok((JobState::Fetching, vec![]))
            }
            _ => Err(denied),
        },
        JobEvent::ReleaseDeadline => match state {
            JobState::AwaitingRelease => {
                Ok((JobState::Failed { reason: FailReason::ReleaseTimeout }, end))
            }
            _ => Err(denied),
        },
        JobEvent::Phase(phase) => match state.phase() {
            // Phases only go forward; a repeated one (after a lost connection) changes nothing.
            Some(current) if *phase >= current => Ok((JobState::from(*phase), vec![])),
            // The agent may report its first phase before the answer to the release is handled.
            None if *phase == JobPhase::Fetching => Ok((JobState::Fetching, vec![])),
            _ => Err(denied),
        },
        JobEvent::Exited(exit) => match state {
            JobState::Training if exit.succeeded() => Ok((JobState::Training, vec![])),
            JobState::Training => {
                Ok((JobState::Failed { reason: FailReason::Training { exit: exit.class() } }, end))
            }
            _ => Err(denied),
        },
        JobEvent::Stored => match state {
            JobState::Delivering => Ok((JobState::Delivered, vec![Effect::StopVm])),
            _ => Err(denied),
        },
        JobEvent::Acknowledged => Err(denied),
    }
}

fn vm_lost(state: &JobState, standing: Standing) -> (JobState, Vec<Effect>) {
    if standing.attempt >= MAX_ATTEMPTS {
        let failed = JobState::Failed { reason: FailReason::VmLost };
        return (failed, vec![Effect::DiscardPartialResult]);
    }
    let back = match (state, standing.kind) {
        (JobState::Queued, _) | (_, JobKind::Plain) => JobState::Queued,
        (_, JobKind::Sealed) => JobState::AwaitingRelease,
    };
    (back, vec![Effect::DiscardPartialResult, Effect::StartVm])
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
