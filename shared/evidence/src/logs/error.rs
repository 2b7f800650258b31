//! What is wrong with a foreign event log, with the place where it is wrong.

use super::{codes::Code, event::EventType};
use crate::fixed_hex::Hex48;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("read the event log: {found} {what}, the limit is {limit}")]
    TooLong { what: &'static str, found: usize, limit: usize },
    #[error(
        "replay the event log: RTMR{register} comes out as {replayed}, the quote says {quoted}"
    )]
    Replay { register: usize, replayed: Hex48, quoted: Hex48 },
    #[error("accept event {index} (type {event_type}): its payload is not what its digest covers")]
    PayloadDigest { index: usize, event_type: EventType },
    #[error("read record {index}: expected exactly one digest, of SHA-384")]
    OtherBank { index: usize },
    #[error("read event {index}: it is never extended and carries a digest")]
    NoActionDigest { index: usize },
    #[error("read event {index}: there is no register {register}")]
    RegisterOutOfRange { index: usize, register: u32 },
    #[error("accept the identity: `{name}` (event {index}) comes after the boot marker")]
    LateIdentity { index: usize, name: &'static str },
    #[error("accept the identity: there is no `{name}` event")]
    MarkerMissing { name: &'static str },
    #[error("accept the identity: `{name}` (event {index}) occurs again")]
    Repeated { index: usize, name: &'static str },
    #[error(
        "accept event {index}: its name is empty, too long, or holds `:` or a control character"
    )]
    NameAmbiguous { index: usize },
    #[error("accept event {index}: digest version {version}")]
    DigestVersion { index: usize, version: u32 },
    #[error("accept event {index} (`{name}`): its digest is not that of its name and payload")]
    RuntimeDigest { index: usize, name: String },
    #[error("accept event {index} (`{name}`): its preimage is missing or another one")]
    Preimage { index: usize, name: String },
    #[error("read the event log: it ends inside record {index}")]
    Truncated { index: usize },
    #[error("read the event log: bytes follow its end at {offset}")]
    Trailing { offset: usize },
    #[error("accept the event log: RTMR{register} holds no separator")]
    SeparatorMissing { register: usize },
    #[error("read the event log's header: {0}")]
    HeaderMalformed(&'static str),
    #[error("read the JSON event log: {0}")]
    JsonUnreadable(String),
    #[error("accept event {index} (type {event_type}): {reason}")]
    EventForm { index: usize, event_type: EventType, reason: &'static str },
    #[error("accept the identity: `{name}` (event {index}) is out of order")]
    EventOrder { index: usize, name: &'static str },
    #[error("accept the identity: unknown event `{name}` (event {index}) before the boot marker")]
    EventUnknown { index: usize, name: String },
    #[error("accept the identity: there is no `{name}` event")]
    IdentityMissing { name: &'static str },
    #[error("accept the identity: `{name}` (event {index}): {reason}")]
    IdentityValue { index: usize, name: &'static str, reason: &'static str },
}

impl LogError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong { .. } => Code::TooLong,
            Self::Replay { .. } => Code::Replay,
            Self::PayloadDigest { .. } => Code::PayloadDigest,
            Self::OtherBank { .. } => Code::OtherBank,
            Self::NoActionDigest { .. } => Code::NoActionDigest,
            Self::RegisterOutOfRange { .. } => Code::RegisterOutOfRange,
            Self::LateIdentity { .. } => Code::LateIdentity,
            Self::MarkerMissing { .. } => Code::MarkerMissing,
            Self::Repeated { .. } => Code::Repeated,
            Self::NameAmbiguous { .. } => Code::NameAmbiguous,
            Self::DigestVersion { .. } => Code::DigestVersion,
            Self::RuntimeDigest { .. } => Code::RuntimeDigest,
            Self::Preimage { .. } => Code::Preimage,
            Self::Truncated { .. } => Code::Truncated,
            Self::Trailing { .. } => Code::Trailing,
            Self::SeparatorMissing { .. } => Code::SeparatorMissing,
            Self::HeaderMalformed(_) => Code::HeaderMalformed,
            Self::JsonUnreadable(_) => Code::JsonUnreadable,
            Self::EventForm { .. } => Code::EventForm,
            Self::EventOrder { .. } => Code::EventOrder,
            Self::EventUnknown { .. } => Code::EventUnknown,
            Self::IdentityMissing { .. } => Code::IdentityMissing,
            Self::IdentityValue { .. } => Code::IdentityValue,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}
