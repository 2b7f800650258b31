//! For serve: starts the role for one archive, and puts what it made in its place.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::report::{MAX_LINE_BYTES, UnpackFailure, UnpackReport};
use super::{ROLE, USER};

/// One archive, and where its only folder shall stand.
#[derive(Debug)]
pub(crate) struct UnpackTask<'a> {
    pub(crate) archive: &'a Path,
    /// An empty folder is made here and removed again.
    pub(crate) workshop: PathBuf,
    pub(crate) target: PathBuf,
    /// The name of the folder at `target`.
    pub(crate) name: &'a str,
    /// What all files together may have.
    pub(crate) limit: u64,
}

/// `program` is this agent.
pub(crate) fn in_own_process(program: &Path, task: &UnpackTask<'_>) -> Result<(), UnpackFailure> {
    in_workshop(task, |archive| {
        lchown(&task.workshop, Some(USER), Some(USER)).map_err(role)?;
        let mut child = Command::new(program)
            .arg(ROLE)
            .arg(task.name)
            .arg(task.limit.to_string())
            .env_clear()
            .current_dir(&task.workshop)
            .stdin(Stdio::from(archive))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(role)?;
        let mut line = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(MAX_LINE_BYTES as u64 + 1).read_to_end(&mut line).map_err(role)?;
        }
        let ended = child.wait().map_err(role)?;
        match UnpackReport::parse(&line) {
            Some(report) => report.into_result(),
            None => Err(UnpackFailure::Role(format!("it ended without a report ({ended})"))),
        }
    })
}

/// The same without a process of its own, for tests of what is around it.
#[cfg(test)]
pub(crate) fn in_this_process(_: &Path, task: &UnpackTask<'_>) -> Result<(), UnpackFailure> {
    in_workshop(task, |archive| {
        let done = super::unpack(archive, &task.workshop, task.name, task.limit);
        UnpackReport::of(done).into_result()
    })
}

fn in_workshop(
    task: &UnpackTask<'_>,
    work: impl FnOnce(File) -> Result<(), UnpackFailure>,
) -> Result<(), UnpackFailure> {
    let archive = File::open(task.archive).map_err(role)?;
    fs::DirBuilder::new().mode(0o700).create(&task.workshop).map_err(role)?;
    let done = work(archive).and_then(|()| {
        // A folder of that name, and nothing that leads elsewhere.
        let made = task.workshop.join(task.name);
        let is_folder = fs::symlink_metadata(&made).is_ok_and(|status| status.is_dir());
        if is_folder { fs::rename(&made, &task.target).map_err(role) } else { Err(nothing()) }
    });
    // What is left of a failed try goes with it.
    let _ = fs::remove_dir_all(&task.workshop);
    done
}

fn role(error: std::io::Error) -> UnpackFailure {
    match error.kind() {
        std::io::ErrorKind::StorageFull => UnpackFailure::NoSpace,
        _ => UnpackFailure::Role(error.to_string()),
    }
}

fn nothing() -> UnpackFailure {
    UnpackFailure::Role("it made no folder".into())
}
