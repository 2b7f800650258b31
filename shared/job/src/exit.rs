//! How the training process ended.

use serde::{Deserialize, Serialize};

/// What the agent saw of the training process. Only `Code(0)` can lead to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TrainingExit {
    Code(i32),
    Signal(i32),
    /// The kernel killed it for memory: `memory.events` says so.
    OutOfMemory,
    /// It ran longer than the specification allows.
    Timeout,
    Cancelled,
}

impl TrainingExit {
    pub fn succeeded(self) -> bool {
        self == Self::Code(0)
    }

    /// What the host may learn of a sealed job's end: the class without the code.
    pub fn class(self) -> ExitClass {
        match self {
            Self::Code(0) => ExitClass::Succeeded,
            Self::Code(_) => ExitClass::Failed,
            Self::Signal(_) => ExitClass::Killed,
            Self::OutOfMemory => ExitClass::OutOfMemory,
            Self::Timeout => ExitClass::Timeout,
            Self::Cancelled => ExitClass::Cancelled,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitClass {
    Succeeded,
    Failed,
    Killed,
    OutOfMemory,
    Timeout,
    Cancelled,
}
