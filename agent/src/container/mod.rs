//! The role that runs one container and ends. Single-threaded, started by serve for each job, and
//! without keys: libcontainer forks by raw clone3, which deadlocks beside other threads.
//!
//! ```text
//! request -> knobs hold? -> work folder -> create (paused) -> read back -> start -> supervise
//!    '-------------- any failure: start_failed {stage} ------------'          |
//!                                      code | signal | oom | timeout | cancelled
//! ```
//!
//! The cgroup and the state folder are removed in every case.

mod cgroup;
mod executor;
mod first;
mod inherited;
pub(crate) mod launch;
pub(crate) mod protocol;
mod readback;
mod spec;
mod supervise;
mod work_folder;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, pipe2};

use self::cgroup::Cgroup;
use self::executor::SealedExecutor;
use self::inherited::Streams;
use self::protocol::{
    ContainerExit, ContainerReport, ContainerRequest, MAX_REQUEST_BYTES, StartStage,
};
use self::supervise::Supervisor;
use crate::device::{knobs, netif};
use crate::seccomp::Filters;

const STATE_FOLDER: &str = "/run/sealtune/containers";
const BUNDLE_FOLDER: &str = "/run/sealtune/bundles";
const MAX_DETAIL_BYTES: usize = 512;
const MAX_REFUSAL_BYTES: u64 = 256;

/// A start that failed, and how far it came.
#[derive(Debug)]
struct StartFailure {
    stage: StartStage,
    detail: String,
}

impl StartFailure {
    fn at(stage: StartStage) -> impl Fn(String) -> Self {
        move |mut detail| {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
            Self { stage, detail }
        }
    }
}

/// The exit code says only whether a report was written; the report says the rest.
pub(crate) fn run() -> ExitCode {
    // First, so that every later descriptor lies above.
    let streams = inherited::take_streams();
    let exit = match run_request(streams) {
        Ok(exit) => exit,
        Err(StartFailure { stage, detail }) => ContainerExit::StartFailed { stage, detail },
    };
    match report(&ContainerReport::Exit(exit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run_request(streams: Result<Streams, nix::errno::Errno>) -> Result<ContainerExit, StartFailure> {
    let streams =
        streams.map_err(|errno| StartFailure::at(StartStage::Descriptors)(errno.to_string()))?;
    // Blocked from here on: a cancel during the preparation is seen when it is waited for.
    let supervisor = Supervisor::listen()
        .map_err(|errno| StartFailure::at(StartStage::Descriptors)(errno.to_string()))?;
    let request = read_request().map_err(StartFailure::at(StartStage::Request))?;
    knobs::verify(Path::new("/proc/sys")).map_err(|error| {
        StartFailure::at(StartStage::Knobs)(format!("{} {error}", error.code()))
    })?;
    work_folder::hand_over(&request).map_err(StartFailure::at(StartStage::WorkFolder))?;

    let exit = run_container(&request, streams, &supervisor);
    clean_up(&request.id);
    exit
}

fn run_container(
    request: &ContainerRequest,
    streams: Streams,
    supervisor: &Supervisor,
) -> Result<ContainerExit, StartFailure> {
    raise_limits(request)
        .map_err(|errno| StartFailure::at(StartStage::Create)(errno.to_string()))?;
    let filters = Filters::for_container().map_err(StartFailure::at(StartStage::Seccomp))?;
    let (refusal, refusing) = pipe2(OFlag::O_CLOEXEC)
        .map_err(|errno| StartFailure::at(StartStage::Descriptors)(errno.to_string()))?;
    let (told, telling) = pipe2(OFlag::O_CLOEXEC)
        .map_err(|errno| StartFailure::at(StartStage::Descriptors)(errno.to_string()))?;
    let executor = SealedExecutor::new(filters, refusing, telling);
    let mut container = create(request, streams, executor)
        .map_err(|error| StartFailure::at(StartStage::Create)(with_sources(&*error)))?;
    let pid = container
        .pid()
        .ok_or_else(|| StartFailure::at(StartStage::Create)("no process".into()))?
        .as_raw();

    let cgroup = Cgroup::of(&request.id);
    let prepared = readback::verify(pid, request)
        .and_then(|()| cgroup.verify(&request.limits))
        .map_err(StartFailure::at(StartStage::Readback))
        .and_then(|()| loopback_up(pid).map_err(StartFailure::at(StartStage::Loopback)))
        .and_then(|()| {
            container
                .start()
                .map_err(|error| StartFailure::at(StartStage::Start)(with_sources(&error)))
        })
        .and_then(|()| started(refusal).map_err(StartFailure::at(StartStage::Program)));
    if let Err(failure) = prepared {
        // It must not run on, whatever it was that did not fit.
        let _ = cgroup.kill();
        supervise::reap(Pid::from_raw(pid));
        return Err(failure);
    }
    report(&ContainerReport::Started { pid })
        .map_err(|error| StartFailure::at(StartStage::Start)(error.to_string()))?;
    supervisor
        .run(Pid::from_raw(pid), &cgroup, &request.limits, told)
        .map_err(|errno| StartFailure::at(StartStage::Start)(errno.to_string()))
}

/// The container's hard limits may be above what the kernel gave process 1; once in its user
/// namespace it could only lower them.
fn raise_limits(request: &ContainerRequest) -> Result<(), nix::errno::Errno> {
    let pids = request.limits.processes();
    for (resource, needed) in
        [(Resource::RLIMIT_NOFILE, spec::OPEN_FILES), (Resource::RLIMIT_NPROC, pids)]
    {
        let (soft, hard) = getrlimit(resource)?;
        setrlimit(resource, soft, hard.max(needed))?;
    }
    Ok(())
}

fn create(
    request: &ContainerRequest,
    streams: Streams,
    executor: SealedExecutor,
) -> Result<Container, Box<dyn std::error::Error>> {
    let bundle = bundle_of(&request.id);
    std::fs::create_dir_all(&bundle)?;
    std::fs::create_dir_all(STATE_FOLDER)?;
    spec::build_spec(request)?.save(bundle.join("config.json"))?;
    let Streams { output, errors, events } = streams;
    let container = ContainerBuilder::new(request.id.clone(), SyscallType::default())
        .with_root_path(STATE_FOLDER)?
        .with_executor(executor)
        .with_stdin(File::open("/dev/null")?)
        .with_stdout(output)
        .with_stderr(errors)
        .with_preserved_fds(1)
        .validate_id()?
        .as_init(&bundle)
        .with_systemd(false)
        .build()?;
    // Only now: the container has its copy at the same number.
    drop(events);
    Ok(container)
}

/// Enters the container's network namespace and comes back; this process has one thread.
fn loopback_up(pid: i32) -> Result<(), String> {
    let own = File::open("/proc/self/ns/net").map_err(|error| error.to_string())?;
    let theirs = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| error.to_string())?;
    let enter = |namespace: &File| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| errno.to_string())
    };
    enter(&theirs)?;
    let done = netif::bring_up_loopback().map_err(|error| error.to_string());
    enter(&own)?;
    done
}

/// Waits until the program replaced the container's first process.
fn started(refusal: std::os::fd::OwnedFd) -> Result<(), String> {
    let mut reason = String::new();
    File::from(refusal)
        .take(MAX_REFUSAL_BYTES)
        .read_to_string(&mut reason)
        .map_err(|error| error.to_string())?;
    if reason.is_empty() { Ok(()) } else { Err(reason) }
}

/// One line; serve need not close the pipe.
fn read_request() -> Result<ContainerRequest, String> {
    let mut line = Vec::new();
    let input = std::io::stdin().lock();
    std::io::BufRead::read_until(
        &mut std::io::BufReader::new(input.take(MAX_REQUEST_BYTES as u64 + 1)),
        b'\n',
        &mut line,
    )
    .map_err(|error| error.to_string())?;
    ContainerRequest::parse(&line)
}

fn report(report: &ContainerReport) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

/// Kills and removes what a container left. For serve too, where a `run-container` process died
/// before it could; harmless where nothing is left.
pub(crate) fn clean_up(id: &str) {
    // The report matters more than a leftover: the next job has another id.
    let _ = Cgroup::of(id).remove();
    let _ = std::fs::remove_dir_all(Path::new(STATE_FOLDER).join(id));
    let _ = std::fs::remove_dir_all(bundle_of(id));
}

fn bundle_of(id: &str) -> PathBuf {
    Path::new(BUNDLE_FOLDER).join(id)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The signals that end a container early.
fn cancel_signals() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
}
