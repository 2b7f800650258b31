//! Running other programs. Their output goes to stderr: stdout is for the answer.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Outcome, Trouble};

/// Does a step and says how long it took.
pub(crate) fn step<T>(name: &str, body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    eprintln!("-- {name}");
    let start = Instant::now();
    let outcome = body();
    let word = if outcome.is_ok() { "done" } else { "FAILED" };
    eprintln!("-- {name}: {word} after {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

/// Runs to the end; its output is the user's to see.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Trouble::failed(format!("run `{}`: {status}", line(command))))
}

/// Runs to the end and gives what it wrote to stdout; stderr is the user's to see.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| cannot_start(command, &error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    eprint!("{text}");
    Err(Trouble::failed(format!("run `{}`: {}", line(command), output.status)))
}

/// Runs quietly; only whether it ended with 0 counts.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Gives `input` to a program and takes what it answers.
pub(crate) fn filter(command: &mut Command, input: &[u8]) -> Outcome<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    let text = line(command);
    let failed = |error: std::io::Error| Trouble::failed(format!("run `{text}`: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(Trouble::failed(format!("run `{text}`: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Trouble {
    Trouble::failed(format!("start `{}`: {error}", line(command)))
}

/// The command as one would type it, near enough.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}
