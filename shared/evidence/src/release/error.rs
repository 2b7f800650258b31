//! Why a release is not to be believed.

use sealtune_seal::canonical::CanonicalError;

use super::codes::Code;
use crate::{fixed_hex::Hex32, reference::ReferenceError, time::Timestamp};

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("read the release manifest: {length} bytes")]
    TooLong { length: usize },
    #[error("read the release manifest: {0}")]
    Unreadable(#[source] serde_json::Error),
    #[error("read the release manifest: its payload is of another type")]
    PayloadType,
    #[error("read the release manifest: {0}")]
    Signatures(&'static str),
    #[error("check the release manifest: the signature of {holder} is not of this manifest")]
    SignatureInvalid { holder: String },
    #[error("check the release manifest: signed by {found} of {needed} holders")]
    Threshold { found: usize, needed: usize },
    #[error("read the release statement: {0}")]
    StatementUnreadable(#[source] CanonicalError),
    #[error("read the release statement: it is of another type or version")]
    StatementType,
    #[error("accept the release manifest: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
    #[error("accept the release manifest: {0}")]
    Reference(#[source] ReferenceError),
    #[error("use the release manifest before {0}")]
    NotYetValid(Timestamp),
    #[error("use the release manifest after {0}")]
    Expired(Timestamp),
    #[error("read the release keys: {0}")]
    KeysUnreadable(String),
    #[error("accept the release keys: {field}: {reason}")]
    KeysField { field: &'static str, reason: &'static str },
    #[error("use the reference values {0}: the manifest does not name them")]
    ReferenceOther(Hex32),
    #[error("use edition {edition} of release {release}: edition {seen} was seen")]
    RolledBack { release: String, edition: u32, seen: u32 },
    #[error("use release {release} (number {number}): the lowest to be used is number {minimum}")]
    BelowMinimum { release: String, number: u32, minimum: u32 },
    #[error("use release {release}: there are two manifests of its edition {edition}")]
    Equivocation { release: String, edition: u32 },
    #[error("use release {release}: {digest} was revoked: {reason}")]
    Revoked { release: String, digest: String, reason: String },
    #[error("read the memory of releases: {0}")]
    MemoryUnreadable(String),
    #[error("accept the memory of releases: {0}")]
    MemoryField(&'static str),
    #[error("merge the signatures: the statements differ")]
    MergeOther,
    #[error("sign the release manifest: key {0} has signed it")]
    SignedAlready(Hex32),
    #[error("merge the signatures: two differ under key {0}")]
    MergeConflict(String),
}

impl ReleaseError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong { .. } => Code::TooLong,
            Self::Unreadable(_) => Code::Unreadable,
            Self::PayloadType => Code::PayloadType,
            Self::Signatures(_) => Code::Signatures,
            Self::SignatureInvalid { .. } => Code::SignatureInvalid,
            Self::Threshold { .. } => Code::Threshold,
            Self::StatementUnreadable(_) => Code::StatementUnreadable,
            Self::StatementType => Code::StatementType,
            Self::Field { .. } | Self::Reference(_) => Code::Field,
            Self::NotYetValid(_) => Code::NotYetValid,
            Self::Expired(_) => Code::Expired,
            Self::KeysUnreadable(_) => Code::KeysUnreadable,
            Self::KeysField { .. } => Code::KeysField,
            Self::ReferenceOther(_) => Code::ReferenceOther,
            Self::RolledBack { .. } => Code::RolledBack,
            Self::BelowMinimum { .. } => Code::BelowMinimum,
            Self::Equivocation { .. } => Code::Equivocation,
            Self::Revoked { .. } => Code::Revoked,
            Self::MemoryUnreadable(_) => Code::MemoryUnreadable,
            Self::MemoryField(_) => Code::MemoryField,
            Self::MergeOther => Code::MergeOther,
            Self::SignedAlready(_) => Code::SignedAlready,
            Self::MergeConflict(_) => Code::MergeConflict,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}
