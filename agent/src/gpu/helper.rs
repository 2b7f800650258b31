//! Runs the helper program: a process for each question, its input one line, its output bounded, its time limited. Whatever
//! it does, it is dead and waited for before the next one starts.
//!
//! ```text
//! idle -> asked -> answered and exited -> idle
//!           \-> too long, late, dropped -> killed -> idle, or stuck in the kernel: no question until it is gone
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sealtune_wire::patience;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::NamedGpu;
use super::confine::{Privilege, confine};
use super::protocol::{
    Answer, DeviceAnswer, MAX_ANSWER_BYTES, Malformed, Said, SwitchAnswer, request, switch_request,
};
use crate::seccomp::Filters;

const PROGRAM: &str = "usr/bin/sealtune-gpu-evidence";
/// The agent's root has no loader and no libraries: the layer's own are named.
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// For the program and the driver; the time that devices add is known to the supervisor too.
const TIME: Duration = patience::GPU_HELPER;
/// What was killed is gone at once, unless it waits for a device inside of the kernel.
const REAP_TIME: Duration = patience::GPU_HELPER_END;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("make the filter of the GPU helper's system calls: {0}")]
    Filters(String),
    #[error("start the GPU helper: {0}")]
    Start(std::io::Error),
    #[error("talk to the GPU helper: {0}")]
    Talk(std::io::Error),
    #[error("get the GPU helper's answer within {} seconds", .0.as_secs())]
    Late(Duration),
    #[error("read the GPU helper's answer: it is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("read the GPU helper's answer: {0}")]
    Malformed(&'static str),
    #[error("read version {0} of the GPU helper's answers, this agent knows version 1")]
    Version(u32),
    #[error("get an answer of the GPU helper: it ended with {0}")]
    Ended(ExitStatus),
    #[error("get what was asked of the GPU helper: {0}")]
    Refused(String),
    #[error("end the GPU helper that was asked before")]
    Stuck,
}

/// The program, how it is confined, and the process of it that runs, if one does.
#[derive(Debug)]
pub(crate) struct HelperProgram {
    program: PathBuf,
    arguments: Vec<OsString>,
    filters: Filters,
    time: Duration,
    running: Option<Child>,
}

impl HelperProgram {
    /// `layer` is where the layer with the driver's library is mounted.
    pub(super) fn in_layer(layer: &Path, filters: Filters) -> Self {
        let inside = |path: &str| layer.join(path).into_os_string();
        let arguments = vec!["--library-path".into(), inside(LIBRARIES), inside(PROGRAM)];
        Self { program: layer.join(LOADER), arguments, filters, time: TIME, running: None }
    }

    pub(super) async fn report(
        &mut self,
        challenge: &[u8; 32],
        gpus: &[NamedGpu],
    ) -> Result<Vec<DeviceAnswer>, HelperError> {
        let input = request(challenge, gpus);
        match self.ask("report", &input, gpus.len(), Privilege::None).await? {
            Said::Devices(devices) => Ok(devices),
            other => Err(no_answer(other)),
        }
    }

    /// A process of its own: the driver gives this to CAP_SYS_ADMIN alone, and the GPUs' evidence to anybody.
    pub(super) async fn switches(
        &mut self,
        challenge: &[u8; 32],
        switches: &[String],
    ) -> Result<Vec<SwitchAnswer>, HelperError> {
        let input = switch_request(challenge, switches);
        match self.ask("switches", &input, switches.len(), Privilege::Admin).await? {
            Said::Switches(switches) => Ok(switches),
            other => Err(no_answer(other)),
        }
    }

    pub(super) async fn ready(&mut self, gpus: usize) -> Result<(), HelperError> {
        match self.ask("ready", b"", gpus, Privilege::Admin).await? {
            Said::Ready => Ok(()),
            other => Err(no_answer(other)),
        }
    }

    async fn ask(
        &mut self,
        word: &str,
        input: &[u8],
        devices: usize,
        privilege: Privilege,
    ) -> Result<Said, HelperError> {
        end(&mut self.running).await?;
        let mut child = self.command(word, privilege).spawn().map_err(HelperError::Start)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let time = patience::with_devices(self.time, devices);
        // From here on the process is ended whatever becomes of this future.
        let turn = Turn { running: &mut self.running };
        let child = turn.running.insert(child);
        let answered = async {
            let (stdin, stdout) = pipes.ok_or(HelperError::Malformed("it has no pipes"))?;
            let line = talk(stdin, stdout, input).await?;
            let status = child.wait().await.map_err(HelperError::Talk)?;
            understand(&line, status)
        };
        let outcome = timeout(time, answered).await.unwrap_or(Err(HelperError::Late(time)));
        // That it is stuck shows when it is asked again.
        let _ = end(turn.running).await;
        outcome
    }

    fn command(&self, word: &str, privilege: Privilege) -> Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg(word)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        confine(&mut command, &self.filters, privilege);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// A shell in the program's place, and less time.
    #[cfg(test)]
    pub(super) fn script(text: &str, time: Duration) -> Self {
        Self {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), text.into(), "helper".into()],
            filters: Filters::for_gpu_helper().unwrap(),
            time,
            running: None,
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }
}

/// One question's process: killed when the question is over, answered or not.
struct Turn<'a> {
    running: &'a mut Option<Child>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.running {
            // It has ended if this fails.
            let _ = child.start_kill();
        }
    }
}

/// Kills what runs and waits for it; afterwards there is none.
async fn end(running: &mut Option<Child>) -> Result<(), HelperError> {
    if let Some(child) = running {
        let _ = child.start_kill();
        let waited = timeout(REAP_TIME, child.wait()).await;
        waited.map_err(|_| HelperError::Stuck)?.map_err(HelperError::Talk)?;
    }
    *running = None;
    Ok(())
}

/// Everything that it prints until it closes its output.
async fn talk(
    mut stdin: ChildStdin,
    stdout: ChildStdout,
    input: &[u8],
) -> Result<Vec<u8>, HelperError> {
    let write = async move {
        // Less than a pipe holds. One that does not read may say so in its answer.
        let _ = stdin.write_all(input).await;
    };
    let mut line = Vec::new();
    let mut bounded = stdout.take(MAX_ANSWER_BYTES as u64 + 1);
    let ((), read) = tokio::join!(write, bounded.read_to_end(&mut line));
    read.map_err(HelperError::Talk)?;
    if line.len() > MAX_ANSWER_BYTES { Err(HelperError::TooLong) } else { Ok(line) }
}

/// To the question that was asked.
fn no_answer(said: Said) -> HelperError {
    match said {
        Said::Refused(refusal) => HelperError::Refused(refusal.shown()),
        Said::Devices(_) | Said::Switches(_) | Said::Ready => {
            HelperError::Malformed("it answers another question")
        }
    }
}

/// An answer counts with the exit code that belongs to it.
fn understand(line: &[u8], status: ExitStatus) -> Result<Said, HelperError> {
    let said = match Answer::parse(line) {
        Ok(said) => said,
        Err(_) if !status.success() => return Err(HelperError::Ended(status)),
        Err(Malformed::Form(reason)) => return Err(HelperError::Malformed(reason)),
        Err(Malformed::Version(version)) => return Err(HelperError::Version(version)),
    };
    let is_complete = match &said {
        Said::Devices(devices) => devices.iter().all(|device| device.error.is_none()),
        Said::Switches(switches) => switches.iter().all(|switch| switch.error.is_none()),
        Said::Ready => true,
        Said::Refused(_) => false,
    };
    match (is_complete, status.code()) {
        (true, Some(0)) | (false, Some(1)) => Ok(said),
        _ => Err(HelperError::Ended(status)),
    }
}

impl HelperError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Filters(_) => "ST-AGPU-10",
            Self::Start(_) => "ST-AGPU-11",
            Self::Talk(_) => "ST-AGPU-12",
            Self::Late(_) => "ST-AGPU-13",
            Self::TooLong => "ST-AGPU-14",
            Self::Malformed(_) => "ST-AGPU-15",
            Self::Version(_) => "ST-AGPU-16",
            Self::Ended(_) => "ST-AGPU-17",
            Self::Refused(_) => "ST-AGPU-18",
            Self::Stuck => "ST-AGPU-19",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Filters(_) | Self::Talk(_) => "report this as a bug",
            Self::Start(_) => {
                "rebuild the nvidia layer with the helper, its loader and its libraries"
            }
            Self::Late(_) => "see the kernel log: a GPU or its driver does not answer",
            Self::TooLong | Self::Malformed(_) | Self::Version(_) => {
                "run agent and nvidia layer of the same release"
            }
            Self::Ended(_) => "see the kernel log; check the libraries of the nvidia layer",
            Self::Refused(_) => "see the code ST-GPUE that it names",
            Self::Stuck => "start another VM: a driver call does not return",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let error = || std::io::Error::other("x");
        vec![
            Self::Filters("x".into()),
            Self::Start(error()),
            Self::Talk(error()),
            Self::Late(TIME),
            Self::TooLong,
            Self::Malformed("x"),
            Self::Version(2),
            Self::Ended(ExitStatus::default()),
            Self::Refused("x".into()),
            Self::Stuck,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_own_loader_and_libraries_are_used() {
        let filters = Filters::for_gpu_helper().unwrap();
        let helper = HelperProgram::in_layer(Path::new("/l"), filters);
        assert_eq!(helper.program, Path::new("/l/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
        let expected =
            ["--library-path", "/l/usr/lib/x86_64-linux-gnu", "/l/usr/bin/sealtune-gpu-evidence"];
        assert_eq!(helper.arguments, expected.map(OsString::from));
    }
}
