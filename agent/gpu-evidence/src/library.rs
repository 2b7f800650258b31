//! What is used of NVML, as plain numbers and buffers. The driver's own library stands behind it; in tests a simulated one.

pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";
pub(crate) const MAX_REPORT_BYTES: usize = 8192;
pub(crate) const MAX_CHAIN_BYTES: usize = 5120;
/// What NVML says of a thing that a GPU does not have.
pub(crate) const NOT_SUPPORTED: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Load(String),
    #[error("find {0} in the driver's library")]
    Function(&'static str),
    #[error("call {call}: status {status} ({meaning})", meaning = meaning(*status))]
    Status { call: &'static str, status: u32 },
}

/// NVML's words for its numbers, as far as they can be met here.
fn meaning(status: u32) -> &'static str {
    match status {
        1 => "not initialized",
        2 => "invalid argument",
        NOT_SUPPORTED => "not supported",
        4 => "no permission",
        6 => "not found",
        7 => "buffer too small",
        9 => "driver not loaded",
        10 => "timeout",
        12 => "library not found",
        13 => "function not found",
        15 => "GPU is lost",
        16 => "reset required",
        17 => "operating system error",
        18 => "library and driver are of different releases",
        20 => "out of memory",
        21 => "no data",
        25 => "argument version mismatch",
        27 => "not ready",
        28 => "GPU not found",
        29 => "invalid state",
        _ => "unknown error",
    }
}

pub(crate) type Called<T> = Result<T, CallError>;

/// `nvmlSystemConfComputeSettings_v1_t`, less its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) environment: u32,
    pub(crate) feature: u32,
    pub(crate) devtools: u32,
    pub(crate) multi_gpu: u32,
}

/// A buffer as it was filled, and how much of it counts: the word of whoever filled it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) length: u32,
    pub(crate) buffer: Vec<u8>,
}

/// GPUs are numbered from 0 to one less than `count`.
pub(crate) trait Library {
    fn driver_version(&self) -> Called<Vec<u8>>;
    fn settings(&self) -> Called<Settings>;
    fn gpus_ready(&self) -> Called<u32>;
    fn set_gpus_ready(&self, state: u32) -> Called<()>;
    fn count(&self) -> Called<u32>;
    fn bus(&self, gpu: u32) -> Called<Vec<u8>>;
    fn uuid(&self, gpu: u32) -> Called<Vec<u8>>;
    fn architecture(&self, gpu: u32) -> Called<u32>;
    fn vbios_version(&self, gpu: u32) -> Called<Vec<u8>>;
    fn mig_mode(&self, gpu: u32) -> Called<u32>;
    fn virtualization(&self, gpu: u32) -> Called<u32>;
    fn report(&self, gpu: u32, challenge: &[u8; 32]) -> Called<Filled>;
    fn certificates(&self, gpu: u32) -> Called<Filled>;
}

/// `None` where the GPU does not have it.
pub(crate) fn if_supported<T>(called: Called<T>) -> Called<Option<T>> {
    match called {
        Ok(value) => Ok(Some(value)),
        Err(CallError::Status { status: NOT_SUPPORTED, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
