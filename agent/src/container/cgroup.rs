//! The container's cgroup: settings made by a pure function, read back from the kernel, killed as
//! a whole, and asked whether memory ran out.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::Limits;

const ROOT: &str = "/sys/fs/cgroup";
const CPU_PERIOD_MICROSECONDS: u64 = 100_000;
const MAX_FILE_BYTES: u64 = 64 * 1024;
const PAGE_BYTES: u64 = 4096;
/// Killed processes leave the cgroup a moment after they were waited for.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// As the OCI specification names it.
pub(crate) fn path_of(id: &str) -> PathBuf {
    Path::new("/sealtune").join(id)
}

/// File and value, as the kernel reports it afterwards.
pub(crate) fn settings(limits: &Limits) -> Vec<(String, String)> {
    let whole_pages = limits.memory_bytes / PAGE_BYTES * PAGE_BYTES;
    let cpu_quota = u64::from(limits.cpus) * CPU_PERIOD_MICROSECONDS;
    [
        ("memory.max", whole_pages.to_string()),
        ("memory.swap.max", "0".into()),
        ("memory.oom.group", "1".into()),
        ("pids.max", limits.processes().to_string()),
        ("cpu.max", format!("{cpu_quota} {CPU_PERIOD_MICROSECONDS}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    pub(crate) fn of(id: &str) -> Self {
        let path = path_of(id);
        Self { folder: Path::new(ROOT).join(path.strip_prefix("/").unwrap_or(&path)) }
    }

    /// Names the first setting that is not as asked.
    pub(crate) fn verify(&self, limits: &Limits) -> Result<(), String> {
        for (name, wanted) in settings(limits) {
            let is = self.read(&name)?;
            if is.trim_end() != wanted {
                return Err(format!("{name} is {} and not {wanted}", is.trim_end()));
            }
        }
        Ok(())
    }

    /// How many times the kernel killed for memory. An unreadable count is none: the exit is then
    /// told as a signal.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.read("memory.events").map_or(0, |events| event(&events, "oom_kill").unwrap_or(0))
    }

    pub(crate) fn kill(&self) -> Result<(), String> {
        fs::write(self.folder.join("cgroup.kill"), "1").map_err(|error| error.to_string())
    }

    /// Kills what is left, waits until the cgroup is empty, and removes it.
    pub(crate) fn remove(&self) -> Result<(), String> {
        if !self.folder.exists() {
            return Ok(());
        }
        self.kill()?;
        let deadline = Instant::now() + EMPTY_WITHIN;
        let path = self.folder.join("cgroup.events");
        loop {
            // Opened before it is read: a change after the reading wakes the poll.
            let mut events = File::open(&path).map_err(|error| error.to_string())?;
            let mut text = String::new();
            (&mut events)
                .take(MAX_FILE_BYTES)
                .read_to_string(&mut text)
                .map_err(|e| e.to_string())?;
            if event(&text, "populated") == Some(0) {
                return fs::remove_dir(&self.folder).map_err(|error| error.to_string());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("processes are left".into());
            }
            let mut polled = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut polled, timeout).map_err(|errno| errno.to_string())?;
        }
    }

    fn read(&self, name: &str) -> Result<String, String> {
        let mut text = String::new();
        File::open(self.folder.join(name))
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(text)
    }
}

/// A value of a flat keyed file.
fn event(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_in_the_kernels_form() {
        let limits = Limits {
            memory_bytes: 64 * 1024 * 1024 + 1,
            pids: 12,
            cpus: 2,
            wall_seconds: 1,
            file_bytes: None,
        };
        let settings = settings(&limits);
        assert!(settings.contains(&("memory.max".into(), "67108864".into())));
        assert!(settings.contains(&("cpu.max".into(), "200000 100000".into())));
    }

    #[test]
    fn events_are_found_by_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(event(text, "oom_kill"), Some(2));
        assert_eq!(event(text, "oom"), Some(3));
        assert_eq!(event(text, "kill"), None);
    }

    #[test]
    fn a_setting_that_differs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup { folder: folder.path().to_path_buf() };
        let limits = crate::container::protocol::tests::request().limits;
        for (name, value) in settings(&limits) {
            fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
        }
        cgroup.verify(&limits).unwrap();
        fs::write(folder.path().join("memory.swap.max"), "max\n").unwrap();
        assert!(cgroup.verify(&limits).unwrap_err().starts_with("memory.swap.max is max"));
    }
}
