//! The verifier's program: judges evidence and receipts offline, with what its user brings.
//!
//! The library opens files and nothing else; connections are made by whoever gives it a [`Http`]. Nothing of the agent or
//! the supervisor is in it.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod cli;
mod dstack;
mod evidence;
mod explain;
mod failure;
mod image;
mod input;
mod judge;
mod measure;
mod memory_file;
mod online;
mod receipt;
mod record;
mod releases;
pub mod terminal;

use std::path::PathBuf;

use clap::CommandFactory as _;

pub use catalogue::all_codes;
pub use cli::{Arguments, Command};
pub use failure::Failure;
pub use input::{policy, root_certificate};
pub use judge::Part;
pub use memory_file::remember;
pub use online::{Http, HttpError};
pub use releases::{ReleaseFiles, Releases, Trust};

/// What a run depends on besides its command line.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The clock, in seconds since 1970.
    pub now: u64,
    /// Makes connections; a program without it judges with files only.
    pub http: Option<&'a dyn Http>,
    /// Where collateral is remembered unless the command line says otherwise; what manifests said is kept beside it.
    pub memory: Option<&'a PathBuf>,
}

impl Surroundings<'_> {
    /// No network and no memory.
    pub fn offline(now: u64) -> Self {
        Self { now, http: None, memory: None }
    }
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let http = self.http.is_some();
        f.debug_struct("Surroundings")
            .field("now", &self.now)
            .field("http", &http)
            .field("memory", &self.memory)
            .finish()
    }
}

/// What the program prints and how it ends.
#[derive(Debug)]
pub struct Report {
    pub stdout: String,
    pub accepted: bool,
}

/// Carries out one command.
pub fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<Report, Failure> {
    let json = arguments.json;
    let shown = |report: Report| match json {
        true => Report { stdout: terminal::json(&report.stdout), ..report },
        false => report,
    };
    match &arguments.command {
        Command::Evidence(command) => evidence::run(command, json, surroundings).map(shown),
        Command::Dstack(command) => dstack::run(command, json, surroundings).map(shown),
        Command::Receipt(command) => receipt::run(command, json, surroundings).map(shown),
        Command::Measure(command) => measure::run(command),
        Command::Record(command) => record::run(command, json, surroundings),
        Command::Explain(command) => explain::run(command, json),
        Command::Completions { shell } => Ok(completions(*shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> Report {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sealtune-verify", &mut bytes);
    Report { stdout: String::from_utf8_lossy(&bytes).into_owned(), accepted: true }
}
