//! Cryptography that Sealtune's parts share: canonical bytes, secrets, HPKE, stream encryption, owner keys, commitments.
//!
//! Pure: no socket, no file, no clock. Randomness comes from the operating system's generator and nowhere else.
//! The formats are written down byte by byte in this folder's README.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod commitment;
mod encoding;
pub mod envelope;
#[cfg(test)]
mod error_codes;
pub mod frames;
pub mod hpke;
pub mod key_file;
pub mod owner;
pub mod owner_call;
pub mod release;
pub mod result_object;
mod secret;
pub mod stream;

pub use hpke::{RecipientKey, RecipientKeyPair, Suite};
pub use owner::{OwnerKey, OwnerPublic, SigningPublicKey};
pub use secret::Secret;
