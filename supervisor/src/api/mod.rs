//! The HTTP API: on TCP for customers and verifiers (owner calls are signed), on a unix socket for the operator.

#[cfg(feature = "daemon")]
mod auth;
#[cfg(feature = "daemon")]
mod contents;
#[cfg(feature = "daemon")]
pub(crate) mod door;
#[cfg(feature = "daemon")]
mod error;
#[cfg(feature = "daemon")]
mod evidence;
#[cfg(feature = "daemon")]
mod jobs;
#[cfg(feature = "daemon")]
mod peers;
#[cfg(feature = "daemon")]
pub(crate) mod quotes;
#[cfg(feature = "daemon")]
mod results;
#[cfg(feature = "daemon")]
pub(crate) mod router;
#[cfg(feature = "daemon")]
pub(crate) mod shared;
pub(crate) mod types;
#[cfg(feature = "daemon")]
mod uploads;
#[cfg(feature = "daemon")]
mod vms;

#[cfg(test)]
#[cfg(feature = "daemon")]
mod tests;
