//! Evidence of NVIDIA GPUs in confidential computing mode (Hopper, Blackwell), and of the switches of machines in protected
//! PCIe mode: formats, signatures, reference values, revocation, and the judgement. Offline, no clock. The README in this
//! folder has limits, codes and figures.

mod appraise;
mod certificate;
pub(crate) mod chain;
pub mod codes;
pub mod collateral;
pub mod compare;
mod der;
mod der_writer;
pub mod device_evidence;
mod dice;
pub mod evidence;
pub mod nonce;
pub mod ocsp;
pub mod opaque;
pub mod rim;
mod roots;
pub mod rules;
#[cfg(feature = "simulated-tee")]
pub mod simulated;
pub mod transcript;
mod xml;

pub use appraise::{
    Device, DeviceFacts, DeviceKind, GpuJudgement, GpuQuestion, Guest, Readiness, Wanted,
    is_genuine, judge, wanted,
};
pub use chain::fuzz_nvidia_chain;
pub use collateral::NvidiaCollateral;
pub use device_evidence::{DeviceEvidence, SwitchEvidence};
pub use evidence::NvidiaEvidence;
pub use roots::NvidiaRoots;
pub use rules::NvidiaRules;

#[cfg(test)]
#[cfg(feature = "simulated-tee")]
pub(crate) mod tests;
