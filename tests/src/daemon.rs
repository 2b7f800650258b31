//! A provider's daemon with a state directory of its own.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    SmallDisk, Stage,
    command::{Answer, tell},
    patience::{BOOT, SOON, until},
    processes::{self, VmProcess},
};

/// How a daemon differs from the usual one.
#[derive(Debug, Clone)]
pub struct Options {
    pub max_vms: u32,
    pub release_deadline: u32,
    /// Other training layers than the stage's.
    pub layers: Option<PathBuf>,
    /// More words for `sealtune serve`.
    pub more: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_vms: 1, release_deadline: 600, layers: None, more: Vec::new() }
    }
}

#[derive(Debug)]
pub struct Daemon {
    stage: Stage,
    options: Options,
    /// Where its state is on a disk of its own. Unmounted before the folder is removed.
    disk: Option<SmallDisk>,
    folder: TempDir,
    /// Where it listens: any port at first, then always the same.
    listen: String,
    process: Option<Child>,
}

impl Daemon {
    /// A running daemon, with nothing in it.
    #[track_caller]
    pub fn start(stage: &Stage, options: Options) -> Self {
        let mut daemon = Self::new(stage, options);
        daemon.start_again();
        daemon
    }

    /// With its state on a disk of so many MiB; or why there can be none.
    #[track_caller]
    pub fn start_on_small_disk(stage: &Stage, options: Options, mib: u32) -> Result<Self, String> {
        let mut daemon = Self::new(stage, options);
        daemon.disk = Some(SmallDisk::mount(daemon.state(), mib)?);
        daemon.start_again();
        Ok(daemon)
    }

    fn new(stage: &Stage, options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("story-").tempdir().expect("a folder");
        let (stage, listen) = (stage.clone(), "127.0.0.1:0".to_owned());
        Self { stage, options, disk: None, folder, listen, process: None }
    }

    /// The disk that its state is on, if that is one of its own.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// After [`Daemon::kill`]: a new process on the same state.
    #[track_caller]
    pub fn start_again(&mut self) {
        // Written by the daemon once it listens.
        let _ = std::fs::remove_file(self.state().join("listen.address"));
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("the daemon's log");
        let mut serve = self.serve_command();
        serve.stdin(Stdio::null()).stdout(log.try_clone().expect("the log twice")).stderr(log);
        self.process = Some(serve.spawn().expect("start sealtune serve"));
        let address = self.state().join("listen.address");
        until(SOON, "the daemon listens", || {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            address.exists().then_some(())
        });
        let address = std::fs::read_to_string(address).expect("the daemon's address");
        self.listen = address.trim().to_owned();
    }

    /// `sealtune serve` as this daemon was started.
    pub fn serve_command(&self) -> Command {
        let stage = &self.stage;
        let mut serve = Command::new(&stage.sealtune);
        serve.arg("serve").arg("--state-dir").arg(self.state()).arg("--socket").arg(self.socket());
        serve.args(["--listen", &self.listen, "--accelerator", "tcg"]);
        let layers = self.options.layers.as_ref().unwrap_or(&stage.layers);
        serve.arg("--image").arg(&stage.image).arg("--layers").arg(layers);
        serve.arg("--vsock-helper").arg(&stage.vsock_helper);
        serve.arg("--firmware").arg(&stage.firmware);
        serve.args(["--vcpus", &stage.vcpus.to_string()]);
        serve.args(["--memory-mib", &stage.memory_mib.to_string()]);
        serve.args(["--max-vms", &self.options.max_vms.to_string()]);
        serve.args(["--release-deadline", &self.options.release_deadline.to_string()]);
        serve.args(&self.options.more);
        serve
    }

    /// The same with other values for some of its options.
    pub fn serve_command_with(&self, words: &[&str]) -> Command {
        let usual = self.serve_command();
        let mut serve = Command::new(usual.get_program());
        let mut usual = usual.get_args();
        while let Some(word) = usual.next() {
            // Every option has one value, and may be given once.
            let is_option = word.to_string_lossy().starts_with("--");
            let value = if is_option { usual.next() } else { None };
            if !words.iter().any(|other| word == *other) {
                serve.arg(word).args(value);
            }
        }
        serve.args(words);
        serve
    }

    /// Everything of the host that this story has: state, sockets, logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The root certificate of its simulated platform.
    pub fn simulated_root(&self) -> PathBuf {
        self.state().join("simulated-root.der")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Where customers reach it.
    pub fn provider(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// A command of the operator.
    pub fn operator(&self, words: &[&str]) -> Answer {
        let mut command = Command::new(&self.stage.sealtune);
        tell(command.args(words).arg("--json").arg("--socket").arg(self.socket()))
    }

    /// SIGKILL, in whatever it is doing. Its VMs go on.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn vms(&self) -> Vec<Value> {
        let vms = self.operator(&["vm", "ls"]).json();
        vms.as_array().cloned().unwrap_or_default()
    }

    pub fn vm(&self, name: &str) -> Value {
        self.operator(&["vm", "show", name]).json()
    }

    /// The VM when it is in one of `states`.
    #[track_caller]
    pub fn vm_becomes(&self, name: &str, states: &[&str]) -> Value {
        until(BOOT, &format!("VM {name} becomes {states:?}"), || {
            let vm = self.vm(name);
            let state = vm["state"].as_str().unwrap_or_default();
            let is_over = matches!(state, "failed" | "stopped") && !states.contains(&state);
            assert!(!is_over, "{vm}\n{}\n{}", self.console(name), self.log());
            states.contains(&state).then_some(vm)
        })
    }

    pub fn console(&self, name: &str) -> String {
        let console = self.operator(&["vm", "logs", name]);
        if console.exit == 0 {
            console.json()["log"].as_str().unwrap_or_default().to_owned()
        } else {
            String::new()
        }
    }

    pub fn job(&self, job: &str) -> Value {
        self.operator(&["job", "show", job]).json()
    }

    /// Kills the QEMU of every VM that runs; says how many there were.
    pub fn kill_qemu(&self) -> usize {
        let machines = self.qemu();
        machines.iter().for_each(VmProcess::kill);
        machines.len()
    }

    /// Whether a VM's `vhost-device-vsock` has panicked. 0.3 does when a connection is cut just before its answer, and
    /// then the VM is lost.
    pub fn has_lost_a_helper(&self) -> bool {
        let run = std::fs::read_dir(self.state().join("run"));
        let logs = run.into_iter().flatten().flatten().map(|vm| vm.path().join("vsock.log"));
        let texts = logs.map(|log| std::fs::read_to_string(log).unwrap_or_default());
        texts.into_iter().any(|text| text.contains("panicked"))
    }

    /// Pids of the machines that run.
    pub fn qemu_pids(&self) -> Vec<i32> {
        self.qemu().iter().map(|process| process.pid).collect()
    }

    fn qemu(&self) -> Vec<VmProcess> {
        let all = processes::of_directory(self.folder.path());
        all.into_iter().filter(VmProcess::is_qemu).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("the daemon's log ends so:\n{tail}");
            self.keep_consoles();
        }
        self.kill();
        // A story's directory is in no other process's command line.
        for process in processes::of_directory(self.folder.path()) {
            process.kill();
        }
    }
}

impl Daemon {
    /// The ends of what the VMs and their processes wrote, for whoever has to find out what went wrong.
    fn keep_consoles(&self) {
        let run = self.state().join("run");
        for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
            for name in ["console.log", "qemu.log", "vsock.log"] {
                let log = std::fs::read(entry.path().join(name)).unwrap_or_default();
                let text = String::from_utf8_lossy(&log);
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
                eprintln!(
                    "{name} of {} ends so:\n{}",
                    entry.file_name().to_string_lossy(),
                    tail.join("\n")
                );
            }
        }
    }
}
