//! The verifier's program: judges evidence and receipts offline, with what its user brings.
//!
//! It opens files and nothing else. Nothing of the agent or the supervisor is in it.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod cli;
mod evidence;
mod explain;
mod failure;
mod input;
mod measure;
mod receipt;

use clap::CommandFactory as _;

pub use catalogue::all_codes;
pub use cli::{Arguments, Command};
pub use failure::Failure;

/// What the program prints and how it ends.
#[derive(Debug)]
pub struct Report {
    pub stdout: String,
    pub accepted: bool,
}

/// Carries out one command; `now` is the clock's time in seconds since 1970.
pub fn run(arguments: &Arguments, now: u64) -> Result<Report, Failure> {
    match &arguments.command {
        Command::Evidence(command) => evidence::run(command, arguments.json, now),
        Command::Receipt(command) => receipt::run(command, arguments.json, now),
        Command::Measure(command) => measure::run(command),
        Command::Explain(command) => explain::run(command, arguments.json),
        Command::Completions { shell } => Ok(completions(*shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> Report {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sealtune-verify", &mut bytes);
    Report { stdout: String::from_utf8_lossy(&bytes).into_owned(), accepted: true }
}
