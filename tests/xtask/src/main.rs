//! `cargo xtask …`: what a developer runs. Everything it makes is under the target directory.
#![forbid(unsafe_code)]

mod areas;
mod artefacts;
mod baseline;
mod check;
mod demo;
mod licences;
mod process;
mod programs;
mod setup;
mod soak;
mod stories;
mod suites;
mod summary;
mod texts;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
cargo xtask test [--area NAME]... [--no-vm] [--json]   every check: check, unit, python, image, stories
cargo xtask demo [--json]                              one real job, from an empty machine to a verified receipt
cargo xtask check                                      formatting, lints, builds of parts, licences
cargo xtask build                                      all programs and the dev image
cargo xtask soak [SECONDS]                             fuzz targets and long tests, SECONDS each (default 60)

It installs what is missing (Debian packages by apt, the musl target by rustup, vhost-device-vsock by cargo) and says so.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(Trouble::Usage(message)) => {
            eprintln!("{message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Trouble::Failed(message)) => {
            eprintln!("xtask: failed to {message}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command of xtask ended early. The text goes on after "failed to".
#[derive(Debug)]
pub(crate) enum Trouble {
    Usage(String),
    Failed(String),
}

impl Trouble {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Usage(text) | Self::Failed(text) => text,
        }
    }
}

pub(crate) type Outcome<T> = Result<T, Trouble>;

fn run(arguments: &[String]) -> Outcome<ExitCode> {
    let mut words = arguments.iter().map(String::as_str);
    let command = words.next().unwrap_or("--help");
    let rest: Vec<&str> = words.collect();
    match command {
        "test" => areas::test(&Workspace::find()?, &areas::Wanted::parse(&rest)?),
        "demo" => demo::run(&Workspace::find()?, only_json(&rest)?).map(|()| ExitCode::SUCCESS),
        "check" => {
            nothing_more(&rest)?;
            areas::test(&Workspace::find()?, &areas::Wanted::parse(&["--area", "check"])?)
        }
        "build" => {
            nothing_more(&rest)?;
            artefacts::build_all(&Workspace::find()?).map(|()| ExitCode::SUCCESS)
        }
        "soak" => soak::run(&Workspace::find()?, &rest).map(|()| ExitCode::SUCCESS),
        "--help" | "-h" | "help" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Trouble::Usage(format!("there is no `cargo xtask {other}`"))),
    }
}

fn only_json(rest: &[&str]) -> Outcome<bool> {
    match rest {
        [] => Ok(false),
        ["--json"] => Ok(true),
        _ => Err(Trouble::Usage(format!("what does {rest:?} mean?"))),
    }
}

fn nothing_more(rest: &[&str]) -> Outcome<()> {
    if rest.is_empty() { Ok(()) } else { Err(Trouble::Usage(format!("what does {rest:?} mean?"))) }
}
