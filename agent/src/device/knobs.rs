//! The kernel's run-time knobs that must be turned before untrusted code runs. A network namespace
//! hides neither AF_VSOCK nor io_uring, and a crash line on the console is a channel out; these
//! close them. Each knob is read back: a kernel that lacks one, or keeps another value, runs no
//! container.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAX_VALUE_BYTES: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A kernel without it runs no container.
    Required,
    /// Hardening that some kernels do not have.
    IfPresent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knob {
    /// As sysctl(8) writes it.
    pub(crate) name: &'static str,
    /// What is written; an empty value clears a string.
    pub(crate) value: &'static str,
    pub(crate) presence: Presence,
}

const fn required(name: &'static str, value: &'static str) -> Knob {
    Knob { name, value, presence: Presence::Required }
}

const fn if_present(name: &'static str, value: &'static str) -> Knob {
    Knob { name, value, presence: Presence::IfPresent }
}

/// In the order of writing: `modules_disabled` is last, since it cannot be taken back.
pub(crate) const REQUIRED_KNOBS: &[Knob] = &[
    required("net.vsock.child_ns_mode", "local"),
    required("kernel.io_uring_disabled", "2"),
    required("kernel.sysrq", "0"),
    required("debug.exception-trace", "0"),
    required("kernel.modprobe", ""),
    required("kernel.kexec_load_disabled", "1"),
    required("kernel.dmesg_restrict", "1"),
    required("kernel.kptr_restrict", "2"),
    required("kernel.core_pattern", ""),
    required("kernel.core_uses_pid", "0"),
    required("fs.suid_dumpable", "0"),
    required("kernel.perf_event_paranoid", "3"),
    required("kernel.unprivileged_bpf_disabled", "1"),
    if_present("kernel.yama.ptrace_scope", "3"),
    if_present("vm.unprivileged_userfaultfd", "0"),
    if_present("dev.tty.ldisc_autoload", "0"),
    if_present("dev.tty.legacy_tiocsti", "0"),
    if_present("net.core.bpf_jit_harden", "2"),
    required("kernel.modules_disabled", "1"),
];

impl Knob {
    /// Names hold no dot inside a component, so this is the whole translation.
    fn path(&self, proc_sys: &Path) -> PathBuf {
        proc_sys.join(self.name.replace('.', "/"))
    }

    fn accepts(&self, value: &str) -> bool {
        // Both values forbid it for good; Debian boots with 2, and 2 -> 1 is not offered.
        let stricter = self.name == "kernel.unprivileged_bpf_disabled" && value == "2";
        value == self.value || stricter
    }
}

/// Codes 20 to 29 of the area AGENT.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnobError {
    #[error("find the kernel knob {0}")]
    Missing(&'static str),
    #[error("write the kernel knob {name}: {cause}")]
    Write { name: &'static str, cause: String },
    #[error("read back the kernel knob {name}: wanted \"{wanted}\", is \"{is}\"")]
    Mismatch { name: &'static str, wanted: &'static str, is: String },
    #[error("read the kernel knob {name}: {cause}")]
    Read { name: &'static str, cause: String },
}

impl KnobError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ST-AGENT-20",
            Self::Write { .. } => "ST-AGENT-21",
            Self::Mismatch { .. } => "ST-AGENT-22",
            Self::Read { .. } => "ST-AGENT-23",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Missing(_) => "use a guest kernel that has this knob; vsock must be loaded first",
            Self::Write { .. } => "look for a kernel option that locks this knob",
            Self::Mismatch { .. } => "turn the knobs before the first job, and nothing after that",
            Self::Read { .. } => "check that /proc is mounted",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        vec![
            Self::Missing("x"),
            Self::Write { name: "x", cause: "x".into() },
            Self::Mismatch { name: "x", wanted: "x", is: "y".into() },
            Self::Read { name: "x", cause: "x".into() },
        ]
    }
}

/// A knob's name and the value that the kernel reports for it.
pub(crate) type KnobReading = (&'static str, String);

/// Turns every knob that is not yet right, reads all back. `proc_sys` is `/proc/sys` but in tests.
pub(crate) fn apply(proc_sys: &Path) -> Result<Vec<KnobReading>, KnobError> {
    for knob in REQUIRED_KNOBS {
        match read(knob, proc_sys)? {
            // A knob that is right is left alone: some may be written only once.
            Some(value) if knob.accepts(&value) => {}
            Some(_) => write(knob, proc_sys)?,
            None if knob.presence == Presence::IfPresent => {}
            None => return Err(KnobError::Missing(knob.name)),
        }
    }
    verify(proc_sys)
}

/// Reads every knob; an error names the first that is not as it must be.
pub(crate) fn verify(proc_sys: &Path) -> Result<Vec<KnobReading>, KnobError> {
    let mut readings = Vec::with_capacity(REQUIRED_KNOBS.len());
    for knob in REQUIRED_KNOBS {
        match read(knob, proc_sys)? {
            Some(value) if knob.accepts(&value) => readings.push((knob.name, value)),
            Some(is) => {
                return Err(KnobError::Mismatch { name: knob.name, wanted: knob.value, is });
            }
            None if knob.presence == Presence::IfPresent => {}
            None => return Err(KnobError::Missing(knob.name)),
        }
    }
    Ok(readings)
}

fn read(knob: &Knob, proc_sys: &Path) -> Result<Option<String>, KnobError> {
    let mut text = String::new();
    let result = fs::File::open(knob.path(proc_sys))
        .and_then(|file| file.take(MAX_VALUE_BYTES).read_to_string(&mut text));
    match result {
        Ok(_) => Ok(Some(text.trim_end_matches('\n').to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KnobError::Read { name: knob.name, cause: error.to_string() }),
    }
}

fn write(knob: &Knob, proc_sys: &Path) -> Result<(), KnobError> {
    // The newline lets an empty value through: a write of nothing would change nothing.
    fs::File::options()
        .write(true)
        .truncate(true)
        .open(knob.path(proc_sys))
        .and_then(|mut file| file.write_all(format!("{}\n", knob.value).as_bytes()))
        .map_err(|error| KnobError::Write { name: knob.name, cause: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(without: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for knob in REQUIRED_KNOBS.iter().filter(|knob| !without.contains(&knob.name)) {
            let path = knob.path(root.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "default\n").unwrap();
        }
        root
    }

    #[test]
    fn turns_and_reports_every_knob() {
        let root = tree(&[]);
        let readings = apply(root.path()).unwrap();
        assert_eq!(readings.len(), REQUIRED_KNOBS.len());
        assert!(readings.contains(&("net.vsock.child_ns_mode", "local".into())));
        assert!(readings.contains(&("kernel.modprobe", String::new())));
    }

    #[test]
    fn each_required_knob_is_missed_by_name() {
        for knob in REQUIRED_KNOBS {
            let root = tree(&[knob.name]);
            match (knob.presence, apply(root.path())) {
                (Presence::Required, Err(KnobError::Missing(name))) => assert_eq!(name, knob.name),
                (Presence::IfPresent, Ok(readings)) => {
                    assert_eq!(readings.len(), REQUIRED_KNOBS.len() - 1);
                }
                (_, other) => panic!("{}: {other:?}", knob.name),
            }
        }
    }

    #[test]
    fn each_knob_that_changes_back_is_named() {
        for knob in REQUIRED_KNOBS {
            let root = tree(&[]);
            apply(root.path()).unwrap();
            fs::write(knob.path(root.path()), "9\n").unwrap();
            let error = verify(root.path()).unwrap_err();
            assert!(
                matches!(&error, KnobError::Mismatch { name, .. } if *name == knob.name),
                "{error}"
            );
        }
    }

    #[test]
    fn a_stricter_value_that_cannot_be_changed_is_kept() {
        let root = tree(&[]);
        let path = root.path().join("kernel/unprivileged_bpf_disabled");
        fs::write(&path, "2\n").unwrap();
        apply(root.path()).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "2\n");
    }

    #[test]
    fn modules_are_closed_last() {
        assert_eq!(REQUIRED_KNOBS.last().unwrap().name, "kernel.modules_disabled");
    }
}
