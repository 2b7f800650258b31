//! Why a job failed, in the words that the host may know. Detail goes to the owner in a sealed frame.

use serde::{Deserialize, Serialize};

use crate::ExitClass;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason", deny_unknown_fields)]
pub enum FailReason {
    /// The training process did not end with code 0.
    Training { exit: ExitClass },
    /// The owner did not release the job to its VM in time.
    ReleaseTimeout,
    /// The agent refused the release or the job's terms: its code says which field.
    Refused { code: String },
    /// An input could not be fetched, or what arrived was not what its id names.
    Input { code: String },
    /// The agent could not prepare, run, pack or seal.
    Guest { code: String },
    /// The host could not do its part (no space, no image, no QEMU).
    Host { code: String },
    /// The VM was lost more often than the job may be tried.
    VmLost,
}

impl FailReason {
    pub fn code(&self) -> &str {
        match self {
            Self::Training { exit } => match exit {
                ExitClass::Succeeded | ExitClass::Failed => "ST-JOB-20",
                ExitClass::Killed => "ST-JOB-21",
                ExitClass::OutOfMemory => "ST-JOB-22",
                ExitClass::Timeout => "ST-JOB-23",
                ExitClass::Cancelled => "ST-JOB-24",
            },
            Self::ReleaseTimeout => "ST-JOB-25",
            Self::VmLost => "ST-JOB-26",
            Self::Refused { code }
            | Self::Input { code }
            | Self::Guest { code }
            | Self::Host { code } => code,
        }
    }

    pub fn sentence(&self) -> String {
        match self {
            Self::Training { exit } => match exit {
                ExitClass::Succeeded | ExitClass::Failed => {
                    "the training script ended with an error".into()
                }
                ExitClass::Killed => "the training script was killed by a signal".into(),
                ExitClass::OutOfMemory => "the training script ran out of memory".into(),
                ExitClass::Timeout => "the training script ran longer than its limit".into(),
                ExitClass::Cancelled => "the training was cancelled".into(),
            },
            Self::ReleaseTimeout => "the owner did not release the job in time".into(),
            Self::Refused { code } => format!("the agent refused the job ({code})"),
            Self::Input { code } => format!("an input could not be fetched or verified ({code})"),
            Self::Guest { code } => format!("the agent could not carry out the job ({code})"),
            Self::Host { code } => format!("the host could not carry out the job ({code})"),
            Self::VmLost => "the VM was lost more often than a job may be tried".into(),
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Training { exit: ExitClass::OutOfMemory } => {
                "raise --memory-mib or make the script use less"
            }
            Self::Training { exit: ExitClass::Timeout } => {
                "raise --time-limit or make the script do less"
            }
            Self::Training { .. } => "read `sealtune job logs` and correct the script",
            Self::ReleaseTimeout => {
                "submit again and let `sealtune job submit` run until the release"
            }
            Self::Refused { .. } => {
                "look the code up in the README of its area; if you changed nothing, somebody else did"
            }
            Self::Input { .. } => "check the content ids and that the provider has the content",
            Self::Guest { .. } => {
                "read `sealtune job logs`; look the code up in the README of its area (ST-AGENT: agent)"
            }
            Self::Host { .. } | Self::VmLost => {
                "ask the operator to run `sealtune vm logs`, then submit again"
            }
        }
    }
}
