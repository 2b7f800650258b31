#![forbid(unsafe_code)]

#[cfg(feature = "fetch")]
mod fetch;

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Parser as _;
use sealtune_verify::{Arguments, Failure, Report, Surroundings, run};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    // A clock before 1970 is refused like every clock that is too early.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let memory = state_directory().map(|folder| folder.join("sealtune/collateral-memory.json"));
    #[cfg(feature = "fetch")]
    let client = fetch::Client::new();
    let surroundings = Surroundings {
        now,
        #[cfg(feature = "fetch")]
        http: Some(&client),
        #[cfg(not(feature = "fetch"))]
        http: None,
        memory: memory.as_ref(),
    };
    match run(&arguments, &surroundings) {
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

/// Help and version are answers; what is wrong is said as everything else is.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|word| word == "--json");
    if !(wants_json && error.use_stderr()) {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    let said = said.strip_prefix("error: ").unwrap_or(said).split_whitespace();
    let failure = Failure::Usage(said.collect::<Vec<_>>().join(" "));
    report(&failure, true);
    ExitCode::from(failure.exit_code())
}

/// Where programs keep what they must not forget (XDG base directories); relative paths do not count.
fn state_directory() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")))
}

fn report(failure: &Failure, json: bool) {
    let mut stderr = std::io::stderr();
    let _ = if json {
        writeln!(stderr, "{}", failure.to_json())
    } else {
        let message = failure.message();
        writeln!(stderr, "error: failed to {message} ({})\nfix: {}", failure.code(), failure.fix())
    };
}
