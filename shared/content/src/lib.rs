//! Content ids and everything that turns untrusted bytes into verified ones.
//!
//! Bytes enter under a [`ContentId`] (scheme, digest *and* length) and become
//! [`Verified`] only in the function that checked them. There is no I/O here beyond
//! the readers, writers and sinks that callers hand in.

#![forbid(unsafe_code)]

pub mod archive;
#[cfg(test)]
mod catalogue;
mod hash;
mod id;
mod keccak256;
pub mod merkle;
mod stream;
mod verified;

pub use hash::{ContentHasher, HashError, identify};
pub use id::{ContentId, IdError, Scheme, fuzz_content_id};
pub use merkle::{SegmentProof, SegmentRoots, ZgHasher, zg_root_parallel};
pub use stream::{Step, StreamError, StreamingVerifier, VerifyMode};
pub use verified::Verified;
