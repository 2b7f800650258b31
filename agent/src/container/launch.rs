//! For serve: the command that starts `run-container` with the container's three streams at the
//! numbers where that role expects them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::fcntl_dupfd_cloexec;

/// Output, errors, events.
const NUMBERS: [i32; 3] = [3, 4, 5];
const FIRST_FREE: i32 = 10;

/// The writing ends of three pipes. They stay open in this process until the command is dropped:
/// drop it after spawning, or the reading ends never see the end.
#[derive(Debug)]
pub(crate) struct ContainerStreams {
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
    pub(crate) events: OwnedFd,
}

/// `program` is this agent. Standard input takes one request line, standard output gives report lines.
pub(crate) fn run_container_command(
    program: &Path,
    streams: ContainerStreams,
) -> std::io::Result<Command> {
    let ContainerStreams { output, errors, events } = streams;
    // Above the three numbers, so that no move overwrites what is still to be moved.
    let mut above = Vec::with_capacity(NUMBERS.len());
    for stream in [output, errors, events] {
        above.push(fcntl_dupfd_cloexec(&stream, FIRST_FREE)?);
    }
    let mut command = Command::new(program);
    command
        .arg("run-container")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    move_in_child(&mut command, above);
    Ok(command)
}

#[expect(unsafe_code, reason = "only the child may move descriptors to these numbers")]
fn move_in_child(command: &mut Command, above: Vec<OwnedFd>) {
    let moves = move || {
        for (stream, number) in above.iter().zip(NUMBERS) {
            // SAFETY: dup2 takes two integers; the source is open, the target is replaced in the
            // child only, where nothing else uses it. The copy is without close-on-exec.
            if unsafe { libc::dup2(stream.as_raw_fd(), number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only iterates over memory that it owns and calls
    // dup2, which is async-signal-safe; it neither allocates nor locks.
    unsafe { command.pre_exec(moves) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn streams_arrive_at_their_numbers() {
        let (mut out, output) = std::io::pipe().unwrap();
        let (mut err, errors) = std::io::pipe().unwrap();
        let (mut ev, events) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out >&3; echo err >&4; echo ev >&5"]);
        move_in_child(&mut command, vec![output.into(), errors.into(), events.into()]);
        assert!(command.status().unwrap().success());
        drop(command);
        let mut text = String::new();
        for reader in [&mut out, &mut err, &mut ev] {
            reader.read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, "out\nerr\nev\n");
    }
}
