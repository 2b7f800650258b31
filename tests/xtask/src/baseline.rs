//! The boot that ours is measured against: same QEMU, same kernel, same command line, an initramfs whose process 1 does
//! nothing but say that it is up.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    Outcome, Trouble,
    artefacts::{Shape, text},
    process,
    setup::{MUSL, VmTools},
    workspace::{Workspace, make_directory, read_json, write},
};

const MARKER: &str = "sealtune-baseline-is-up";
const LONGEST_BOOT: Duration = Duration::from_secs(120);
/// Under KVM it takes a second, or never ends.
const LONGEST_BOOT_UNDER_KVM: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Baseline {
    initramfs: PathBuf,
    kernel: PathBuf,
    command_line: String,
}

pub(crate) fn build(workspace: &Workspace, image: &Path) -> Outcome<Baseline> {
    let folder = workspace.made("baseline");
    make_directory(&folder)?;
    let init = folder.join("init");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--target", MUSL, "-C", "opt-level=2", "-C", "panic=abort"]);
    rustc.args(["-C", "strip=symbols", "-o"]).arg(&init);
    process::run(rustc.arg(workspace.root.join("tests/xtask/baseline/init.rs")))?;
    let program = std::fs::read(&init)
        .map_err(|error| Trouble::failed(format!("read {}: {error}", init.display())))?;
    let initramfs = folder.join("initramfs.cpio");
    write(&initramfs, archive(&program))?;
    let metadata = read_json(&image.join("metadata.json"))?;
    Ok(Baseline {
        initramfs,
        kernel: image.join(text(&metadata, "kernel")?),
        command_line: text(&metadata, "cmdline")?.to_owned(),
    })
}

/// Milliseconds from the start of QEMU to the marker on the console.
pub(crate) fn boot(baseline: &Baseline, tools: &VmTools, shape: Shape, kvm: bool) -> Outcome<u64> {
    let memory = format!("{}M", shape.memory_mib);
    let (accelerator, processor) = if kvm { ("kvm", "host") } else { ("tcg,thread=multi", "max") };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-no-user-config", "-nodefaults", "-nographic", "-no-reboot"]);
    qemu.args(["-accel", accelerator, "-cpu", processor]);
    qemu.args(["-machine", "q35,memory-backend=mem0,hpet=off", "-object"]);
    qemu.arg(format!("memory-backend-memfd,id=mem0,size={memory},share=on"));
    qemu.args(["-smp", &shape.vcpus.to_string(), "-m", &memory, "-serial", "stdio"]);
    qemu.arg("-bios").arg(&tools.firmware).arg("-kernel").arg(&baseline.kernel);
    qemu.arg("-initrd").arg(&baseline.initramfs).args(["-append", &baseline.command_line]);
    let start = Instant::now();
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.map_err(|error| Trouble::failed(format!("start QEMU: {error}")))?;
    let mut machine = Machine(child);
    let longest = if kvm { LONGEST_BOOT_UNDER_KVM } else { LONGEST_BOOT };
    let time = machine.wait_for_marker(start, longest)?;
    Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Ended when dropped.
struct Machine(Child);

impl Machine {
    fn wait_for_marker(&mut self, start: Instant, longest: Duration) -> Outcome<Duration> {
        let console = self.0.stdout.take().ok_or_else(|| Trouble::failed("read the console"))?;
        let (up, is_up) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if String::from_utf8_lossy(&line).contains(MARKER) {
                    // Nobody waits any more: fine.
                    let _ = up.send(start.elapsed());
                }
            }
        });
        is_up
            .recv_timeout(longest)
            .map_err(|_| Trouble::failed("boot the baseline: it did not come up"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An initramfs (cpio "newc") of a console and an init.
fn archive(init: &[u8]) -> Vec<u8> {
    const DIRECTORY: u32 = 0o040_755;
    const CONSOLE: u32 = 0o020_600;
    const PROGRAM: u32 = 0o100_755;
    let mut archive = Vec::new();
    entry(&mut archive, "dev", DIRECTORY, (0, 0), &[]);
    entry(&mut archive, "dev/console", CONSOLE, (5, 1), &[]);
    entry(&mut archive, "init", PROGRAM, (0, 0), init);
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let number = archive.len();
    let (size, name_size) = (data.len(), name.len() + 1);
    let header = format!(
        "070701{number:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
        0, 0, 1, 0, 0, 0, device.0, device.1, 0
    );
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(data);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_headers_have_their_size_and_everything_is_padded() {
        let archive = archive(b"12345");
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.starts_with(b"070701"));
        let name = archive.windows(4).position(|bytes| bytes == b"init").unwrap();
        assert_eq!(&archive[name - 110..name - 104], b"070701");
        assert_eq!(&archive[name + 6..name + 11], b"12345");
    }
}
