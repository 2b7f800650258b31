//! What a job may use. The supervisor may tighten these, never widen them.

use serde::{Deserialize, Serialize};

/// Limits of one job. The defaults suit a small job in an emulated VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of the training container, MiB.
    pub memory_mib: u64,
    /// Processes and threads in the container.
    pub processes: u64,
    /// Wall-clock time of the training process, seconds (the guest's monotonic clock).
    pub seconds: u64,
    /// Bytes under `output_model/` before packing.
    pub output_bytes: u64,
    /// Bytes of logs kept for the owner; what is written beyond is counted and dropped.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 512,
            processes: 64,
            seconds: 3600,
            output_bytes: 256 << 20,
            log_bytes: 4 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("accept limits: {name} must be between {min} and {max}")]
pub struct LimitError {
    pub name: &'static str,
    pub min: u64,
    pub max: u64,
}

impl Limits {
    pub fn validate(&self) -> Result<(), LimitError> {
        for (name, value, min, max) in [
            ("memory_mib", self.memory_mib, 16, 16 << 20),
            ("processes", self.processes, 1, 1 << 16),
            ("seconds", self.seconds, 1, 30 * 86_400),
            ("output_bytes", self.output_bytes, 1, 1 << 40),
            ("log_bytes", self.log_bytes, 4096, 1 << 30),
        ] {
            if !(min..=max).contains(&value) {
                return Err(LimitError { name, min, max });
            }
        }
        Ok(())
    }

    /// The smaller of both in every limit.
    pub fn tightened(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.min(other.memory_mib),
            processes: self.processes.min(other.processes),
            seconds: self.seconds.min(other.seconds),
            output_bytes: self.output_bytes.min(other.output_bytes),
            log_bytes: self.log_bytes.min(other.log_bytes),
        }
    }
}
