//! Processes that a daemon leaves running on purpose: found by their command lines, which name the story's own directory.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmProcess {
    pub(crate) pid: i32,
    program: String,
}

/// All that are not already ended and only waiting to be reaped.
pub(crate) fn of_directory(directory: &Path) -> Vec<VmProcess> {
    let directory = directory.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let program = line.split('\0').next().unwrap_or_default().to_owned();
        let is_vm = program.contains("qemu-system") || program.contains("vhost-device-vsock");
        if is_vm && line.contains(&directory) {
            found.push(VmProcess { pid, program });
        }
    }
    found
}

impl VmProcess {
    pub(crate) fn is_qemu(&self) -> bool {
        self.program.contains("qemu-system")
    }

    pub(crate) fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
