use std::process::ExitCode;

/// How a command ends, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The answer is no: rejected, failed.
    No,
    /// Usage or configuration.
    Usage,
    /// The environment: no daemon, no network, no disk.
    Environment,
    /// Refused: authentication or policy.
    Refused,
    Bug,
    Interrupted,
}

impl Exit {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Refused => 4,
            Self::Bug => 70,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
