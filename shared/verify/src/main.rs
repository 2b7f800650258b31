#![forbid(unsafe_code)]

use std::{
    io::Write as _,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser as _;
use sealtune_verify::{Arguments, Failure, Report, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A clock before 1970 is refused like every clock that is too early.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    match run(&arguments, now) {
        Ok(Report { stdout, accepted }) => {
            // A closed pipe is the reader's choice; the exit code still says the outcome.
            let _ = std::io::stdout().write_all(stdout.as_bytes());
            if accepted { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(failure) => {
            report(&failure, arguments.json);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn report(failure: &Failure, json: bool) {
    let mut stderr = std::io::stderr();
    let _ = if json {
        writeln!(stderr, "{}", failure.to_json())
    } else {
        writeln!(stderr, "error: failed to {failure} ({})\nfix: {}", failure.code(), failure.fix())
    };
}
