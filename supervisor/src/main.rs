//! `sealtune`: the customer's and the operator's commands, and the daemon.
#![forbid(unsafe_code)]

mod api;
mod cli;
mod client;
#[cfg(feature = "daemon")]
mod content;
#[cfg(feature = "daemon")]
mod daemon;
#[cfg(feature = "daemon")]
mod store;
#[cfg(feature = "daemon")]
mod vm;

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

fn main() -> ExitCode {
    if let Err(error) = install_crypto() {
        // Only a program that installed another provider before can come here.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr().lock(),
            format_args!("error[ST-CLI-99]: {error:#}\n"),
        );
        return client::Exit::Bug.into();
    }
    cli::main()
}

/// ring for all TLS; reqwest panics when there is no provider.
fn install_crypto() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another TLS provider is installed"))
        .context("failed to start")
}
