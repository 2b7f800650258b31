//! `sealtune-image release new-key`.

use std::path::PathBuf;

use clap::Args;
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use sealtune_evidence::release::{KeyPurpose, TrustedKey, key_id};
use sealtune_evidence::time::Timestamp;

use super::{key_file, parse_time};
use crate::error::ImageError;

const MAX_HOLDER: usize = 128;

#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// Whose key it is: signatures count by holder
    #[arg(long, value_name = "NAME")]
    holder: String,
    /// The new file for the private key
    #[arg(long, value_name = "KEY")]
    out: PathBuf,
    /// From then on its signatures count for nothing
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    not_after: Option<Timestamp>,
}

/// The public half, as key sets list it.
///
/// # Errors
/// The file is there already or cannot be written.
pub(super) fn new_key(order: &NewKeyArgs) -> Result<TrustedKey, ImageError> {
    let holder = order.holder.as_str();
    if holder.is_empty() || holder.len() > MAX_HOLDER || holder.chars().any(char::is_control) {
        return Err(ImageError::BadArgument {
            argument: "--holder".to_owned(),
            detail: "expected a short name".to_owned(),
        });
    }
    let der =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| ImageError::NoRandom)?;
    let key = Ed25519KeyPair::from_pkcs8(der.as_ref())
        .map_err(|error| ImageError::Encode { what: "the new key", detail: error.to_string() })?;
    let public_key = key_file::public(&key)?;
    key_file::write(&order.out, der.as_ref())?;
    Ok(TrustedKey {
        key_id: key_id(&public_key),
        public_key,
        holder: holder.to_owned(),
        purpose: KeyPurpose::Release,
        not_after: order.not_after,
    })
}
