//! Receipts: what one attempt of one job did, signed by a key that attestation evidence vouches for.
//!
//! A receipt is an in-toto statement in a DSSE envelope. Its package carries the evidence of the VM from offer to end, so
//! that anybody can check the whole chain offline.
#![forbid(unsafe_code)]

mod chain;
pub mod codes;
pub mod envelope;
pub mod package;
pub mod statement;

pub use chain::{ReceiptVerdict, Request, verify_package};
pub use codes::Code;
pub use envelope::{Envelope, EnvelopeError, payload_digest};
pub use package::{PackageError, PackageEvidence, ReceiptPackage};
pub use statement::{
    AgentIdentity, Durations, ImageIdentity, Predicate, ReceiptOutcome, Statement, StatementError,
    StreamEnd, Streams,
};
