//! What serve and `run-container` say to each other: one request line on standard input, report
//! lines on standard output. The container's own streams are descriptors that serve hands over:
//! 3 is its standard output, 4 its standard error, 5 takes its typed events. Inside, the events
//! descriptor is 3 and `SEALTUNE_EVENTS_FD` says so.
//!
//! ```text
//! request --> [created and read back] --> started --> exit
//!                      '------------------------------> exit (start_failed)
//! ```
//!
//! SIGTERM to `run-container` cancels: the container is killed and the exit is `cancelled`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Where the work folder appears in the container; also its working directory.
pub(crate) const WORK_FOLDER: &str = "/app/mnt";
pub(crate) const EVENTS_VARIABLE: &str = "SEALTUNE_EVENTS_FD";
/// The events descriptor, as the container sees it.
pub(crate) const EVENTS_DESCRIPTOR: i32 = 3;

const MAX_ID_CHARACTERS: usize = 64;
const MAX_BINDS: usize = 64;
const MAX_DEVICES: usize = 64;
/// No other device has a place in a container.
const DEVICE_PREFIX: &str = "/dev/nvidia";
const MIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;
const MAX_WALL_SECONDS: u64 = 365 * 24 * 3600;
/// Below this, container ids would overlap the agent's own.
const MIN_UID_BASE: u32 = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerRequest {
    /// Names cgroup and state folder: lower-case letters, digits and dashes.
    pub(crate) id: String,
    /// Where the training layer is mounted; becomes the container's read-only root.
    pub(crate) rootfs: PathBuf,
    /// Becomes /app/mnt, writable; given to the container's user with all that lies in it.
    pub(crate) work_dir: PathBuf,
    /// Verified content that the container may read but not change.
    #[serde(default)]
    pub(crate) read_only: Vec<ReadOnlyBind>,
    /// Device nodes of GPUs that take work, under the same names inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    /// The container's user 0 outside; 65536 ids from there are its own.
    pub(crate) uid_base: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadOnlyBind {
    pub(crate) source: PathBuf,
    /// Below /app/mnt, or a folder that the layer has.
    pub(crate) target: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) pids: u32,
    pub(crate) cpus: u32,
    pub(crate) wall_seconds: u64,
    /// The largest file that the container may write; memory bounds the sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_bytes: Option<u64>,
}

impl Limits {
    /// What the kernel counts: the program's processes and the container's own first one.
    pub(crate) fn processes(&self) -> u64 {
        u64::from(self.pids) + 1
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ContainerReport {
    /// The sandbox was read back and the program runs.
    Started { pid: i32 },
    /// The last line.
    Exit(ContainerExit),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ContainerExit {
    Code(i32),
    Signal(i32),
    Oom,
    Timeout,
    Cancelled,
    /// `detail` may name files of the job: it is for the owner, the stage's code for everybody.
    StartFailed {
        stage: StartStage,
        detail: String,
    },
}

/// How far a start came. Codes 30 to 39 of the area AGENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartStage {
    Request,
    Descriptors,
    Knobs,
    WorkFolder,
    Seccomp,
    Create,
    Readback,
    Loopback,
    Start,
    Program,
}

impl StartStage {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Request,
        Self::Descriptors,
        Self::Knobs,
        Self::WorkFolder,
        Self::Seccomp,
        Self::Create,
        Self::Readback,
        Self::Loopback,
        Self::Start,
        Self::Program,
    ];

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Request => "ST-AGENT-30",
            Self::Descriptors => "ST-AGENT-31",
            Self::Knobs => "ST-AGENT-32",
            Self::WorkFolder => "ST-AGENT-33",
            Self::Seccomp => "ST-AGENT-34",
            Self::Create => "ST-AGENT-35",
            Self::Readback => "ST-AGENT-36",
            Self::Loopback => "ST-AGENT-37",
            Self::Start => "ST-AGENT-38",
            Self::Program => "ST-AGENT-39",
        }
    }

    pub(crate) fn fix(self) -> &'static str {
        match self {
            Self::Request => "correct the job's argv, environment or limits",
            Self::Descriptors => "report this as a bug",
            Self::Knobs => "use the kernel of the image's lock; see the knob that is named",
            Self::WorkFolder => "give the VM more memory",
            Self::Seccomp => "report this as a bug",
            Self::Create => "check that the training layer has /proc, /dev, /tmp and /app/mnt",
            Self::Readback => "report this as a bug: the sandbox was not what was asked for",
            Self::Loopback => "use the kernel of the image's lock",
            Self::Start => "report this as a bug",
            Self::Program => "check that the program exists in the training layer and may be run",
        }
    }
}

impl ContainerRequest {
    /// One JSON line; everything that a later step relies on is checked here.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err("the request is too large".into());
        }
        let request: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        request.check().map_err(str::to_owned)?;
        Ok(request)
    }

    fn check(&self) -> Result<(), &'static str> {
        let id_is_plain = self.id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if self.id.is_empty() || self.id.len() > MAX_ID_CHARACTERS || !id_is_plain {
            return Err("the id is not lower-case letters, digits and dashes");
        }
        let paths = self.read_only.iter().flat_map(|bind| [&bind.source, &bind.target]);
        if [&self.rootfs, &self.work_dir].into_iter().chain(paths).any(|path| !is_plain(path)) {
            return Err("a path is not absolute and plain");
        }
        if self.read_only.len() > MAX_BINDS {
            return Err("there are too many read-only folders");
        }
        let is_gpu = |path: &PathBuf| {
            let rest = path.to_str().and_then(|path| path.strip_prefix(DEVICE_PREFIX));
            rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        };
        if self.devices.len() > MAX_DEVICES || !self.devices.iter().all(is_gpu) {
            return Err("a device is not a GPU's");
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return Err("argv is empty");
        }
        let names_are_plain = self
            .environment
            .keys()
            .all(|name| !name.is_empty() && !name.contains('=') && name != EVENTS_VARIABLE);
        let texts = self.environment.iter().flat_map(|(name, value)| [name, value]);
        if !names_are_plain || self.argv.iter().chain(texts).any(|text| text.contains('\0')) {
            return Err("argv or environment is malformed");
        }
        if self.limits.memory_bytes < MIN_MEMORY_BYTES
            || self.limits.pids == 0
            || self.limits.cpus == 0
            || !(1..=MAX_WALL_SECONDS).contains(&self.limits.wall_seconds)
        {
            return Err("a limit is too small or too large");
        }
        if self.uid_base < MIN_UID_BASE || self.uid_base.checked_add(65_536).is_none() {
            return Err("the user ids overlap the agent's");
        }
        Ok(())
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Any request that parses survives its own serialization.
#[cfg_attr(not(test), expect(dead_code, reason = "called by tests: a program exports nothing"))]
pub(crate) fn fuzz_container_request(data: &[u8]) {
    if let Ok(request) = ContainerRequest::parse(data) {
        let again = serde_json::to_vec(&request).map(|bytes| ContainerRequest::parse(&bytes));
        assert!(matches!(again, Ok(Ok(again)) if again == request));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request() -> ContainerRequest {
        ContainerRequest {
            id: "job-1".into(),
            rootfs: "/run/sealtune/layers/training".into(),
            work_dir: "/scratch/job-1".into(),
            read_only: vec![ReadOnlyBind {
                source: "/run/sealtune/content/model".into(),
                target: "/app/mnt/model".into(),
            }],
            devices: vec![],
            argv: vec!["python3".into(), "/app/train.py".into()],
            environment: [("LANG".to_owned(), "C.UTF-8".to_owned())].into(),
            limits: Limits {
                memory_bytes: 256 * 1024 * 1024,
                pids: 64,
                cpus: 2,
                wall_seconds: 600,
                file_bytes: None,
            },
            uid_base: 100_000,
        }
    }

    #[test]
    fn a_good_request_survives() {
        let bytes = serde_json::to_vec(&request()).unwrap();
        assert_eq!(ContainerRequest::parse(&bytes).unwrap(), request());
        fuzz_container_request(&bytes);
    }

    #[test]
    fn bad_requests_are_refused() {
        let good = request();
        let bad = [
            ContainerRequest { id: "../x".into(), ..good.clone() },
            ContainerRequest { id: String::new(), ..good.clone() },
            ContainerRequest { rootfs: "relative".into(), ..good.clone() },
            ContainerRequest { work_dir: "/scratch/../etc".into(), ..good.clone() },
            ContainerRequest { argv: vec![], ..good.clone() },
            ContainerRequest { devices: vec!["/dev/kmsg".into()], ..good.clone() },
            ContainerRequest { devices: vec!["/dev/nvidia0/../kmsg".into()], ..good.clone() },
            ContainerRequest { devices: vec!["nvidia0".into()], ..good.clone() },
            ContainerRequest { devices: vec!["/dev/nvidia0".into(); 65], ..good.clone() },
            ContainerRequest { argv: vec!["a\0b".into()], ..good.clone() },
            ContainerRequest {
                environment: [("A=B".to_owned(), String::new())].into(),
                ..good.clone()
            },
            ContainerRequest {
                environment: [(EVENTS_VARIABLE.to_owned(), "9".to_owned())].into(),
                ..good.clone()
            },
            ContainerRequest { uid_base: 0, ..good.clone() },
            ContainerRequest { uid_base: u32::MAX - 1, ..good.clone() },
            ContainerRequest {
                limits: Limits { memory_bytes: 1, ..good.limits.clone() },
                ..good.clone()
            },
            ContainerRequest {
                limits: Limits { wall_seconds: 0, ..good.limits.clone() },
                ..good.clone()
            },
        ];
        for request in bad {
            let bytes = serde_json::to_vec(&request).unwrap();
            assert!(ContainerRequest::parse(&bytes).is_err(), "{request:?}");
        }
    }

    #[test]
    fn unknown_fields_and_sizes_are_refused() {
        let mut value = serde_json::to_value(request()).unwrap();
        value["privileged"] = true.into();
        assert!(ContainerRequest::parse(value.to_string().as_bytes()).is_err());
        assert!(ContainerRequest::parse(&vec![b' '; MAX_REQUEST_BYTES + 1]).is_err());
    }

    #[test]
    fn reports_read_as_documented() {
        let exit = |exit| serde_json::to_string(&ContainerReport::Exit(exit)).unwrap();
        assert_eq!(
            serde_json::to_string(&ContainerReport::Started { pid: 7 }).unwrap(),
            r#"{"started":{"pid":7}}"#
        );
        assert_eq!(exit(ContainerExit::Code(7)), r#"{"exit":{"code":7}}"#);
        assert_eq!(exit(ContainerExit::Signal(11)), r#"{"exit":{"signal":11}}"#);
        assert_eq!(exit(ContainerExit::Oom), r#"{"exit":"oom"}"#);
        assert_eq!(exit(ContainerExit::Timeout), r#"{"exit":"timeout"}"#);
        assert_eq!(exit(ContainerExit::Cancelled), r#"{"exit":"cancelled"}"#);
        let failed =
            ContainerExit::StartFailed { stage: StartStage::WorkFolder, detail: "x".into() };
        assert_eq!(
            exit(failed),
            r#"{"exit":{"start_failed":{"stage":"work_folder","detail":"x"}}}"#
        );
    }
}
