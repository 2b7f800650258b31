//! What a job is: its specification, its pure state machine, and the words for how it ends.
#![forbid(unsafe_code)]

mod exit;
mod failure;
mod hex_bytes;
mod id;
mod limits;
mod machine;
mod progress;
mod specification;
mod terms;

pub use exit::{ExitClass, TrainingExit};
pub use failure::FailReason;
pub use hex_bytes::{Hex, HexError};
pub use id::{JobId, JobIdError};
pub use limits::{LimitError, Limits};
pub use machine::{
    Denied, Effect, JobEvent, JobKind, JobPhase, JobState, MAX_ATTEMPTS, Standing, transition,
};
pub use progress::{MetricError, MetricEvent, coarse_percent};
pub use specification::{
    JobSpecification, MAX_SPECIFICATION, SpecificationError, fuzz_specification,
};
pub use terms::{
    DatasetInput, Disclosure, ImageReference, InputFormat, JobTerms, ModelInput, Recipient, Script,
    TERMS_VERSION, TermsError,
};
