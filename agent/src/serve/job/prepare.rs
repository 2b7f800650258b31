//! The work folder, laid out as 0G's training scripts expect it: `data`, `model`, `config.json` byte for byte,
//! `output_model/`, `progress.log`, and an inline script. Inputs come from a spool that no container sees.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statvfs::statvfs;
use ring::digest;
use sealtune_job::{InputFormat, JobTerms, Script};

use super::JobError;
use crate::serve::machine::Places;
use crate::unpack::{UnpackFailure, UnpackTask};

const MAX_SCRIPT_BYTES: u64 = 16 << 20;

/// The folders of one job.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    pub(crate) fn create(scratch: &Path, job: &str) -> Result<Self, JobError> {
        let folders = Self { root: scratch.join(job) };
        fs::create_dir(&folders.root)?;
        fs::create_dir(folders.work())?;
        fs::create_dir(folders.spool())?;
        Ok(folders)
    }

    /// Becomes /app/mnt.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.spool().join("model")
    }

    pub(crate) fn dataset(&self) -> PathBuf {
        self.spool().join("dataset")
    }

    /// Where an archive is unpacked before its folder stands in the work folder.
    fn workshop(&self) -> PathBuf {
        self.spool().join("unpacked")
    }

    pub(crate) fn result(&self) -> PathBuf {
        self.spool().join("result")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.work().join("output_model")
    }

    pub(crate) fn free_bytes(&self) -> Result<u64, JobError> {
        let space = statvfs(&self.root).map_err(|errno| JobError::WorkFolder(errno.into()))?;
        Ok(space.blocks_available().saturating_mul(space.fragment_size()))
    }

    /// Inputs are of no more use once the container has ended; the result needs their room.
    pub(crate) fn drop_inputs(&self) {
        for name in ["data", "model"] {
            remove(&self.work().join(name));
        }
    }

    /// Everything of the job but what has to be delivered still.
    pub(crate) fn drop_work(&self) {
        remove(&self.work());
    }

    pub(crate) fn drop_all(&self) {
        remove(&self.root);
    }
}

/// Links are removed, never followed. What cannot be removed goes with the VM.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Refuses before the first byte what cannot fit: both inputs, as they arrive.
pub(crate) fn check_space(folders: &Folders, terms: &JobTerms) -> Result<(), JobError> {
    let needed = terms.model.id.length().saturating_add(terms.dataset.id.length());
    let free = folders.free_bytes()?;
    if needed > free { Err(JobError::NoSpace { needed, free }) } else { Ok(()) }
}

/// Lays out the work folder from the spool. Gives the progress file, held open: a script that puts something else in its
/// place is not followed.
pub(crate) fn lay_out(
    folders: &Folders,
    terms: &JobTerms,
    places: &Places,
) -> Result<File, JobError> {
    place(folders, &folders.model(), "model", terms.model.format, places)?;
    place(folders, &folders.dataset(), "data", terms.dataset.format, places)?;
    fs::write(folders.work().join("config.json"), &terms.parameters)?;
    if let Script::Inline { name, text } = &terms.script {
        fs::write(folders.work().join(name), text)?;
    }
    fs::create_dir(folders.output())?;
    let progress = folders.work().join("progress.log");
    Ok(File::options().read(true).write(true).create_new(true).mode(0o644).open(progress)?)
}

fn place(
    folders: &Folders,
    spooled: &Path,
    name: &str,
    format: InputFormat,
    places: &Places,
) -> Result<(), JobError> {
    match format {
        InputFormat::File => fs::rename(spooled, folders.work().join(name))?,
        InputFormat::Archive => {
            let task = UnpackTask {
                archive: spooled,
                workshop: folders.workshop(),
                target: folders.work().join(name),
                name,
                limit: folders.free_bytes()?,
            };
            (places.unpack)(&places.runner, &task).map_err(|failure| no_space(failure, &task))?;
            fs::remove_file(spooled)?;
        }
    }
    Ok(())
}

fn no_space(failure: UnpackFailure, task: &UnpackTask<'_>) -> JobError {
    match failure {
        UnpackFailure::NoSpace => {
            JobError::NoSpace { needed: task.limit.saturating_add(1), free: task.limit }
        }
        other => JobError::Unpack(other),
    }
}

/// A script of the image must be the one that the owner pinned. Links inside the image stay inside it.
pub(crate) fn check_script(script: &Script, layer: &Path) -> Result<(), JobError> {
    let Script::Image { path, sha256 } = script else { return Ok(()) };
    let missing = |cause: String| JobError::ScriptMissing(cause);
    let layer = File::open(layer).map_err(|error| missing(error.to_string()))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = openat2(&layer, path.as_str(), how).map_err(|errno| missing(errno.to_string()))?;
    let file = File::from(file);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(missing("it is not a file".into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SCRIPT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| missing(error.to_string()))?;
    if bytes.len() as u64 > MAX_SCRIPT_BYTES {
        return Err(missing("it is longer than 16 MiB".into()));
    }
    if digest::digest(&digest::SHA256, &bytes).as_ref() == sha256.0 {
        Ok(())
    } else {
        Err(JobError::ScriptDigest)
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
