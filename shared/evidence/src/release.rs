//! Signed release manifests: which images a release consists of, what they measure, how long they are good for, and what
//! was revoked.
//!
//! An in-toto Statement v1 in a DSSE envelope, signed by keys of at least two holders out of a configured set. The customer
//! keeps manifest and key set on his own disk; nothing that a provider sends counts as a release.

mod codes;
mod error;
mod keys;
mod manifest;
mod memory;
mod sign;
mod statement;
mod verified;

pub use codes::Code;
pub use error::ReleaseError;
pub use keys::{KeyPurpose, TrustedKey, TrustedKeys, fuzz_trusted_keys, key_id};
pub use manifest::{Manifest, Reference, ReleaseImage, Revocation, RevokedDigest};
pub use memory::{Edition, ReleaseMemory, fuzz_release_memory};
pub use sign::{cosign, merge, sign};
pub use verified::{MAX_MANIFEST_BYTES, VerifiedManifest, fuzz_manifest};

#[cfg(test)]
mod tests;
