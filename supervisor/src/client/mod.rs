//! The customer's side: keys, job records, the provider's HTTP API, releases, results.

mod address;
mod calls;
mod clock;
pub(crate) mod collateral;
mod connection;
pub(crate) mod dataset;
#[cfg(test)]
pub(crate) mod doubles;
mod error;
mod exit;
mod failure;
pub(crate) mod fetch;
pub(crate) mod files;
pub(crate) mod follow;
mod frames;
mod http;
#[cfg(test)]
mod http_tests;
pub(crate) mod inquiry;
pub(crate) mod journey;
pub(crate) mod keys;
pub(crate) mod openings;
mod progress;
pub(crate) mod receipts;
pub(crate) mod records;
pub(crate) mod release;
pub(crate) mod submit;
pub(crate) mod trust;

pub(crate) use address::Address;
pub(crate) use clock::{now, shown as shown_time};
pub(crate) use connection::Connection;
#[cfg(all(test, feature = "simulated-tee"))]
pub(crate) use connection::{job_of, sha256};
pub(crate) use error::ClientError;
pub(crate) use exit::Exit;
pub(crate) use failure::CliError;
pub(crate) use frames::FrameReader;
pub(crate) use progress::{Progress, printable};
pub(crate) use records::{JobRecord, Records};

use sealtune_job::Hex;

pub(crate) fn random_nonce() -> Result<Hex<32>, ClientError> {
    random_bytes().map(Hex)
}

pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        ClientError::Setup(format!("the system gives no random bytes: {error}"))
    })?;
    Ok(bytes)
}
