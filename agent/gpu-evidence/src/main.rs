//! `sealtune-gpu-evidence`: asks the NVIDIA driver of this machine for the attestation reports of its GPUs or of its
//! NVSwitches, and sets the GPUs ready for work. The agent starts it once a request, without keys; what it prints is hostile input to the agent.
//!
//! ```text
//! standard input: one request     standard output: one answer line     exit code: 0 all done, 1 refused, 2 wrong usage
//! ```

#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

mod answer;
mod bus;
mod codes;
mod collect;
mod evidence;
mod failure;
mod library;
mod nscq;
mod nvml;
mod observation;
mod request;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulated_switches;
mod switch_evidence;
mod switch_library;
mod switches;
mod transcript;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use answer::Answer;
use failure::Failure;
use nscq::Nscq;
use nvml::Driver;
use request::{MAX_REQUEST_BYTES, Request, SwitchRequest};

const HELP: &str = "\
Asks the NVIDIA driver for evidence of this machine's GPUs in confidential computing mode, and of its NVSwitches.

Usage: sealtune-gpu-evidence [report|switches|ready]

Commands:
  report    Read one request from standard input, print the evidence of every GPU in it (default)
  switches  The same for NVSwitches. Needs CAP_SYS_ADMIN
  ready     Let the GPUs take work; take all evidence first. Needs CAP_SYS_ADMIN

Options:
  -h, --help     Print this
  -V, --version  Print the version

Exit code: 0 done, 1 refused (the answer names a code ST-GPUE-nn), 2 wrong usage

Examples:
  echo '{\"version\":1,\"challenge\":\"'$(head -c32 /dev/urandom | xxd -p -c32)'\",\
\"devices\":[{\"bus\":\"0000:01:00.0\",\"name\":\"gpu0\"}]}' | sealtune-gpu-evidence
  sealtune-gpu-evidence ready
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Report,
    Switches,
    Ready,
    Help,
    Version,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match command(&words) {
        Some(Command::Report) => report().unwrap_or_else(|failure| Answer::refused(&failure)),
        Some(Command::Switches) => switches().unwrap_or_else(|failure| Answer::refused(&failure)),
        Some(Command::Ready) => ready().unwrap_or_else(|failure| Answer::refused(&failure)),
        Some(Command::Help) => return print(HELP.as_bytes(), ExitCode::SUCCESS),
        Some(Command::Version) => {
            let line = concat!("sealtune-gpu-evidence ", env!("CARGO_PKG_VERSION"), "\n");
            return print(line.as_bytes(), ExitCode::SUCCESS);
        }
        None => {
            eprintln!("usage: sealtune-gpu-evidence [report|switches|ready]; --help says more");
            return ExitCode::from(2);
        }
    };
    let (line, is_complete) = answer.to_line();
    print(&line, if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(words: &[&str]) -> Option<Command> {
    match words {
        [] | ["report"] => Some(Command::Report),
        ["switches"] => Some(Command::Switches),
        ["ready"] => Some(Command::Ready),
        ["-h" | "--help" | "help"] => Some(Command::Help),
        ["-V" | "--version"] => Some(Command::Version),
        _ => None,
    }
}

fn input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One more than allowed, so that a request that is too long is told apart.
    let most = MAX_REQUEST_BYTES as u64 + 1;
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::RequestUnreadable(error.to_string()))?;
    Ok(bytes)
}

/// Requests are read before the driver is touched.
fn report() -> Result<Answer, Failure> {
    let request = Request::parse(&input()?)?;
    collect::report(&Driver::load()?, &request)
}

/// A process of its own: the driver gives a switch's evidence to CAP_SYS_ADMIN alone, and that of GPUs to anybody.
fn switches() -> Result<Answer, Failure> {
    let request = SwitchRequest::parse(&input()?)?;
    switches::report(&Nscq::open()?, &request)
}

fn ready() -> Result<Answer, Failure> {
    collect::ready(&Driver::load()?)
}

/// An answer that nobody gets is none.
fn print(bytes: &[u8], code: ExitCode) -> ExitCode {
    let mut output = std::io::stdout().lock();
    let written = output.write_all(bytes).and_then(|()| output.flush());
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_commands_or_wrong_usage() {
        for (words, expected) in [
            (&[][..], Some(Command::Report)),
            (&["report"], Some(Command::Report)),
            (&["switches"], Some(Command::Switches)),
            (&["ready"], Some(Command::Ready)),
            (&["--help"], Some(Command::Help)),
            (&["-V"], Some(Command::Version)),
            (&["Report"], None),
            (&["ready", "now"], None),
            (&["switches", "ready"], None),
            (&[""], None),
        ] {
            assert_eq!(command(words), expected, "{words:?}");
        }
    }

    /// The example in the help text is a request that this program takes.
    #[test]
    fn the_example_of_the_help_text_is_a_request() {
        let line = HELP.lines().find(|line| line.contains("echo '")).unwrap();
        let (_, rest) = line.split_once("echo '").unwrap();
        let (json, _) = rest.split_once("' | ").unwrap();
        let challenge = "'$(head -c32 /dev/urandom | xxd -p -c32)'";
        assert!(json.contains(challenge));
        let request = json.replace(challenge, &"ab".repeat(32));
        assert!(Request::parse(request.as_bytes()).is_ok(), "{request}");
    }
}
