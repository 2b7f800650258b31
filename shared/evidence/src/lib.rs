//! Attestation evidence: what is in it, how it is made in the simulated TEE, and how it is judged.
//!
//! No process, no socket, no clock: everything here takes bytes and time as arguments.
#![forbid(unsafe_code)]

pub mod anchor;
pub mod appraise;
pub mod base64_bytes;
pub mod bundle;
pub mod claims;
pub mod codes;
pub mod collateral;
pub mod dsse;
pub mod dstack;
pub mod event_log;
pub mod fixed_hex;
pub mod launch;
pub mod layout1;
pub mod logs;
pub mod measure;
pub mod nvidia;
mod pck_chain;
pub mod policy;
pub mod qgs;
pub mod quote;
mod quote_signature;
pub mod reference;
pub mod release;
#[cfg(feature = "simulated-tee")]
pub mod simulated;
pub mod snp;
pub mod time;
pub mod verdict;

pub use anchor::{Anchor, Anchors};
pub use appraise::{Appraisal, Context, Expectation, JudgeTime, appraise};
pub use bundle::{EvidenceBundle, GpuEvidence, ImageIdentity, Tee, evidence_digest};
pub use claims::{Claims, ClaimsBuilder, HpkeClaim, HpkeSuite, JobBinding, Purpose, report_data};
pub use codes::Code;
pub use collateral::Collateral;
pub use event_log::{Event, EventLog};
pub use fixed_hex::{FixedHex, Hex16, Hex32, Hex48, HexBytes};
pub use launch::{LaunchConfiguration, LaunchDigest, Layer, Role, Shape, VmMode};
pub use layout1::{BootFiles, BootMeasurement, BootRegisters};
pub use policy::Policy;
pub use quote::TdxQuote;
pub use reference::{
    FileDigests, ImageFacts, ImageReference, Profile, ReferenceValues, Rtmr0Layout,
};
pub use verdict::{Outcome, Status, Verdict};

#[cfg(test)]
#[cfg(feature = "simulated-tee")]
mod tests;
