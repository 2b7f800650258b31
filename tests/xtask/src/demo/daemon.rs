//! The provider's daemon, ended with its VMs when the demo ends, however it ends.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{SHAPE, Stage, answer};
use crate::{Outcome, Trouble, process};

const START: Duration = Duration::from_secs(60);
const BOOT: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(crate) struct Daemon {
    process: Child,
    sealtune: PathBuf,
    pub(crate) state: PathBuf,
    socket: PathBuf,
    pub(crate) provider: String,
}

impl Daemon {
    pub(crate) fn start(stage: &Stage, accelerator: &str) -> Outcome<Self> {
        let state = stage.folder.join("state");
        let socket = stage.folder.join("socket");
        let log_path = stage.folder.join("daemon.log");
        let failed = |error: std::io::Error| {
            Trouble::failed(format!("write {}: {error}", log_path.display()))
        };
        let log = File::create(&log_path).map_err(failed)?;
        let mut serve = Command::new(&stage.programs.sealtune);
        serve.arg("serve").arg("--state-dir").arg(&state).arg("--socket").arg(&socket);
        serve.args(["--listen", "127.0.0.1:0", "--image"]).arg(&stage.image);
        serve.arg("--layers").arg(&stage.layer.directory);
        serve.arg("--vsock-helper").arg(&stage.tools.vsock_helper);
        serve.args(["--accelerator", accelerator]);
        serve.arg("--firmware").arg(&stage.tools.firmware);
        serve.args(["--vcpus", &SHAPE.vcpus.to_string()]);
        serve.args(["--memory-mib", &SHAPE.memory_mib.to_string()]);
        let process = serve
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(|error| {
                Trouble::failed(format!("start `{}`: {error}", process::line(&serve)))
            })?;
        let sealtune = stage.programs.sealtune.clone();
        let mut daemon = Self { process, sealtune, state, socket, provider: String::new() };
        let address = daemon.state.join("listen.address");
        let found = until(START, || {
            if let Ok(Some(status)) = daemon.process.try_wait() {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(Trouble::failed(format!("keep the daemon up ({status}):\n{log}")));
            }
            Ok(std::fs::read_to_string(&address).ok())
        })?;
        daemon.provider = format!("http://{}", found.trim());
        eprintln!("   customers: {}, its log: {}", daemon.provider, log_path.display());
        Ok(daemon)
    }

    /// A command of the operator.
    pub(crate) fn operator(&self, words: &[&str]) -> Outcome<Value> {
        let mut command = Command::new(&self.sealtune);
        answer(command.args(words).arg("--json").arg("--socket").arg(&self.socket))
    }

    pub(crate) fn health(&self) -> Outcome<Value> {
        use std::io::{Read as _, Write as _};
        let failed = |error: std::io::Error| Trouble::failed(format!("ask the daemon: {error}"));
        let address = self.provider.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).map_err(failed)?;
        let request = "GET /v1/health HTTP/1.1\r\nhost: provider\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut text = String::new();
        stream.take(1 << 20).read_to_string(&mut text).map_err(failed)?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body)
            .map_err(|error| Trouble::failed(format!("read the daemon's health: {error}: {text}")))
    }

    /// Boots a VM without a job, waits until it is ready, stops it. Gives how it was when it was ready.
    pub(crate) fn boot_once(&self) -> Outcome<Value> {
        let started = self.operator(&["vm", "start"])?;
        let name = started["vm"].as_str().unwrap_or_default().to_owned();
        let is_over = |vm: &Value| matches!(vm["state"].as_str(), Some("stopped" | "failed"));
        let ready = until(BOOT, || {
            let vm = self.operator(&["vm", "show", &name])?;
            if is_over(&vm) {
                return Err(Trouble::failed(format!("boot a VM: {vm}")));
            }
            // Its memory is known with the first pong after it is ready.
            let is_ready = vm["state"] == "ready" && vm["resident_kib"].is_u64();
            Ok(is_ready.then_some(vm))
        })?;
        self.operator(&["vm", "stop", &name])?;
        until(BOOT, || Ok(is_over(&self.operator(&["vm", "show", &name])?).then_some(())))?;
        Ok(ready)
    }

    /// The VM that ran a job.
    pub(crate) fn vm_of(&self, job: &str) -> Outcome<Value> {
        let vms = self.operator(&["vm", "ls"])?;
        let found = vms.as_array().into_iter().flatten().find(|vm| vm["job"] == job);
        Ok(found.cloned().unwrap_or_default())
    }

    /// VMs outlive the daemon on purpose: they are told to stop first.
    fn end(&mut self) -> Outcome<()> {
        let vms = self.operator(&["vm", "ls"])?;
        for vm in vms.as_array().into_iter().flatten() {
            let is_up = !matches!(vm["state"].as_str(), Some("stopped" | "failed"));
            if let (true, Some(name)) = (is_up, vm["vm"].as_str()) {
                self.operator(&["vm", "stop", name])?;
            }
        }
        until(BOOT, || {
            let vms = self.operator(&["vm", "ls"])?;
            let all_over = vms
                .as_array()
                .into_iter()
                .flatten()
                .all(|vm| matches!(vm["state"].as_str(), Some("stopped" | "failed")));
            Ok(all_over.then_some(()))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None))
            && let Err(trouble) = self.end()
        {
            eprintln!("   could not {}", trouble.text());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        kill_what_names(&self.state.display().to_string());
    }
}

/// Whatever is left of VMs: their command lines name the state directory, which is this demo's alone.
fn kill_what_names(state: &str) {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words);
        let program = line.split('\0').next().unwrap_or_default();
        let is_vm = program.contains("qemu-system") || program.contains("vhost-device-vsock");
        if is_vm && line.contains(state) && name.bytes().all(|byte| byte.is_ascii_digit()) {
            eprintln!("   ending process {name}, which was left of a VM");
            process::succeeds(Command::new("kill").args(["-KILL", &name]));
        }
    }
}

/// Asks again until there is an answer or the time is over.
fn until<T>(time: Duration, mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let (_never, pause) = mpsc::channel::<()>();
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > time {
            return Err(Trouble::failed(format!("see it happen within {} s", time.as_secs())));
        }
        // Nothing is ever sent: this only waits.
        let _ = pause.recv_timeout(Duration::from_millis(200));
    }
}
