//! Training: one `run-container` process, its reports, and the three pipes of the container behind it.
//!
//! The pipes are read whatever the supervisor does: a host that is slow or gone stops the frames, never the training.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use sealtune_job::TrainingExit;
use sealtune_wire::v1::LogStream;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::owner::OwnerChannel;
use super::progress::{PACE, Progress};
use super::{Context, JobError};
use crate::container::launch::{ContainerStreams, run_container_command};
use crate::container::protocol::{ContainerExit, ContainerReport, ContainerRequest};

const READ_BYTES: usize = 16 * 1024;
/// Of progress.log, at one beat.
const TAIL_BYTES: usize = 64 * 1024;
const MAX_REPORT_BYTES: u64 = 64 * 1024;
/// `run-container` keeps the time itself; this is for one that does not.
const GRACE: Duration = Duration::from_secs(60);
/// What is left in the pipes once everything that wrote to them is dead.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the container to its end. An error is ours; how the script ended is not an error.
pub(crate) async fn run(
    context: &Context,
    request: &ContainerRequest,
    progress: &mut Progress,
    mut owner: Option<&mut OwnerChannel>,
    progress_file: &File,
) -> Result<TrainingExit, JobError> {
    let mut running = Running::start(&context.places.runner, request).await?;
    let deadline = Instant::now() + Duration::from_secs(request.limits.wall_seconds) + GRACE;
    let mut beats = interval_at(Instant::now() + PACE, PACE);
    // A late beat moves the next ones: two frames never follow each other quicker than the pace.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tail = Tail { file: progress_file, offset: 0 };
    let mut cancel = context.cancel.clone();
    let mut is_cancelled = false;
    let exit = loop {
        tokio::select! {
            report = running.reports.next() => match report? {
                ContainerReport::Started { .. } => {}
                ContainerReport::Exit(exit) => break exit,
            },
            bytes = running.output.next() => progress.log(LogStream::Stdout, &bytes),
            bytes = running.errors.next() => progress.log(LogStream::Stderr, &bytes),
            bytes = running.events.next() => progress.events(&bytes),
            _ = beats.tick() => {
                tail.read(progress);
                // A full outbox skips the beat; what was to be said waits for the next.
                if context.outbox.has_room() {
                    for event in progress.beat(std::time::Instant::now(), owner.as_deref_mut())? {
                        context.event(event)?;
                    }
                }
            }
            changed = cancel.changed(), if !is_cancelled => {
                is_cancelled = true;
                if changed.is_ok() {
                    running.ask_to_stop();
                }
            }
            () = sleep_until(deadline) => {
                return Err(JobError::Runner("it did not end in time".into()));
            }
        }
    };
    running.drain(progress).await;
    tail.read(progress);
    match exit {
        ContainerExit::Code(code) => Ok(TrainingExit::Code(code)),
        ContainerExit::Signal(signal) => Ok(TrainingExit::Signal(signal)),
        ContainerExit::Oom => Ok(TrainingExit::OutOfMemory),
        ContainerExit::Timeout => Ok(TrainingExit::Timeout),
        ContainerExit::Cancelled => Ok(TrainingExit::Cancelled),
        ContainerExit::StartFailed { stage, detail } => Err(JobError::Start { stage, detail }),
    }
}

struct Running {
    child: Child,
    reports: Reports,
    output: Source,
    errors: Source,
    events: Source,
}

impl Running {
    async fn start(runner: &Path, request: &ContainerRequest) -> Result<Self, JobError> {
        let failed = |error: std::io::Error| JobError::Runner(error.to_string());
        let (output, output_end) = stream()?;
        let (errors, errors_end) = stream()?;
        let (events, events_end) = stream()?;
        let streams =
            ContainerStreams { output: output_end, errors: errors_end, events: events_end };
        let mut command = Command::from(run_container_command(runner, streams).map_err(failed)?);
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        // The writing ends go with it: only the child's copies are left.
        drop(command);
        let mut line =
            serde_json::to_vec(request).map_err(|error| JobError::Runner(error.to_string()))?;
        line.push(b'\n');
        let missing = || JobError::Runner("it has no standard streams".into());
        let mut input = child.stdin.take().ok_or_else(missing)?;
        input.write_all(&line).await.map_err(failed)?;
        drop(input);
        let output_of_role = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let reports = Reports { output: output_of_role, line: Vec::new() };
        Ok(Self { child, reports, output, errors, events })
    }

    /// `run-container` kills the container and reports that it was cancelled.
    fn ask_to_stop(&self) {
        if let Some(pid) = self.child.id() {
            // Fails where it has ended already.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
    }

    async fn drain(&mut self, progress: &mut Progress) {
        let all = async {
            // Until it is gone it holds the pipes open.
            let _ = self.child.wait().await;
            for (source, stream) in [
                (&mut self.output, Some(LogStream::Stdout)),
                (&mut self.errors, Some(LogStream::Stderr)),
                (&mut self.events, None),
            ] {
                while !source.is_closed {
                    let bytes = source.read().await;
                    match stream {
                        Some(stream) => progress.log(stream, &bytes),
                        None => progress.events(&bytes),
                    }
                }
            }
        };
        let _ = timeout(DRAIN, all).await;
    }
}

/// The report lines of `run-container`. Its end without an exit report is an error.
struct Reports {
    output: BufReader<ChildStdout>,
    /// What has arrived of a line: a wait that is given up must not lose it.
    line: Vec<u8>,
}

impl Reports {
    async fn next(&mut self) -> Result<ContainerReport, JobError> {
        let room = MAX_REPORT_BYTES.saturating_sub(self.line.len() as u64);
        match (&mut self.output).take(room).read_until(b'\n', &mut self.line).await {
            Ok(1..) => serde_json::from_slice(&std::mem::take(&mut self.line))
                .map_err(|_| JobError::Runner("it reports nonsense".into())),
            Ok(0) => Err(JobError::Runner("it ended without a report".into())),
            Err(error) => Err(JobError::Runner(error.to_string())),
        }
    }
}

/// The reading end of one of the container's pipes.
struct Source {
    pipe: pipe::Receiver,
    is_closed: bool,
}

impl Source {
    /// The next bytes; never comes back once the pipe is closed.
    async fn next(&mut self) -> Vec<u8> {
        if !self.is_closed {
            let bytes = self.read().await;
            if !bytes.is_empty() {
                return bytes;
            }
        }
        std::future::pending().await
    }

    async fn read(&mut self) -> Vec<u8> {
        let bytes = read_some(&mut self.pipe).await;
        self.is_closed = bytes.is_empty();
        bytes
    }
}

async fn read_some(reader: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut buffer = vec![0; READ_BYTES];
    let count = reader.read(&mut buffer).await.unwrap_or(0);
    buffer.truncate(count);
    buffer
}

/// Follows progress.log through the descriptor that was opened before the script could touch it.
struct Tail<'f> {
    file: &'f File,
    offset: u64,
}

impl Tail<'_> {
    fn read(&mut self, progress: &mut Progress) {
        let mut buffer = vec![0; TAIL_BYTES];
        let count = self.file.read_at(&mut buffer, self.offset).unwrap_or(0);
        self.offset += count as u64;
        progress.log(LogStream::Progress, &buffer[..count]);
    }
}

/// Reading end here, writing end for the child.
fn stream() -> Result<(Source, OwnedFd), JobError> {
    let failed = |cause: String| JobError::Runner(cause);
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.to_string()))?;
    fcntl(&reading, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| failed(errno.to_string()))?;
    let pipe = pipe::Receiver::from_owned_fd(reading).map_err(|error| failed(error.to_string()))?;
    Ok((Source { pipe, is_closed: false }, writing))
}
