//! The life of a VM as a pure function.
//!
//! ```text
//! Defined -> Starting -> Booting -> Ready -> Draining -> Stopped
//!                \__________\_________\__________\____-> Failed(reason)
//! ```

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub(crate) enum VmState {
    /// Stored; nothing runs yet.
    Defined,
    /// Processes are being started.
    Starting,
    /// QEMU runs; the agent has not answered yet.
    Booting,
    /// The agent has passed its launch check.
    Ready,
    /// Asked to power off.
    Draining,
    Stopped,
    Failed {
        reason: VmFailure,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "why", deny_unknown_fields)]
pub(crate) enum VmFailure {
    #[error("start the VM's processes: {detail}")]
    Start { detail: String },
    #[error("hear from the agent before the boot deadline")]
    BootDeadline,
    #[error("get the launch configuration accepted: the agent says {code}")]
    Launch { code: String },
    #[error("keep the VM: QEMU ended by itself")]
    Lost,
    #[error("keep the VM: its agent has not been heard for ten minutes")]
    Silent,
    #[error("keep the VM: its vsock helper serves no more")]
    Deaf,
    #[error("keep the VM: its agent gave up with {code}")]
    Fatal { code: String },
}

impl VmFailure {
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Start { .. } => "ST-VM-10",
            Self::BootDeadline => "ST-VM-11",
            Self::Launch { code } | Self::Fatal { code } => code,
            Self::Lost => "ST-VM-12",
            Self::Silent => "ST-VM-13",
            Self::Deaf => "ST-VM-14",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VmEvent {
    Start,
    ProcessesRun,
    LaunchAccepted,
    StopAsked,
    /// QEMU has ended and is reaped.
    Ended,
    Failed(VmFailure),
}

impl VmState {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Starting => "starting",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }

    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed { .. })
    }

    /// The state behind `event`, or `None` where the event means nothing.
    pub(crate) fn after(&self, event: &VmEvent) -> Option<Self> {
        if self.is_final() {
            return None;
        }
        match (self, event) {
            (_, VmEvent::Failed(reason)) => Some(Self::Failed { reason: reason.clone() }),
            (Self::Defined, VmEvent::Start) => Some(Self::Starting),
            (Self::Starting, VmEvent::ProcessesRun) => Some(Self::Booting),
            (Self::Booting | Self::Ready, VmEvent::LaunchAccepted) => Some(Self::Ready),
            (Self::Defined, VmEvent::StopAsked) => Some(Self::Stopped),
            (_, VmEvent::StopAsked) => Some(Self::Draining),
            (Self::Draining, VmEvent::Ended) => Some(Self::Stopped),
            (_, VmEvent::Ended) => Some(Self::Failed { reason: VmFailure::Lost }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_meets_every_event() {
        let failed = || VmState::Failed { reason: VmFailure::Lost };
        let states = [
            VmState::Defined,
            VmState::Starting,
            VmState::Booting,
            VmState::Ready,
            VmState::Draining,
            VmState::Stopped,
            failed(),
        ];
        let events = [
            VmEvent::Start,
            VmEvent::ProcessesRun,
            VmEvent::LaunchAccepted,
            VmEvent::StopAsked,
            VmEvent::Ended,
            VmEvent::Failed(VmFailure::BootDeadline),
        ];
        // Rows: states; columns: events; `-` = means nothing.
        let table = [
            ["starting", "-", "-", "stopped", "failed", "failed"],
            ["-", "booting", "-", "draining", "failed", "failed"],
            ["-", "-", "ready", "draining", "failed", "failed"],
            ["-", "-", "ready", "draining", "failed", "failed"],
            ["-", "-", "-", "draining", "stopped", "failed"],
            ["-", "-", "-", "-", "-", "-"],
            ["-", "-", "-", "-", "-", "-"],
        ];
        for (state, row) in states.iter().zip(table) {
            for (event, expected) in events.iter().zip(row) {
                let next = state.after(event);
                assert_eq!(
                    next.as_ref().map_or("-", VmState::name),
                    expected,
                    "{state:?} {event:?}"
                );
            }
        }
    }
}
