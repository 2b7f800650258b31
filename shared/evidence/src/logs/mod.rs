//! Foreign event logs: what firmware and other systems' guests extended into the run-time registers.
//!
//! Two decoders ([`ccel`]: binary, from the ACPI table; [`dstack`]: JSON, from its guest agent) give one list of events, and
//! the rules that need no knowledge of the format ([`replay`]) judge that list. A log says nothing until it replays to the
//! quote; a payload says nothing until its digest was recomputed from it ([`payload`]).

pub mod ccel;
pub mod codes;
pub mod dstack;
mod error;
pub mod event;
pub mod identity;
pub mod payload;
pub mod replay;
mod runtime;

pub use ccel::{CcelLog, LogEnd};
pub use codes::Code;
pub use dstack::{DstackEvent, DstackLog};
pub use error::LogError;
pub use event::{EventType, LoggedEvent, Register};
pub use identity::{BootPhase, DstackIdentity, KeyProvider, KeyProviderKind, StorageFs};
pub use payload::Binding;
pub use runtime::{DigestVersion, RUNTIME_EVENT_TYPE};

#[cfg(test)]
pub(crate) mod tests;
