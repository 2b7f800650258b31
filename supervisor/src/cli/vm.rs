use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Output, output::table, session::SocketOption};
use crate::{
    api::types::{VmRequest, VmView},
    client::{CliError, printable, shown_time},
};

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// List VMs
    Ls(LsArgs),
    /// Show one VM
    Show(OneArgs),
    /// Start a VM without a job, for a look
    Start(StartArgs),
    /// Stop a VM in order
    Stop(OneArgs),
    /// Show a VM's console
    Logs(LogsArgs),
    /// Forget a stopped VM
    Rm(OneArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune vm ls
  sealtune vm ls --json | jq '.[] | select(.state == \"ready\")'")]
pub(crate) struct LsArgs {
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune vm show vm-3
  sealtune vm stop vm-3
  sealtune vm rm vm-3")]
pub(crate) struct OneArgs {
    /// The VM's name, as `vm ls` shows it
    #[arg(value_name = "VM")]
    vm: String,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune vm start
  sealtune vm start --vcpus 4 --memory-mib 8192")]
pub(crate) struct StartArgs {
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sealtune vm logs vm-3
  sealtune vm logs vm-3 --follow")]
pub(crate) struct LogsArgs {
    /// The VM's name, as `vm ls` shows it
    #[arg(value_name = "VM")]
    vm: String,
    /// Which log: what the guest prints, or what QEMU or the vsock device say
    #[arg(long, value_enum, default_value = "console", value_name = "LOG")]
    log: VmLog,
    /// Go on until the VM has stopped
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    socket: SocketOption,
}

#[derive(Debug, Serialize)]
struct Console<'c> {
    vm: &'c str,
    state: &'c str,
    log: &'c str,
}

#[derive(Debug, Serialize)]
struct Removed<'c> {
    vm: &'c str,
    removed: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum VmLog {
    Console,
    Qemu,
    Vsock,
}

impl VmLog {
    fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Qemu => "qemu",
            Self::Vsock => "vsock",
        }
    }
}

pub(crate) async fn run(command: VmCommand, output: &Output) -> Result<(), CliError> {
    match command {
        VmCommand::Ls(args) => {
            let vms = args.socket.connect()?.vms().await?;
            output.answer(&vms, || list(&vms))
        }
        VmCommand::Show(args) => {
            let vm = args.socket.connect()?.vm(&segment(&args.vm)).await?;
            output.answer(&vm, || describe(&vm))
        }
        VmCommand::Start(args) => {
            let request = VmRequest { vcpus: args.vcpus, memory_mib: args.memory_mib };
            let vm = args.socket.connect()?.vm_start(&request).await?;
            output.answer(&vm, || describe(&vm))
        }
        VmCommand::Stop(args) => {
            let vm = args.socket.connect()?.vm_stop(&segment(&args.vm)).await?;
            output.answer(&vm, || describe(&vm))
        }
        VmCommand::Rm(args) => {
            args.socket.connect()?.vm_remove(&segment(&args.vm)).await?;
            let removed = Removed { vm: &args.vm, removed: true };
            output.answer(&removed, || format!("{} removed", args.vm))
        }
        VmCommand::Logs(args) => logs(args, output).await,
    }
}

async fn logs(args: LogsArgs, output: &Output) -> Result<(), CliError> {
    let connection = args.socket.connect()?;
    let vm = segment(&args.vm);
    let mut shown = String::new();
    let state = loop {
        // Asked before the log is read: what was said before the end is then in it.
        let state = connection.vm(&vm).await?.state;
        let log = connection.vm_console(&vm, args.log.name()).await?;
        output.stream(&printable(news(&shown, &log)));
        shown = log;
        if !args.follow || matches!(state.as_str(), "stopped" | "failed") {
            break state;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    if output.is_json() {
        let console = Console { vm: &args.vm, state: &state, log: &shown };
        return output.answer(&console, String::new);
    }
    Ok(())
}

/// What `now` has behind `before`; the provider shows the end of a long log, which moves.
fn news<'n>(before: &str, now: &'n str) -> &'n str {
    if let Some(rest) = now.strip_prefix(before) {
        return rest;
    }
    let tail: String =
        before.chars().rev().take(4096).collect::<Vec<_>>().into_iter().rev().collect();
    now.rfind(&tail).and_then(|at| now.get(at + tail.len()..)).unwrap_or(now)
}

/// A name as a path segment: what a name cannot hold is escaped, so that it stays one segment.
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn list(vms: &[VmView]) -> String {
    let rows: Vec<_> = vms
        .iter()
        .map(|vm| {
            [
                vm.vm.clone(),
                vm.state.clone(),
                vm.role.clone(),
                vm.job.map_or_else(|| "-".into(), |job| job.to_string()),
                format!("{}", vm.vcpus),
                format!("{} MiB", vm.memory_mib),
                vm.ready_ms.map_or_else(|| "-".into(), |ms| format!("{:.1} s", seconds(ms))),
                shown_time(vm.started),
            ]
        })
        .collect();
    table(["VM", "STATE", "ROLE", "JOB", "VCPUS", "MEMORY", "READY", "STARTED"], &rows)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn describe(vm: &VmView) -> String {
    let dash = || "-".to_owned();
    let mut lines = vec![
        format!("vm           {}", vm.vm),
        format!("state        {}", vm.state),
        format!("role         {}", vm.role),
        format!("job          {}", vm.job.map_or_else(dash, |job| job.to_string())),
        format!("accelerator  {}", vm.accelerator),
        format!("shape        {} vCPUs, {} MiB", vm.vcpus, vm.memory_mib),
        format!("cid          {}", vm.cid),
        format!("pid          {}", vm.pid.map_or_else(dash, |pid| pid.to_string())),
        format!("started      {}", shown_time(vm.started)),
        format!("ready        {}", vm.ready_ms.map_or_else(dash, |ms| format!("{ms} ms"))),
        format!("agent memory {}", vm.resident_kib.map_or_else(dash, |kib| format!("{kib} KiB"))),
        format!("kernel       {}", vm.kernel.clone().unwrap_or_else(dash)),
        format!("instance     {}", vm.instance.clone().unwrap_or_else(dash)),
        format!("rtmr3        {}", vm.rtmr3.clone().unwrap_or_else(dash)),
    ];
    if let Some(failure) = &vm.failure {
        lines.push(format!("failure      {failure}"));
    }
    printable(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_shown() {
        assert_eq!(news("", "ab"), "ab");
        assert_eq!(news("ab", "abc"), "c");
        assert_eq!(news("xab", "xabc"), "c");
        // The window moved: the beginning is gone.
        assert_eq!(news("ab", "zab and more"), " and more");
    }

    #[test]
    fn a_name_stays_one_path_segment() {
        assert_eq!(segment("vm-3"), "vm-3");
        assert_eq!(segment("../jobs?x"), "..%2Fjobs%3Fx");
    }
}
